"""An actor's handler times, how many messages it may therefore handle in a row, and its backlog.

Time is read once for all messages that an actor handles in a row (a batch), not once for each,
which would add a fifth to their cost. To be exact all the same, the batches of a new or slow actor
are one message long and double while it is quick: a batch that takes long is nearly always a single
message.
"""

from __future__ import annotations

from dataclasses import dataclass

from exai_actors.runtime.kernel import handler_times

# The number of messages handled one at a time after a slow one, so that the next report is exact.
_PROBATION = 64
# Messages that are not timed at first, and of those the number of which all are, and then one of
# so many: no period of an actor's messages should hide some of them.
_UNTIMED, _ALL_TIMED, _TIMED_EVERY = 8, 128, 13


@dataclass(frozen=True, slots=True)
class Pace:
    """The bounds of batches and turns."""

    batch_messages: int = 64
    """The most messages one actor handles in a row."""
    turn_batches: int = 1024
    turn_seconds: float = 0.002
    """The loop returns to its other work after so many batches or seconds."""
    longest_turn_seconds: float = 0.02
    """The same if the other work took that long and actors had to wait for it."""
    slow_handler_s: float = 0.05
    """A handler that takes longer is reported."""


DEFAULT_PACE = Pace()


class Workload:
    """The account of one incarnation. Times in seconds."""

    __slots__ = (
        "age_sample_end",
        "age_sample_since",
        "busy_s",
        "max_busy_s",
        "probation_end",
        "processed",
        "quota",
        "slow_threshold_s",
        "timed_from",
        "times",
        "waiting_since",
    )

    def __init__(self) -> None:
        self.processed = 0
        self.busy_s = 0.0
        self.max_busy_s = 0.0
        self.slow_threshold_s = 0.0
        """Below this, a batch is neither the slowest so far nor slow for any actor."""
        self.quota = 1
        self.probation_end = 0
        self.waiting_since = 0.0
        """The oldest waiting message arrived at this time or later."""
        self.age_sample_since = 0.0
        self.age_sample_end = 0
        self.timed_from = _UNTIMED
        """A batch is timed that ends after so many messages."""
        self.times: bytearray | None = None
        """See ``handler_times``; most idle actors never have any."""

    def note_time(self, seconds: float, messages: int) -> None:
        """Time a batch of ``messages``, the last of which made ``processed`` reach
        ``timed_from``.
        """
        self.timed_from = self.processed + (1 if self.processed < _ALL_TIMED else _TIMED_EVERY)
        if self.times is None:
            self.times = bytearray(handler_times.BUCKETS)
        handler_times.note(self.times, seconds / messages)

    def note_slow(self, seconds: float, messages: int, pace: Pace) -> bool:
        """Account for a batch above ``slow_threshold_s``; return whether it is to be reported."""
        # Of several messages one took at least the mean: never claim more than is known.
        self.max_busy_s = max(self.max_busy_s, seconds / max(1, messages))
        self.slow_threshold_s = min(self.max_busy_s, pace.turn_seconds, pace.slow_handler_s)
        if seconds > pace.turn_seconds:
            self.quota = 1
        if seconds <= pace.slow_handler_s:
            return False
        self.probation_end = self.processed + _PROBATION
        return True

    def note_backlog(
        self, waiting: int, now: float, seconds: float, handled: int, pace: Pace
    ) -> None:
        """Account for a batch that left ``waiting`` messages behind.

        Grows the quota of a quick actor, and samples the age of the backlog: a sample ends when all
        messages that waited at its beginning are handled; those that wait then have come since.
        """
        is_quick = seconds <= pace.turn_seconds and self.processed >= self.probation_end
        if is_quick and handled == self.quota:
            self.quota = min(2 * self.quota, pace.batch_messages)
        is_first_sample = self.age_sample_since < self.waiting_since
        if is_first_sample or self.processed >= self.age_sample_end:
            if not is_first_sample:
                self.waiting_since = self.age_sample_since
            self.age_sample_since = now
            self.age_sample_end = self.processed + waiting
