"""Times and failures of the calls of one provider."""

from __future__ import annotations

from collections import Counter

from exai_actors.core.calls import FailureKind
from exai_actors.core.observe.histogram import Histogram


class CallFigures:
    """``waits`` are the seconds from the arrival of a call to its first permit, ``services`` those
    that attempts held their permits, and ``first_pieces`` those from the permit to the first piece
    of a streamed answer. ``failures`` counts failed attempts by kind, ``refusals`` refused calls by
    cause.
    """

    __slots__ = ("failures", "first_pieces", "refusals", "services", "waits")

    def __init__(self) -> None:
        self.waits = Histogram()
        self.services = Histogram()
        self.first_pieces = Histogram()
        self.failures: Counter[FailureKind] = Counter()
        self.refusals: Counter[str] = Counter()
