"""A relayed response on its way into frames: its bytes as text."""

from __future__ import annotations

from codecs import getincrementaldecoder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exai_actors.core.pieces import PieceSink

_decoder = getincrementaldecoder("utf-8")


class RelayedText:
    """Implements ``core.relay.RelayReader``: writes the body to ``sink``, or keeps it without one.

    A character that is cut waits for its rest; bytes that are no UTF-8 become U+FFFD.
    """

    __slots__ = ("_decoder", "_kept", "_sink", "has_begun")

    def __init__(self, sink: PieceSink | None) -> None:
        self._sink = sink
        self._decoder = _decoder("replace")
        self._kept: list[str] = []
        self.has_begun = False

    def head(self, *_: object) -> None:
        self.has_begun = True

    def data(self, data: bytes, /) -> None:
        text = self._decoder.decode(data)
        if not text:
            return
        if self._sink is None:
            self._kept.append(text)
        else:
            self._sink.write(text)

    def take(self) -> str:
        """The text that was kept; empty if it went to the sink."""
        kept, self._kept = self._kept, []
        return "".join(kept)
