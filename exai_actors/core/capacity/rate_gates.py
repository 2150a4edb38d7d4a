"""The limits of an account per minute and per day, exact over any window of that length.

Each gate keeps a log of its grants, so that a burst up to the limit passes and yet no window ever
holds more than the limit. A bucket that refills (GCRA) with a burst as large as the limit lets
nearly twice the limit into one window, and with a burst of one it lets no burst through at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from math import ceil

import msgspec

from exai_actors.core.capacity.settings import GateSettings

SLICES = 1000
"""A log that grows beyond this merges grants into slices, each expiring with its youngest one."""

TOLERANCE = 1e-9
"""The error that sums of floats may have."""


class GateStatistics(msgspec.Struct, frozen=True):
    """One rate gate: ``used`` of ``limit`` in the last ``length_s`` seconds.

    ``over`` is the part of ``used`` beyond the limit, when calls took more than estimated. A call
    of usual size passes in ``opens_in_s``.
    """

    name: str
    limit: int
    used: float
    length_s: float
    over: float
    opens_in_s: float = 0.0


class _Slice:
    """An amount charged within a short time, and when the last of it expires."""

    __slots__ = ("amount", "began", "expires_at")

    def __init__(self, began: float, expires_at: float, amount: float) -> None:
        self.began = began
        self.expires_at = expires_at
        self.amount = amount


class WindowGate:
    """At most ``limit`` in any window of ``length_s`` seconds."""

    __slots__ = ("_log", "_slice_s", "_used", "counts_tokens", "length_s", "limit", "name")

    def __init__(self, name: str, limit: int, length_s: float) -> None:
        self.name = name
        self.counts_tokens = name.startswith("tokens")
        self.limit = limit
        self.length_s = length_s
        self._slice_s = length_s / SLICES
        self._log: deque[_Slice] = deque()
        self._used = 0.0

    def opens_at(self, amount: float, now: float) -> float:
        """The earliest instant at which the amount fits; ``now`` if it does.

        An amount above the limit passes when the window is empty.
        """
        self._expire(now)
        room = self.limit - min(amount, self.limit)
        used = self._used
        if used <= room + TOLERANCE:
            return now
        for part in self._log:
            used -= part.amount
            if used <= room + TOLERANCE:
                return part.expires_at
        return self._log[-1].expires_at

    def charge(self, amount: float, now: float) -> _Slice:
        """Log the amount; returns the entry for ``settle``."""
        self._used += amount
        log = self._log
        in_slices = self.limit > SLICES or len(log) >= SLICES
        if in_slices and log and now - log[-1].began < self._slice_s:
            part = log[-1]
            part.amount += amount
            part.expires_at = now + self.length_s
        else:
            part = _Slice(now, now + self.length_s, amount)
            log.append(part)
        return part

    def settle(self, part: _Slice, difference: float, now: float) -> None:
        """Correct a charge by ``difference``, unless its window is over."""
        if part.expires_at > now:
            part.amount += difference
            self._used += difference

    @property
    def used(self) -> float:
        """The amount in the window at the last look."""
        return max(0.0, self._used)

    def statistics(self, usual: float, now: float) -> GateStatistics:
        """``usual`` is the amount of a usual call."""
        opens_in_s = self.opens_at(usual, now) - now
        used = max(0.0, self._used)
        over = max(0.0, used - self.limit)
        return GateStatistics(self.name, self.limit, used, self.length_s, over, opens_in_s)

    def wait_s(self, position: int, each: float, now: float) -> float:
        """Seconds until the call at ``position`` from 1 passes, if each call takes that amount."""
        need = position * min(each, self.limit)
        # Each time the limit has passed, the next call passes a window later.
        windows = max(0, ceil(need / self.limit) - 1)
        return self.opens_at(need - windows * self.limit, now) - now + windows * self.length_s

    def resize(self, limit: int) -> None:
        """Set the limit; the log counts against it."""
        self.limit = limit

    def _expire(self, now: float) -> None:
        log = self._log
        while log and log[0].expires_at <= now:
            self._used -= log.popleft().amount
        if not log:
            # Sums of floats do not return to zero by themselves.
            self._used = 0.0


class Charge(msgspec.Struct, gc=False, eq=False):
    """The charge of one grant: LLM tokens, and the entry at each gate."""

    tokens: float
    parts: tuple[tuple[WindowGate, _Slice], ...]


class RateGates:
    """All gates of an account: a call passes all of them or waits.

    In memory only: after a restart of the process the first window may be used twice.
    """

    __slots__ = ("_gates", "_margin_s", "_mean_tokens", "active")

    def __init__(self, settings: GateSettings) -> None:
        self._gates: dict[str, WindowGate] = {}
        self._mean_tokens = 0.0
        self.active = False
        self.change(settings)

    def opens_at(self, tokens: float, now: float) -> float:
        """The earliest instant at which a call of so many LLM tokens passes all gates."""
        return max(
            (gate.opens_at(amount, now) for gate, amount in self._amounts(tokens)), default=now
        )

    @property
    def usual_tokens(self) -> float:
        """The mean number of LLM tokens of recent calls."""
        return self._mean_tokens

    def shut(self, tokens: float, now: float) -> tuple[WindowGate, float] | None:
        """Of the gates without room for such a call the one that opens last, and when it does."""
        found = [(gate, gate.opens_at(amount, now)) for gate, amount in self._amounts(tokens)]
        last = max(found, key=lambda each: each[1], default=None)
        return last if last is not None and last[1] > now else None

    def charge(self, tokens: float, now: float) -> Charge | None:
        """Charge all gates; None without any. Raises RuntimeError when one of them is shut."""
        if self.opens_at(tokens, now) > now:
            raise RuntimeError("a request was granted through a closed rate gate")
        if not self._gates:
            return None
        self._mean_tokens += (0.125 if self._mean_tokens else 1.0) * (tokens - self._mean_tokens)
        parts = ((gate, gate.charge(amount, now)) for gate, amount in self._amounts(tokens))
        return Charge(tokens, tuple(parts))

    def settle(self, charge: Charge, tokens: float, now: float) -> None:
        """Correct the charge to the call's real LLM tokens, which may exceed the gate's limit."""
        for gate, part in charge.parts:
            if gate.counts_tokens:
                gate.settle(part, tokens - charge.tokens, now)
        charge.tokens = tokens

    def refund(self, charge: Charge, now: float) -> None:
        """Cancel the charge of a call that never reached the service."""
        for gate, part in charge.parts:
            gate.settle(part, -charge.tokens if gate.counts_tokens else -1, now)

    def wait_s(self, position: int, now: float) -> float:
        """Seconds until the call at ``position`` from 1, of usual size, has passed all gates."""
        return max(
            (
                gate.wait_s(position, amount, now)
                for gate, amount in self._amounts(self._mean_tokens)
            ),
            default=0.0,
        )

    def statistics(self, now: float) -> tuple[GateStatistics, ...]:
        amounts = self._amounts(self._mean_tokens)
        return tuple(gate.statistics(amount, now) for gate, amount in amounts)

    def with_limit(self, name: str, limit: int | None, now: float) -> GateSettings:
        """The present limits with another one for the gate ``name``."""
        limits: dict[str, int | None] = {each.name: each.limit for each in self.statistics(now)}
        return GateSettings(**{**limits, name: limit}, margin_s=self._margin_s)

    def change(self, settings: GateSettings) -> None:
        """Set other limits; earlier grants count against them."""
        self._margin_s = settings.margin_s
        for name, length_s in (
            ("requests_per_minute", 60.0),
            ("tokens_per_minute", 60.0),
            ("requests_per_day", 86_400.0),
            ("tokens_per_day", 86_400.0),
        ):
            limit: int | None = getattr(settings, name)
            gate = self._gates.get(name)
            if limit is None:
                self._gates.pop(name, None)
            elif gate is None:
                self._gates[name] = WindowGate(name, limit, length_s + settings.margin_s)
            else:
                gate.resize(limit)
        self.active = bool(self._gates)

    def _amounts(self, tokens: float) -> Iterator[tuple[WindowGate, float]]:
        """Each gate with the amount that a call of so many LLM tokens takes of it."""
        return ((gate, tokens if gate.counts_tokens else 1) for gate in self._gates.values())
