"""An outbox that keeps the sent frames, for tests of a connection actor."""

from __future__ import annotations

from typing import Any

import orjson


class OutboxProbe:
    """Implements ``ports.Outbox``. ``frames`` are the JSON objects sent, in order.

    ``bytes_taken`` returns ``taken``: increase it for a client that reads. ``handled`` counts the
    calls of ``read_on``, ``sent_now`` those of ``send_now``.
    """

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.is_admitted = False
        self.is_above_high_mark = False
        self.held_back = 0
        self.closed: tuple[int, str] | None = None
        self.aborts = 0
        self.taken = 0
        self.handled = 0
        self.sent_now = 0
        self._read = 0

    def admit(self) -> None:
        self.is_admitted = True

    def send(self, frame: bytes, /) -> None:
        if self.closed is None and not self.aborts:
            self.frames.append(orjson.loads(frame))

    def send_now(self, frame: bytes, /) -> None:
        self.sent_now += 1
        self.send(frame)

    def close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = (code, reason)

    def bytes_taken(self) -> int:
        return self.taken

    def read_on(self) -> None:
        self.handled += 1

    def abort(self) -> None:
        self.aborts += 1

    def take(self) -> list[dict[str, Any]]:
        """The frames since the last ``take``."""
        taken = self.frames[self._read :]
        self._read = len(self.frames)
        return taken

    def ops(self) -> list[str]:
        """As ``take``, but only the kind of each frame."""
        return [frame.get("op") or frame.get("method") or "result" for frame in self.take()]
