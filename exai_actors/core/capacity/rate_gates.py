"""What an account allows per minute and per day, exact over any window of that length.

Each gate keeps a log of what was granted, so a burst up to the limit is let through and no window
ever holds more than the limit: a bucket that refills (GCRA) with a burst as large as the limit lets
nearly twice the limit into one window, and with a burst of one it lets no burst through at all.
"""

from __future__ import annotations

from collections import deque
from math import ceil

import msgspec

from exai_actors.core.capacity.settings import GateSettings

# Beyond so many entries a log goes on in slices, each of which expires with its youngest part.
SLICES = 1000


class GateStatistics(msgspec.Struct, frozen=True):
    """One rate gate: ``used`` of ``limit`` in the last ``length_s`` seconds.

    ``over`` is by how much calls took more than was estimated of them.
    """

    name: str
    limit: int
    used: float
    length_s: float
    over: float


class _Slice:
    """What was charged within a short while; ``expires_at`` is right for the last of it."""

    __slots__ = ("amount", "began", "expires_at")

    def __init__(self, began: float, expires_at: float, amount: float) -> None:
        self.began = began
        self.expires_at = expires_at
        self.amount = amount


class WindowGate:
    """At most ``limit`` in any window of ``length_s`` seconds."""

    __slots__ = ("_log", "_slice_s", "_used", "length_s", "limit", "name")

    def __init__(self, name: str, limit: int, length_s: float) -> None:
        self.name = name
        self.limit = limit
        self.length_s = length_s
        self._slice_s = length_s / SLICES
        self._log: deque[_Slice] = deque()
        self._used = 0.0

    def opens_at(self, amount: float, now: float) -> float:
        """The earliest instant at which so much fits; ``now`` if it does already.

        More than the limit itself is let through when the window is empty.
        """
        self._expire(now)
        room = self.limit - min(amount, self.limit)
        used = self._used
        if used <= room + 1e-9:
            return now
        for part in self._log:
            used -= part.amount
            if used <= room + 1e-9:
                return part.expires_at
        # All that is left is what sums of fractions are wrong by.
        return self._log[-1].expires_at

    def charge(self, amount: float, now: float) -> _Slice:
        """Enter it into the log; what is given is for ``settle``."""
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

    def settle(self, part: _Slice, more: float, now: float) -> None:
        """What was charged took so much more, or less if below zero."""
        if part.expires_at > now:
            part.amount += more
            self._used += more

    def statistics(self, now: float) -> GateStatistics:
        self._expire(now)
        used = max(0.0, self._used)
        over = max(0.0, used - self.limit)
        return GateStatistics(self.name, self.limit, used, self.length_s, over)

    def wait_s(self, position: int, each: float, now: float) -> float:
        """Seconds until the one at ``position`` from 1 gets through, each taking so much."""
        need = position * min(each, self.limit)
        # Each time the limit has been let through, the next comes a window later.
        windows = max(0, ceil(need / self.limit) - 1)
        return self.opens_at(need - windows * self.limit, now) - now + windows * self.length_s

    def resize(self, limit: int) -> None:
        """Another limit; what is in the log counts against it."""
        self.limit = limit

    def _expire(self, now: float) -> None:
        log = self._log
        while log and log[0].expires_at <= now:
            self._used -= log.popleft().amount
        if not log:
            # Sums of fractions do not come back to zero by themselves.
            self._used = 0.0


class Charge(msgspec.Struct, gc=False, eq=False):
    """What one grant was charged: at which gates, and how many LLM tokens."""

    tokens: float
    parts: tuple[tuple[WindowGate, _Slice], ...]


class RateGates:
    """All gates of an account: a request passes all of them or waits.

    Kept in memory only: after a restart of the process the first window may be used up twice.
    """

    __slots__ = ("_counts_tokens", "_gates", "_mean_tokens", "active")

    def __init__(self, settings: GateSettings) -> None:
        self._gates: dict[str, WindowGate] = {}
        self._mean_tokens = 0.0
        self.active = False
        self.change(settings)

    def opens_at(self, tokens: float, now: float) -> float:
        """The earliest instant at which a request of so many LLM tokens passes all gates."""
        return max(
            (
                gate.opens_at(tokens if _counts_tokens(gate) else 1, now)
                for gate in self._in_order()
            ),
            default=now,
        )

    def charge(self, tokens: float, now: float) -> Charge | None:
        """Charge all gates. Raises RuntimeError when one of them is shut."""
        if self.opens_at(tokens, now) > now:
            raise RuntimeError("a request was granted through a closed rate gate")
        if not self._gates:
            return None
        self._mean_tokens += (0.125 if self._mean_tokens else 1.0) * (tokens - self._mean_tokens)
        return Charge(
            tokens,
            tuple(
                (gate, gate.charge(tokens if _counts_tokens(gate) else 1, now))
                for gate in self._in_order()
            ),
        )

    def settle(self, charge: Charge, tokens: float, now: float) -> None:
        """The call really took so many LLM tokens; above the estimate, the gate is over for it."""
        for gate, part in charge.parts:
            if _counts_tokens(gate):
                gate.settle(part, tokens - charge.tokens, now)
        charge.tokens = tokens

    def refund(self, charge: Charge, now: float) -> None:
        """The request never reached the provider."""
        for gate, part in charge.parts:
            gate.settle(part, -charge.tokens if _counts_tokens(gate) else -1, now)

    def wait_s(self, position: int, now: float) -> float:
        """Seconds until the one at ``position``, of usual size, has passed all gates."""
        return max(
            (
                gate.wait_s(position, self._mean_tokens if _counts_tokens(gate) else 1, now)
                for gate in self._in_order()
            ),
            default=0.0,
        )

    def statistics(self, now: float) -> tuple[GateStatistics, ...]:
        return tuple(gate.statistics(now) for gate in self._in_order())

    def change(self, settings: GateSettings) -> None:
        """Other limits from now on; what was granted under the old ones still counts."""
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

    def _in_order(self) -> tuple[WindowGate, ...]:
        return tuple(self._gates.values())


def _counts_tokens(gate: WindowGate) -> bool:
    return gate.name.startswith("tokens")
