"""The validated description of a supervisor and its children (OTP's supervisor flags and child
specs, Akka's backoff).
"""

from __future__ import annotations

from enum import StrEnum
from math import inf, isfinite

import msgspec


class RestartPolicy(StrEnum):
    """Which ends of a child make its supervisor start it again."""

    PERMANENT = "permanent"
    """Every end."""
    TRANSIENT = "transient"
    """A failure; not a normal end."""
    TEMPORARY = "temporary"
    """None. The supervisor forgets the child."""


class Strategy(StrEnum):
    """Which children a supervisor restarts when one of them has to be restarted."""

    ONE_FOR_ONE = "one_for_one"
    """That child."""
    ONE_FOR_ALL = "one_for_all"
    """All children."""
    REST_FOR_ONE = "rest_for_one"
    """That child and all that were started after it."""


class Backoff(msgspec.Struct, frozen=True):
    """The wait before a restart: ``min_s``, doubled with each failure up to ``max_s``.

    The first ``free`` restarts in a row need no wait. Each wait varies by the fraction ``jitter``.
    A child that ran for ``reset_after_s`` begins again. Raises ValueError for values out of range.
    """

    min_s: float = 0.0
    max_s: float = 30.0
    jitter: float = 0.2
    reset_after_s: float = 30.0
    free: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.min_s <= self.max_s or not isfinite(self.max_s):
            raise ValueError(f"a backoff needs 0 <= min_s <= max_s, not {self.min_s}, {self.max_s}")
        if not 0 <= self.jitter < 1:
            raise ValueError(
                f"the jitter of a backoff must be from 0 to below 1, not {self.jitter}"
            )

    def delay_s(self, failures: int, draw: float) -> float:
        """The wait after so many failures in a row, at least one; ``draw`` is within [0, 1)."""
        failures -= self.free
        if failures < 1:
            return 0.0
        # 2 ** 62 seconds exceed any max_s, and larger powers would only be slow.
        wait_s = min(self.max_s, self.min_s * 2.0 ** min(failures - 1, 62))
        return wait_s * (1 + self.jitter * (2 * draw - 1))


class OwnBudget(msgspec.Struct, frozen=True):
    """The restarts that one child may use, so that it does not end its siblings.

    At the restart that exceeds ``intensity`` within ``period_s`` the child is closed for
    ``closed_s``, then started again; inf means for good.
    """

    intensity: int
    period_s: float
    closed_s: float = inf

    def __post_init__(self) -> None:
        if self.intensity < 0 or not self.period_s > 0 or not self.closed_s > 0:
            raise ValueError("a child's own budget needs an intensity of at least 0 and times > 0")


class ChildSpec(msgspec.Struct, frozen=True):
    """One child. ``shutdown_s`` is the time it may take to stop; inf sets no limit.

    The restarts of a child with a budget of its own do not count for its supervisor. A
    ``dynamic`` child is forgotten when it has ended for good, like a temporary one.
    """

    id: str
    restart: RestartPolicy = RestartPolicy.PERMANENT
    shutdown_s: float = 5.0
    backoff: Backoff = Backoff()
    budget: OwnBudget | None = None
    dynamic: bool = False

    @property
    def is_forgotten(self) -> bool:
        """Whether nothing remains of the child once it has ended for good."""
        return self.dynamic or self.restart is RestartPolicy.TEMPORARY

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("a child needs an id")
        if not self.shutdown_s > 0:
            raise ValueError(f"the shutdown time of '{self.id}' must be above 0 s")


class SupervisorSpec(msgspec.Struct, frozen=True):
    """A supervisor gives up at the restart that exceeds ``intensity`` within ``period_s``.

    Children start in the given order and stop in the reverse order.
    """

    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: int = 5
    period_s: float = 30.0
    children: tuple[ChildSpec, ...] = ()

    def __post_init__(self) -> None:
        if self.intensity < 0 or not self.period_s > 0:
            raise ValueError("a supervisor needs an intensity of at least 0 within more than 0 s")
        ids = [child.id for child in self.children]
        if len(set(ids)) < len(ids):
            twice = next(name for name in ids if ids.count(name) > 1)
            raise ValueError(f"two children have the id '{twice}'")
        if self.strategy is not Strategy.ONE_FOR_ONE:
            own = next((child.id for child in self.children if child.budget is not None), None)
            if own is not None:
                raise ValueError(
                    f"'{own}' can have a budget of its own only under one_for_one: its siblings "
                    f"depend on it under {self.strategy.value}"
                )
