"""Where the tables of a console come from: a running broker or a recording."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from exai_actors.client.console import WatchedTable


class Window(msgspec.Struct, frozen=True):
    """The rows that a console wants to see of a table."""

    filter: str = ""
    sort: str = ""
    skip: int = 0
    limit: int = 200
    every_s: float = 1.0


class SeenTable(WatchedTable):
    """A table with the rows of one window; ``time`` is that of its latest frame."""

    def __init__(self, columns: list[dict[str, str]], window: Window) -> None:
        super().__init__(columns)
        self.window = window
        self.time = 0.0

    def apply(self, frame: dict[str, Any]) -> None:
        super().apply(frame)
        self.time = frame["time"]


class Listener(Protocol):
    """The console as its source sees it. All calls come on the loop's thread."""

    def connected(self) -> None:
        """The greeting is there, and tables follow."""

    def lost(self, why: str) -> None:
        """The broker is gone; the source tries again every few seconds."""

    def changed(self, table: str) -> None:
        """A table has new rows."""

    def refused(self, table: str, why: str) -> None:
        """The broker cannot answer the query of a table."""


class Source(Protocol):
    """``tables`` are the watched tables as they are now, by name."""

    greeting: dict[str, Any]
    tables: dict[str, SeenTable]

    def watch(self, table: str, window: Window) -> None:
        """Watch a table from now on, or another window of it."""

    def unwatch(self, table: str) -> None:
        """Watch it no more; its rows stay as they are."""

    async def ask(self, question: str, of: str = "") -> dict[str, Any]:
        """Raises UsageError with the reason if there is no answer."""

    async def act(self, action: dict[str, Any]) -> dict[str, Any]:
        """The effects of an action. Raises UsageError with the reason if it was refused."""

    async def run(self, listener: Listener) -> None:
        """Feed the listener until cancelled."""
