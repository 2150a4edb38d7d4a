"""The library's sans-IO protocol, with whole messages as its events.

All uses of ``websockets`` beyond its documentation are here: ``recv_frame``, ``events``,
``max_message_size``, ``parser``, ``reader`` and ``StreamReader.at_eof``.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from types import GeneratorType
from typing import cast

from websockets.frames import BINARY, CONT, TEXT, Frame
from websockets.http11 import Request, Response
from websockets.protocol import CONNECTING, OPEN
from websockets.server import ServerProtocol
from websockets.streams import StreamReader
from websockets.typing import Subprotocol

from exai_actors.wire.clients.close_reasons import CloseReason

# Below this level the library logs headers and frames, and so tokens and prompts.
_library_log = logging.getLogger("exai_actors.edges.websockets")
_library_log.setLevel(logging.WARNING)

# Bounds the memory of a client before its first message, which names its session and token. A
# hello has a lower limit, and exceeding it is answered.
FIRST_MESSAGE_BYTES = 80 * 1024
# The library would take 128 lines of 8 KiB from anyone.
MAX_HEADER_BYTES = 16 * 1024
# A frame takes the library 6 µs or more, whatever its size. 64 KiB of empty ones are 11,000.
FRAMES_PER_TURN = 64
# Before it is admitted a client needs none, or a ping to see that the broker is alive.
STRANGERS_CONTROL_FRAMES = 8
# A hello may come in fragments.
STRANGERS_FRAMES = 128

_MCP = Subprotocol("mcp")


def first_message_bytes(max_message_bytes: int) -> int:
    """The limit of a client's first message."""
    return min(FIRST_MESSAGE_BYTES, max_message_bytes)


class _TurnReader(StreamReader):
    """Lets the library's parser begin only as many frames as ``frames_left``."""

    def __init__(self) -> None:
        super().__init__()
        self.frames_left = 0

    def at_eof(self) -> Generator[None, None, bool]:
        while True:
            if self.buffer:
                if self.frames_left > 0:
                    self.frames_left -= 1
                    return False
            elif self.eof:
                return True
            yield


_BETWEEN_FRAMES = _TurnReader.at_eof.__code__


