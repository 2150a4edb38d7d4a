"""How one request in flight wants to be answered on its connection."""

from __future__ import annotations

from collections.abc import Iterator

from exai_actors.wire.frames import ReplyTo


class Pending:
    """``also`` holds further frames with the same id, which get the same outcome."""

    __slots__ = ("also", "chunks", "estimate_s", "fingerprint", "position", "reply", "stream", "tool")

    def __init__(self, reply: ReplyTo, tool: str, fingerprint: int, stream: bool) -> None:
        self.reply = reply
        self.tool = tool
        self.fingerprint = fingerprint
        self.stream = stream
        self.chunks = 0
        self.position: int | None = None
        self.estimate_s: float | None = None
        self.also: list[ReplyTo] = []

    def replies(self) -> Iterator[ReplyTo]:
        yield self.reply
        yield from self.also
