"""The decisions of one supervisor: its children's ends come in, commands come out.

The caller carries the commands out and reports their results. It reports every end of a child
exactly once. An end that was commanded is no failure, and neither is the end of a child that was
about to be stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import final

import msgspec

from exai_actors.core.restarts import RestartBudget
from exai_actors.core.supervision.specs import (
    ChildSpec,
    RestartPolicy,
    Strategy,
    SupervisorSpec,
)


class Phase(StrEnum):
    """The state of a child as its supervisor knows it."""

    WAITING = "waiting"
    """For its turn to start, or for the end of its backoff."""
    STARTING = "starting"
    RUNNING = "running"
    TO_STOP = "to_stop"
    """It runs until the children after it have stopped."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    """It stays so until ``restart_child``."""
    CLOSED = "closed"
    """It failed more often than its own budget allows, and rests before it is started again."""


@final
class StartChild(msgspec.Struct, frozen=True):
    """Start a child; report ``child_started`` or ``child_ended``."""

    id: str


@final
class StopChild(msgspec.Struct, frozen=True):
    """Ask a child to stop; report ``child_ended``."""

    id: str


@final
class AbandonChild(msgspec.Struct, frozen=True):
    """End a child that did not stop within its shutdown time; report nothing."""

    id: str


@final
class WakeAt(msgspec.Struct, frozen=True):
    """Call ``woken`` at this time; replaces an earlier WakeAt."""

    time: float


@final
class ChildClosed(msgspec.Struct, frozen=True):
    """A child has used up its own budget; it starts again at ``opens_at``, never if that is inf."""

    id: str
    error: str
    restarts: int
    opens_at: float


@final
class ChildFinished(msgspec.Struct, frozen=True):
    """A transient child has ended normally, by itself: it is not started again."""

    id: str


@final
class GiveUp(msgspec.Struct, frozen=True):
    """All children have stopped after too many restarts: the supervisor fails.

    ``error`` is the text of the failure that exceeded the intensity.
    """

    child: str
    error: str
    restarts: int


@final
class AllStopped(msgspec.Struct, frozen=True):
    """All children have stopped after ``stop``."""


Command = (
    StartChild
    | StopChild
    | AbandonChild
    | WakeAt
    | ChildClosed
    | ChildFinished
    | GiveUp
    | AllStopped
)


class ChildView(msgspec.Struct, frozen=True):
    """A child for people to look at. ``starts_at`` is set while it waits for a backoff.

    ``used`` are the restarts within the period of its own budget.
    """

    spec: ChildSpec
    phase: Phase
    restarts: int
    used: int
    failures_in_a_row: int
    starts_at: float | None
    last_error: str | None


class _Child:
    __slots__ = (
        "budget",
        "failures",
        "last_error",
        "not_before",
        "number",
        "phase",
        "restarts",
        "returns",
        "running_since",
        "spec",
        "stop_by",
    )

    def __init__(self, spec: ChildSpec, number: int) -> None:
        self.spec = spec
        self.number = number
        """Its place in the order of starting."""
        self.phase = Phase.WAITING
        # Made with the first failure: most children never have one.
        self.budget: RestartBudget | None = None
        self.returns = True
        """Whether it starts again after the stop under way."""
        self.not_before = -inf
        self.stop_by = inf
        self.running_since = inf
        self.failures = 0
        self.restarts = 0
        self.last_error: str | None = None


class Supervision:
    """The children of one supervisor. Times are seconds of any one clock.

    Children stop one after the other, then start one after the other; a child added under
    one_for_one starts immediately. An event costs little however many children run.
    """

    def __init__(self, spec: SupervisorSpec, draw: Callable[[], float]) -> None:
        """``draw`` returns numbers within [0, 1), for the jitter of backoffs."""
        self.spec = spec
        self._draw = draw
        self._numbers = count()
        self._children = {child.id: _Child(child, next(self._numbers)) for child in spec.children}
        self._waiting: dict[str, _Child] = {}
        # The waiting children, by the time at which they may start, and once it has come in the
        # order of starting; with some that wait no more.
        self._later: list[tuple[float, int, str]] = []
        self._due: list[tuple[int, str]] = []
        self._starting: set[str] = set()
        self._to_stop: list[_Child] = []
        """In the order of starting, so that the last one stops first."""
        self._stopping: _Child | None = None
        self._budget = RestartBudget(spec.intensity, spec.period_s)
        self._end: GiveUp | AllStopped | None = None
        """The command that follows once all children have stopped."""
        self._has_ended = False
        for child in self._children.values():
            self._wait(child)

    @property
    def giving_up(self) -> GiveUp | None:
        """The end that is under way after too many restarts, if any."""
        return self._end if isinstance(self._end, GiveUp) else None

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all children in the order of their start."""
        return tuple(self._children)

    def knows(self, child_id: str) -> bool:
        """Whether there is a child of this id."""
        return child_id in self._children

    def view(self, now: float) -> tuple[ChildView, ...]:
        """All children in the order of their start."""
        return tuple(_view(child, now) for child in self._children.values())

    def child(self, child_id: str, now: float) -> ChildView | None:
        """One child, if there is one of this id."""
        child = self._children.get(child_id)
        return None if child is None else _view(child, now)

    def restarts_within_period(self, now: float) -> int:
        """How much of the intensity is used."""
        return self._budget.used(now)

    def start(self, now: float) -> list[Command]:
        """Begin to start the children in order."""
        return self._proceed(now)

    def stop(self, now: float) -> list[Command]:
        """Stop the children in reverse order; ends with AllStopped."""
        return self._stop_all(now, AllStopped())

    def child_started(self, child_id: str, now: float) -> list[Command]:
        """A child runs: its start is complete."""
        child = self._children.get(child_id)
        if child is None or child.phase is not Phase.STARTING:
            return []
        child.phase = Phase.RUNNING
        child.running_since = now
        self._starting.discard(child_id)
        return self._proceed(now)

    def child_ended(self, child_id: str, error: str | None, now: float) -> list[Command]:
        """A child has ended; with an error unless it ended normally."""
        child = self._children.get(child_id)
        if child is None or child.phase in {Phase.WAITING, Phase.STOPPED, Phase.CLOSED}:
            return []
        ran_s = now - child.running_since
        child.running_since = inf
        self._starting.discard(child_id)
        if error is not None:
            child.last_error = error
        commands: list[Command] = []
        if child.phase in {Phase.TO_STOP, Phase.STOPPING}:
            self._has_stopped(child)
        elif child.spec.restart is RestartPolicy.TEMPORARY:
            self._leave(child)
        elif child.spec.restart is RestartPolicy.TRANSIENT and error is None:
            self._leave(child)
            commands.append(ChildFinished(child_id))
        elif self._budget_of(child).allow(now):
            if ran_s >= child.spec.backoff.reset_after_s:
                child.failures = 0
            child.failures += 1
            child.restarts += 1
            child.not_before = now + child.spec.backoff.delay_s(child.failures, self._draw())
            self._wait(child)
            self._stop_dependants(child)
        elif child.spec.budget is not None:
            commands.append(self._close(child, error or _ENDED_NORMALLY, now))
        else:
            child.phase = Phase.STOPPED
            end = GiveUp(child_id, error or _ENDED_NORMALLY, self.spec.intensity)
            return self._stop_all(now, end)
        return commands + self._proceed(now)

    def woken(self, now: float) -> list[Command]:
        """The time of the last WakeAt has come."""
        late = self._stopping
        if late is None or late.stop_by > now:
            return self._proceed(now)
        self._has_stopped(late)
        return [AbandonChild(late.spec.id), *self._proceed(now)]

    def add(self, spec: ChildSpec, now: float) -> list[Command]:
        """Add a child after the others. Raises ValueError if its id is taken.

        Once the supervisor stops or gives up, the child is not added.
        """
        if spec.id in self._children:
            raise ValueError(f"there is a child '{spec.id}' already")
        if self._end is not None:
            return []
        child = self._children[spec.id] = _Child(spec, next(self._numbers))
        if self.spec.strategy is Strategy.ONE_FOR_ONE:
            return [self._start(child)]
        self._wait(child)
        return self._proceed(now)

    def adopt(self, spec: ChildSpec, now: float) -> list[Command]:
        """Add a child that runs already. Raises ValueError if its id is taken.

        Once the supervisor stops or gives up, the child is stopped with the others.
        """
        if spec.id in self._children:
            raise ValueError(f"there is a child '{spec.id}' already")
        child = self._children[spec.id] = _Child(spec, next(self._numbers))
        child.phase = Phase.RUNNING
        child.running_since = now
        if self._end is None:
            return []
        self._have_stop([child], returns=False)
        return self._proceed(now)

    def stop_child(self, child_id: str, now: float) -> list[Command]:
        """Stop a child until ``restart_child``; its siblings run on. Unknown ids are ignored."""
        child = self._children.get(child_id)
        if child is None:
            return []
        self._have_stop([child], returns=False)
        return self._proceed(now)

    def restart_child(self, child_id: str, now: float) -> list[Command]:
        """Restart a child on request, without backoff; it does not count as a failure."""
        child = self._children.get(child_id)
        if child is None or self._end is not None:
            return []
        child.failures = 0
        child.not_before = -inf
        if child.phase in {Phase.STOPPED, Phase.WAITING, Phase.CLOSED}:
            self._wait(child)
        else:
            self._have_stop([child], returns=True)
        return self._proceed(now)

    def _stop_dependants(self, failed: _Child) -> None:
        match self.spec.strategy:
            case Strategy.ONE_FOR_ONE:
                return
            case Strategy.ONE_FOR_ALL:
                first = 0
            case Strategy.REST_FOR_ONE:
                first = failed.number
        others = [child for child in self._children.values() if child.number >= first]
        others.remove(failed)
        for child in others:
            child.not_before = max(child.not_before, failed.not_before)
        # OTP forgets a temporary child that it stops for the sake of another.
        temporary = [child for child in others if child.spec.restart is RestartPolicy.TEMPORARY]
        self._have_stop(temporary, returns=False)
        self._have_stop([child for child in others if child not in temporary], returns=True)

    def _budget_of(self, child: _Child) -> RestartBudget:
        own = child.spec.budget
        if own is None:
            return self._budget
        if child.budget is None:
            child.budget = RestartBudget(own.intensity, own.period_s)
        return child.budget

    def _close(self, child: _Child, error: str, now: float) -> ChildClosed:
        own = child.spec.budget
        assert own is not None
        child.not_before = now + own.closed_s
        child.budget = None
        child.failures = 0
        if child.not_before < inf:
            self._wait(child)
            child.phase = Phase.CLOSED
        else:
            self._leave(child)
        return ChildClosed(child.spec.id, error, own.intensity, child.not_before)

    def _stop_all(self, now: float, end: GiveUp | AllStopped) -> list[Command]:
        self._end = self._end or end
        self._have_stop(list(self._children.values()), returns=False)
        return self._proceed(now)

    def _have_stop(self, children: list[_Child], *, returns: bool) -> None:
        for child in children:
            match child.phase:
                case Phase.STARTING | Phase.RUNNING:
                    child.phase = Phase.TO_STOP
                    child.returns = returns
                    self._to_stop.append(child)
                case Phase.TO_STOP | Phase.STOPPING:
                    child.returns = returns
                case Phase.WAITING | Phase.CLOSED if not returns:
                    del self._waiting[child.spec.id]
                    self._leave(child)
                case Phase.WAITING | Phase.CLOSED | Phase.STOPPED:
                    pass
        self._to_stop.sort(key=_number)

    def _has_stopped(self, child: _Child) -> None:
        if child is self._stopping:
            self._stopping = None
        else:
            self._to_stop.remove(child)
        if child.returns:
            self._wait(child)
        else:
            self._leave(child)

    def _leave(self, child: _Child) -> None:
        child.phase = Phase.STOPPED
        if child.spec.is_forgotten:
            del self._children[child.spec.id]

    def _wait(self, child: _Child) -> None:
        child.phase = Phase.WAITING
        self._waiting[child.spec.id] = child
        heappush(self._later, (child.not_before, child.number, child.spec.id))

    def _start(self, child: _Child) -> StartChild:
        child.phase = Phase.STARTING
        self._starting.add(child.spec.id)
        return StartChild(child.spec.id)

    def _proceed(self, now: float) -> list[Command]:
        commands: list[Command] = []
        if self._stopping is None and self._to_stop:
            child = self._stopping = self._to_stop.pop()
            child.phase = Phase.STOPPING
            child.stop_by = now + child.spec.shutdown_s
            self._starting.discard(child.spec.id)
            commands.append(StopChild(child.spec.id))
        if self._stopping is not None:
            commands += _wake_at(self._stopping.stop_by)
        elif self._end is not None:
            if not self._has_ended:
                self._has_ended = True
                commands.append(self._end)
        elif not self._starting:
            following = self._following(now)
            if following is None:
                pass
            elif following.not_before <= now:
                del self._waiting[following.spec.id]
                commands.append(self._start(following))
            else:
                commands += _wake_at(following.not_before)
        return commands

    def _following(self, now: float) -> _Child | None:
        """The waiting child that starts next, if any."""
        if self.spec.strategy is not Strategy.ONE_FOR_ONE:
            # Later children may depend on the first.
            return min(self._waiting.values(), key=_number, default=None)
        later, due, waiting = self._later, self._due, self._waiting
        while later:
            time, number, child_id = later[0]
            child = waiting.get(child_id)
            is_current = child is not None and child.not_before == time
            if is_current and time > now:
                break
            heappop(later)
            if is_current:
                heappush(due, (number, child_id))
        while due:
            child = waiting.get(due[0][1])
            if child is not None and child.not_before <= now:
                return child
            heappop(due)
        return waiting[later[0][2]] if later else None


_ENDED_NORMALLY = "it ended normally although it is permanent"


def _number(child: _Child) -> int:
    return child.number


def _wake_at(time: float) -> list[Command]:
    return [WakeAt(time)] if time < inf else []


def _view(child: _Child, now: float) -> ChildView:
    waits = child.phase in {Phase.WAITING, Phase.CLOSED} and child.not_before > now
    return ChildView(
        child.spec,
        child.phase,
        child.restarts,
        child.budget.used(now) if child.budget is not None else 0,
        child.failures,
        child.not_before if waits else None,
        child.last_error,
    )
