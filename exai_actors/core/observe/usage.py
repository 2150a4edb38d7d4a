"""The users of an account: their calls and LLM tokens of the last hour and the last day.

Counted in slices of five minutes: the last hour is 55 to 60 minutes, the last day 23 to 24 hours.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass

from exai_actors.ids import SessionId, TenantName

SLICE_S = 300.0
SLICES_OF_AN_HOUR = 12
HOURS_OF_A_DAY = 24
MAX_USERS = 500
"""Users of one slice with entries of their own; further sessions of a tenant share one by model."""
MAX_ENTRIES = 2 * MAX_USERS
"""Beyond that, all further use of a tenant shares one without a model: clients choose models."""

User = tuple[TenantName, SessionId, str]
"""A tenant, its session, and the model that it used."""


@dataclass(slots=True)
class Used:
    """What one user has used within some time; that of a slice counts calls that end before
    ``until``.
    """

    calls: int = 0
    tokens: float = 0.0
    until: float = 0.0

    def add(self, other: Used) -> None:
        self.calls += other.calls
        self.tokens += other.tokens


Slice = dict[User, Used]


class UsageBook:
    """The usage of one account. Instants are seconds of the driver's clock."""

    __slots__ = ("_ends", "_hours", "_present", "_slices", "_until_hour")

    def __init__(self) -> None:
        self._present: Slice = {}
        self._ends = 0.0
        # The complete slices of the last hour, and the hours before, the latest first.
        self._slices: deque[Slice] = deque()
        self._hours: deque[Slice] = deque(maxlen=HOURS_OF_A_DAY - 1)
        self._until_hour = 0

    def note(self, user: User, tokens: float, now: float) -> None:
        """Count a call that has ended."""
        used = self.present(user, now)
        used.calls += 1
        used.tokens += tokens

    def present(self, user: User, now: float) -> Used:
        """The entry that counts the calls of this user now, and until the end of its slice."""
        if now >= self._ends:
            self._turn(now)
        used = self._present.get(user)
        if used is None:
            used = _entry(self._present, user)
            used.until = self._ends
        return used

    def users(self, now: float) -> Iterator[tuple[User, Used, Used]]:
        """Each user with its usage of the last hour and of the last day."""
        self._turn(now)
        hour = _sum([self._present, *self._slices])
        day = _sum([hour, *self._hours])
        for user, used in day.items():
            yield user, hour.get(user) or Used(), used

    def recent_tokens(self, now: float) -> Counter[TenantName]:
        """The tokens of each tenant in this slice and the one before."""
        self._turn(now)
        tokens: Counter[TenantName] = Counter()
        for present in [self._present, *list(self._slices)[:1]]:
            for (tenant, _, _), used in present.items():
                tokens[tenant] += round(used.tokens)
        return tokens

    def _turn(self, now: float) -> None:
        """Begin new slices until the present one is that of ``now``."""
        if not self._ends or now - self._ends >= SLICE_S * SLICES_OF_AN_HOUR * HOURS_OF_A_DAY:
            self._slices.clear()
            self._hours.clear()
            self._present = {}
            self._ends = now + SLICE_S
        while now >= self._ends:
            self._ends += SLICE_S
            self._slices.appendleft(self._present)
            self._present = {}
            if len(self._slices) == SLICES_OF_AN_HOUR:
                self._move_to_hours(self._slices.pop())

    def _move_to_hours(self, oldest: Slice) -> None:
        if self._until_hour == 0 or not self._hours:
            self._hours.appendleft({})
            self._until_hour = SLICES_OF_AN_HOUR
        self._until_hour -= 1
        hour = self._hours[0]
        for user, used in oldest.items():
            _entry(hour, user).add(used)


def _entry(slice_: Slice, user: User) -> Used:
    """The entry that counts for this user, a new one if it has none."""
    tenant, _, model = user
    if user not in slice_ and len(slice_) >= MAX_USERS:
        user = tenant, SessionId(""), model
    if user not in slice_ and len(slice_) >= MAX_ENTRIES:
        user = tenant, SessionId(""), ""
    return slice_.setdefault(user, Used())


def _sum(slices: list[Slice]) -> Slice:
    sums: defaultdict[User, Used] = defaultdict(Used)
    for each in slices:
        for user, used in each.items():
            sums[user].add(used)
    return sums
