"""The library's sans-IO protocol, asked for whole messages and for where its parser stands."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import GeneratorType
from typing import cast

from websockets.frames import BINARY, CONT, TEXT, Frame
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.streams import StreamReader
from websockets.typing import Subprotocol

# Below this level the library logs headers and frames, and so tokens and prompts.
_library_log = logging.getLogger("exai_actors.edges.websockets")
_library_log.setLevel(logging.WARNING)

# What a stranger can make us keep before the first message, which says who it is. A hello has its
# own limit, far below, and an answer that says so.
FIRST_MESSAGE_BYTES = 1024 * 1024

_MCP = Subprotocol("mcp")
_BETWEEN_FRAMES = StreamReader.at_eof.__code__


class MessageProtocol(ServerProtocol):
    """``ServerProtocol`` whose data events are whole messages, text checked to be UTF-8.

    Limits, control frames, handshake and closing are the library's. Text that is not UTF-8 ends
    the connection with 1007 inside its parser, as any other fault of framing does. The first
    message has at most ``FIRST_MESSAGE_BYTES``, each later one ``max_message_bytes``.
    """

    def __init__(self, max_message_bytes: int) -> None:
        first = min(FIRST_MESSAGE_BYTES, max_message_bytes)
        super().__init__(max_size=first, logger=_library_log)
        self._max_message_bytes = max_message_bytes
        self._had_message = False
        self._fragments: tuple[bytearray, bool] | None = None

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        """``mcp`` if it is offered: browsers and Node fail when all they offer is ignored."""
        return _MCP if _MCP in subprotocols else None

    def recv_frame(self, frame: Frame) -> None:
        super().recv_frame(frame)
        if frame.opcode is TEXT or frame.opcode is BINARY or frame.opcode is CONT:
            self.events.pop()
            message = self._assembled(frame)
            if message is not None:
                self.events.append(message)
                self._had_message = True
                self.max_message_size = self._max_message_bytes

    def _assembled(self, frame: Frame) -> Frame | None:
        if frame.opcode is not CONT:
            payload, is_text = bytes(frame.data), frame.opcode is TEXT
            if not frame.fin:
                self._fragments = bytearray(payload), is_text
                return None
        else:
            # The library has checked that this continues something.
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
        """Let go of the parser, which refers to this: nothing is received any more.

        Without it the two keep each other, and everything received last, until the collector
        comes by, which for a broker of many short connections is late.
        """
        self.parser.close()
        self.parser_exc = None

    def is_between_messages(self) -> bool:
        """Whether the next byte begins a message and nothing of an earlier one is kept back.

        Also False up to the first message and after the open state, and when an extension was
        negotiated.
        """
        if not self._had_message or self._state is not OPEN:
            return False
        if self._fragments is not None or self.extensions:
            return False
        # The library offers no way to ask; its parser waits in at_eof() exactly between frames.
        waiting_in: object = self.parser
        code = None
        while isinstance(waiting_in, GeneratorType):
            code, waiting_in = waiting_in.gi_code, waiting_in.gi_yieldfrom
        return code is _BETWEEN_FRAMES