class MessageProtocol(ServerProtocol):
    """A ``ServerProtocol`` with whole messages as its data events, text checked to be UTF-8.

    Limits, control frames, handshake and closing are the library's. Text that is not UTF-8 raises
    in its parser and ends the connection with 1007, like other faults of framing. The first message
    has at most ``FIRST_MESSAGE_BYTES``, each later one ``max_message_bytes``.

    Each call of ``receive_data`` parses at most ``FRAMES_PER_TURN`` frames. While ``has_more``,
    call it again with nothing, in a later turn of the loop.

    Until ``admit`` is called, more than ``STRANGERS_FRAMES`` frames, or so many control frames, end
    the connection with 1008.
    """

    # In the dictionary, the attributes would be more than CPython lets instances share the keys of,
    # and each connection would take 1.5 KiB more.
    __slots__ = (
        "_fragments",
        "_had_message",
        "_header_bytes_left",
        "_max_message_bytes",
        "_strangers_frames",
        "_turn",
    )

    def __init__(
        self, max_message_bytes: int, *, is_open: bool = False, had_message: bool = False
    ) -> None:
        """``is_open``: the handshake was made elsewhere, and so perhaps was the first message."""
        super().__init__(
            state=OPEN if is_open else CONNECTING,
            max_size=max_message_bytes if had_message else first_message_bytes(max_message_bytes),
            logger=_library_log,
        )
        self._max_message_bytes = max_message_bytes
        self._had_message = had_message
        self._fragments: tuple[bytearray, bool] | None = None
        self._header_bytes_left = MAX_HEADER_BYTES
        self._strangers_frames: list[int] | None = [STRANGERS_CONTROL_FRAMES, STRANGERS_FRAMES]
        # The parser has started with the library's reader.
        self.reader = self._turn = _TurnReader()
        self.parser = self.parse()
        next(self.parser)

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        """Choose ``mcp`` if offered: browsers and Node fail if their whole offer is ignored."""
        return _MCP if _MCP in subprotocols else None

    def receive_header(self, data: bytes) -> bytes:
        """Receive ``data`` before the handshake; return the rest, for ``receive_data`` after it.

        Frames behind the header are not parsed: the library would answer them before the handshake.
        A header of more than ``MAX_HEADER_BYTES`` is refused with 431.
        """
        taken = data[: self._header_bytes_left]
        self._header_bytes_left -= len(taken)
        super().receive_data(taken)
        if self._header_bytes_left == 0 and not self.events and not self.eof_sent:
            text = f"The header of the handshake has more than {MAX_HEADER_BYTES} bytes.\n"
            self.send_response(self.reject(431, text))
        return data[len(taken) :]

    def receive_data(self, data: bytes | bytearray) -> None:
        self._turn.frames_left = FRAMES_PER_TURN
        super().receive_data(data)

    def receive_eof(self) -> None:
        self.reader.discard()
        super().receive_eof()

    def keep(self, data: bytes) -> None:
        """Receive ``data`` with the next call of ``receive_data``."""
        if not self._turn.eof:
            self._turn.feed_data(data)

    @property
    def has_more(self) -> bool:
        """Whether received bytes wait for the next turn."""
        return self._turn.frames_left == 0 and bool(self._turn.buffer)

    def admit(self) -> None:
        """The client is no longer a stranger."""
        self._strangers_frames = None

    def accept(self, request: Request) -> Response:
        response = super().accept(request)
        self._forget_traceback()
        return response

    def recv_frame(self, frame: Frame) -> None:
        if self._strangers_frames is not None:
            is_data = frame.opcode is TEXT or frame.opcode is BINARY or frame.opcode is CONT
            self._strangers_frames[is_data] -= 1
            if self._strangers_frames[is_data] < 0 and self.state is OPEN:
                self.fail(CloseReason.TOO_EAGER.code, CloseReason.TOO_EAGER.reason)
                return
        super().recv_frame(frame)
        if frame.opcode is TEXT or frame.opcode is BINARY or frame.opcode is CONT:
            self.events.pop()
            message = self._assemble(frame)
            if message is not None:
                self.events.append(message)
                self._had_message = True
                self.max_message_size = self._max_message_bytes

    def _assemble(self, frame: Frame) -> Frame | None:
        if frame.opcode is not CONT:
            payload, is_text = bytes(frame.data), frame.opcode is TEXT
            if not frame.fin:
                self._fragments = bytearray(payload), is_text
                return None
        else:
            # The library has checked that a message is in progress.
            joined, is_text = cast(tuple[bytearray, bool], self._fragments)
            joined += frame.data
            if not frame.fin:
                return None
            self._fragments = None
            payload = bytes(joined)
        if is_text and not payload.isascii():
            payload.decode()
        return Frame(TEXT if is_text else BINARY, payload)

    def release(self) -> None:
        """Break the reference cycles with the parser, after which nothing can be received.

        Otherwise they would keep the data of many short connections until the next collection.
        """
        self.parser.close()
        self.parser_exc = None
        self._forget_traceback()

    def _forget_traceback(self) -> None:
        """Let go of the frames in which the handshake failed: they hold this object and its data.

        The request holds the exception too, so it is not enough to drop it here.
        """
        failure: BaseException | None = self.handshake_exc
        self.handshake_exc = None
        while failure is not None:
            failure.__traceback__ = None
            failure = failure.__cause__ or failure.__context__

    def unfinished_bytes(self) -> int:
        """The size of the next message as far as it has arrived."""
        fragments = 0 if self._fragments is None else len(self._fragments[0])
        return len(self.reader.buffer) + fragments

    def is_between_messages(self) -> bool:
        """Whether the next byte starts a new message.

        False before the end of the first message, outside the open state, and with an extension.
        """
        if not self._had_message or self.state is not OPEN:
            return False
        if self._fragments is not None or self.extensions or self._turn.buffer:
            return False
        # The library does not tell, but its parser waits in at_eof() only between frames. If that
        # changes, the answer is False: slower, and still right.
        waiting_in: object = self.parser
        code = None
        while isinstance(waiting_in, GeneratorType):
            code, waiting_in = waiting_in.gi_code, waiting_in.gi_yieldfrom
        return code is _BETWEEN_FRAMES
