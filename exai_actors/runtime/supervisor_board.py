"""All supervisors, to look at without a message and to address: a stuck one could not answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol, final

import msgspec

from exai_actors.core.supervision.supervision import ChildView, Supervision
from exai_actors.errors import UsageError
from exai_actors.runtime.pykka_api.actors import ActorSystem
from exai_actors.runtime.pykka_api.ref import LoopRef

RECENT_INCIDENTS = 20


@final
class RestartOne(msgspec.Struct, frozen=True):
    """System lane. Restart a child, without backoff; it does not count as a failure."""

    id: str


@final
class StopOne(msgspec.Struct, frozen=True):
    """System lane. Stop a child until it is restarted; its siblings run on."""

    id: str


class Incident(msgspec.Struct, frozen=True):
    """A failure and its consequence. ``error`` contains no text of an exception."""

    time: float
    path: str
    error: str
    consequence: str


class TreeRow(msgspec.Struct, frozen=True):
    """One place of the tree. Times are in seconds.

    ``strategy`` is that of a supervisor. ``used`` of ``intensity`` restarts were needed within
    ``period_s``: by the children of a supervisor, or by the actor itself if it has a budget of its
    own. ``backoff_s`` is the time until it is started again.
    """

    path: str
    depth: int
    kind: str
    strategy: str | None
    phase: str
    restarts: int
    used: int | None
    intensity: int | None
    period_s: float | None
    backoff_s: float | None
    last_error: str | None


class SupervisorView(Protocol):
    """A supervisor actor as the board sees it."""

    @property
    def actor_ref(self) -> LoopRef[Any]: ...

    @property
    def supervision(self) -> Supervision: ...


class SupervisorBoard:
    """All supervisors by path, and the latest incidents; loop thread only.

    A restarted supervisor replaces its earlier incarnation.
    """

    def __init__(self, system: ActorSystem) -> None:
        self.supervisors: dict[str, SupervisorView] = {}
        self.incidents: deque[Incident] = deque(maxlen=RECENT_INCIDENTS)
        self.restarts = 0
        """How many failed actors were started again so far."""
        self._system = system

    def restart(self, path: str) -> None:
        """Restart the actor at a path, a supervisor with all below it.

        It is stopped first if it is alive. Raises UsageError if no supervisor knows the path.
        """
        supervisor, child = self._find(path)
        supervisor.actor_ref.tell_system(RestartOne(child.spec.id))

    def stop(self, path: str) -> None:
        """Stop the actor at a path, a supervisor after all below it, until it is restarted.

        Raises UsageError if no supervisor knows the path.
        """
        supervisor, child = self._find(path)
        supervisor.actor_ref.tell_system(StopOne(child.spec.id))

    def __len__(self) -> int:
        """How many rows the whole tree has, about."""
        return 1 + sum(len(each.supervision.ids) for each in self.supervisors.values())

    def row(self, path: str) -> TreeRow:
        """One place of the tree. Raises UsageError if no supervisor knows the path."""
        if path == "/":
            return self._row(path, None)
        return self._row(path, self._find(path)[1])

    def rows(self, path: str = "/") -> Iterator[TreeRow]:
        """The tree below a path, depth first, children in the order of their start."""
        child = None if path == "/" else self._find(path)[1]
        yield from self._walk(path, child)

    def _walk(self, path: str, child: ChildView | None) -> Iterator[TreeRow]:
        yield self._row(path, child)
        supervisor = self.supervisors.get(path)
        if supervisor is not None:
            # One by one, because a reader may take them in parts.
            for child_id in supervisor.supervision.ids:
                each = supervisor.supervision.child(child_id, self._system.driver.now())
                if each is not None:
                    yield from self._walk(f"{path.rstrip('/')}/{child_id}", each)

    def _find(self, path: str) -> tuple[SupervisorView, ChildView]:
        above, _, child_id = path.rpartition("/")
        supervisor = self.supervisors.get(above or "/")
        child = None
        if supervisor is not None:
            child = supervisor.supervision.child(child_id, self._system.driver.now())
        if supervisor is None or child is None:
            raise UsageError(f"no supervisor has an actor at {path}; `exai tree` shows the paths")
        return supervisor, child

    def _row(self, path: str, child: ChildView | None) -> TreeRow:
        now = self._system.driver.now()
        actor = self._system.statistics_of(path)
        phase = "running" if child is None else child.phase.value
        if actor is not None and actor.state == "suspended":
            phase = actor.state
        strategy = used = intensity = period_s = None
        supervisor = self.supervisors.get(path)
        if supervisor is not None:
            supervision = supervisor.supervision
            spec = supervision.spec
            strategy = spec.strategy.value
            used, intensity = supervision.restarts_within_period(now), spec.intensity
            period_s = spec.period_s
        elif child is not None and child.spec.budget is not None:
            used, intensity = child.used, child.spec.budget.intensity
            period_s = child.spec.budget.period_s
        starts_at = None if child is None else child.starts_at
        return TreeRow(
            path=path,
            depth=0 if path == "/" else path.count("/"),
            kind="" if actor is None else actor.actor_class,
            strategy=strategy,
            phase=phase,
            restarts=0 if child is None else child.restarts,
            used=used,
            intensity=intensity,
            period_s=period_s,
            backoff_s=None if starts_at is None else max(0.0, starts_at - now),
            last_error=None if child is None else child.last_error,
        )
