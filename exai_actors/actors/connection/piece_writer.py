"""The last part of the way of pieces: from a session's pipe to the outbox of a client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exai_actors.core.pieces import HELD_BACK_CHARS
from exai_actors.ids import ConnectionId, RequestKey
from exai_actors.messages.session_requests import ReaderFull, ReaderReady, SessionRequest

if TYPE_CHECKING:
    from exai_actors.messages.recipient import Recipient
    from exai_actors.ports import Outbox
    from exai_actors.wire.clients.encode import PieceFrame


HELD_BACK_RUNS = 1000
"""How many runs of pieces may be held back: each becomes a frame."""


class Outlet:
    """What the writers of one connection share. ``session`` is the one it belongs to now.

    ``streams`` is the number of its open writers.
    """

    __slots__ = ("connection_id", "outbox", "session", "streams")

    def __init__(self, connection_id: ConnectionId, outbox: Outbox) -> None:
        self.connection_id = connection_id
        self.outbox = outbox
        self.session: Recipient[SessionRequest] | None = None
        self.streams = 0


class PieceWriter:
    """Implements ``PieceSink``: writes the pieces of one call to its client, each as a frame.

    Pieces of reasoning have frames of another kind, or none. While the client's outbox is above its
    high mark, the pieces are held back, and then those that follow each other are sent as one. With
    more than HELD_BACK_CHARS or HELD_BACK_RUNS held back the session is asked for a pause. ``sent``
    is the number of frames so far.
    """

    __slots__ = (
        "_frame",
        "_held",
        "_held_chars",
        "_is_full",
        "_outlet",
        "_reasoning_frame",
        "_request",
        "sent",
    )

    def __init__(
        self,
        outlet: Outlet,
        request: RequestKey,
        frame: PieceFrame,
        reasoning_frame: PieceFrame | None = None,
    ) -> None:
        self._outlet: Outlet | None = outlet
        outlet.streams += 1
        self._request = request
        self._frame = frame
        self._reasoning_frame = reasoning_frame
        # Runs of pieces of one kind.
        self._held: list[tuple[PieceFrame, list[str]]] = []
        self._held_chars = 0
        self._is_full = False
        self.sent = 0

    def write(self, text: str, /) -> None:
        outlet = self._outlet
        if outlet is None:
            return
        if self._held or outlet.outbox.is_above_high_mark:
            self._hold(outlet, self._frame, text)
        else:
            sequence = self.sent
            self.sent = sequence + 1
            frame = self._frame(sequence, text)
            if outlet.streams == 1:
                outlet.outbox.send_now(frame)
            else:
                # Pieces of others may come in this turn; one write takes less than several.
                outlet.outbox.send(frame)

    def write_reasoning(self, text: str, /) -> bool:
        frame, outlet = self._reasoning_frame, self._outlet
        if frame is None:
            return False
        if outlet is None:
            return True
        if self._held or outlet.outbox.is_above_high_mark:
            self._hold(outlet, frame, text)
        else:
            outlet.outbox.send(frame(self.sent, text))
            self.sent += 1
        return True

    def release(self) -> None:
        """Send the text that was held back; the outbox has room again."""
        outlet = self._outlet
        if outlet is None or not self._held:
            return
        held = self._held
        self._forget(outlet)
        for frame, pieces in held:
            outlet.outbox.send(frame(self.sent, "".join(pieces)))
            self.sent += 1
        if self._is_full:
            self._is_full = False
            if outlet.session is not None:
                outlet.session.tell(ReaderReady(self._request, outlet.connection_id))

    def close(self) -> None:
        """Take no more pieces, and drop those that are held back."""
        if self._outlet is not None:
            self._forget(self._outlet)
            self._outlet.streams -= 1
            self._outlet = None

    def _hold(self, outlet: Outlet, frame: PieceFrame, text: str) -> None:
        if self._held and self._held[-1][0] is frame:
            self._held[-1][1].append(text)
        else:
            self._held.append((frame, [text]))
        self._held_chars += len(text)
        outlet.outbox.held_back += len(text)
        is_full = self._held_chars > HELD_BACK_CHARS or len(self._held) > HELD_BACK_RUNS
        if is_full and not self._is_full:
            self._is_full = True
            if outlet.session is not None:
                outlet.session.tell(ReaderFull(self._request, outlet.connection_id))

    def _forget(self, outlet: Outlet) -> None:
        outlet.outbox.held_back -= self._held_chars
        self._held_chars = 0
        self._held = []
