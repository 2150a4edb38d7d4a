"""The actor that starts, restarts and stops other actors, as ``core.supervision`` decides."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from math import inf
from typing import Any, assert_never, final

import msgspec

from exai_actors.core.supervision.specs import ChildSpec, SupervisorSpec
from exai_actors.core.supervision.supervision import (
    AbandonChild,
    AllStopped,
    ChildClosed,
    ChildFinished,
    Command,
    GiveUp,
    Phase,
    StartChild,
    StopChild,
    Supervision,
    WakeAt,
)
from exai_actors.runtime.kernel.errors import RuntimeFault, SystemStopping, place_of
from exai_actors.runtime.kernel.signals import Exit, ExitReason, Started
from exai_actors.runtime.kernel.timers import ScheduledMessage
from exai_actors.runtime.pykka_api.actors import LoopActor
from exai_actors.runtime.pykka_api.ref import LoopRef
from exai_actors.runtime.supervisor_board import Incident, RestartOne, StopOne, SupervisorBoard

log = logging.getLogger("exai_actors.runtime")


class GaveUp(RuntimeFault):
    """A supervisor's children failed too often: it has stopped them all and fails itself."""

    def __init__(self, path: str, give_up: GiveUp, period_s: float) -> None:
        super().__init__(
            f"{path} gave up: {give_up.child} failed more than {give_up.restarts} times in "
            f"{period_s:g} s, the last time with {give_up.error}"
        )


@final
class StopTree(msgspec.Struct, frozen=True):
    """System lane. Stop all children in reverse order, each within its time, then end."""


@final
class WakeUp(msgspec.Struct, frozen=True):
    """System lane. A backoff or a shutdown time is over."""


SupervisorMessage = Started | Exit | RestartOne | StopOne | StopTree | WakeUp


class Nursery:
    """Makes the children of a supervisor, and learns about their ends."""

    def start(self, child_id: str) -> object:
        """Start the actor of a child at the path ``{supervisor's path}/{child_id}``.

        Its supervisor must be given by path, so that the next incarnation can adopt the child.
        None says that the child is no longer needed, which must be transient.
        """
        raise NotImplementedError

    def specify(self, child_id: str) -> ChildSpec | None:
        """The spec of a child that something else has started; None to leave it alone."""

    def expected(self) -> Iterable[str]:
        """The children besides those of the supervisor's spec that have to live."""
        return ()

    def absent(self, child_id: str, closed: ChildClosed | None) -> None:
        """A child is closed, has ended normally, or has been stopped on request: it is not
        restarted soon.
        """

    def gives_up(self, give_up: GiveUp) -> None:
        """The supervisor is about to stop all children and to fail."""


class SupervisorActor(LoopActor):
    """Starts the children of ``spec`` in order, and adopts those that others start below its path.

    Its next incarnation adopts the children that are alive and starts the others.
    """

    def __init__(
        self,
        spec: SupervisorSpec,
        nursery: Nursery,
        board: SupervisorBoard,
        draw: Callable[[], float],
    ) -> None:
        super().__init__()
        self.supervision = Supervision(spec, draw)
        self._nursery = nursery
        self._board = board
        self._timer: ScheduledMessage | None = None
        self._to_stop: set[str] = set()
        """The children that are being stopped on request."""
        self._gives_up = False

    def on_start(self) -> None:
        self._board.supervisors[self.path] = self
        for child_id in self._living():
            if not self.supervision.knows(child_id):
                self._adopt(child_id)
        now = self.now()
        self._carry_out(self.supervision.start(now))
        for child_id in self._nursery.expected():
            if not self.supervision.knows(child_id):
                spec = self._nursery.specify(child_id)
                if spec is not None:
                    self._carry_out(self.supervision.add(spec, now))

    def on_stop(self) -> None:
        self._leave()

    def on_failure(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._board.supervisors.get(self.path) is self:
            del self._board.supervisors[self.path]

    def on_receive(self, message: SupervisorMessage) -> None:
        now = self.now()
        match message:
            case Started(path=path):
                self._started(self._id_of(path))
            case Exit():
                self._ended(message)
            case RestartOne(id=child_id):
                self._to_stop.discard(child_id)
                self._carry_out(self.supervision.restart_child(child_id, now))
            case StopOne(id=child_id):
                if self.supervision.knows(child_id):
                    self._to_stop.add(child_id)
                    self._carry_out(self.supervision.stop_child(child_id, now))
                    self._note_stopped(child_id)
            case StopTree():
                self._carry_out(self.supervision.stop(now))
            case WakeUp():
                self._timer = None
                self._carry_out(self.supervision.woken(now))
            case _:
                assert_never(message)

    def _started(self, child_id: str) -> None:
        if self.supervision.knows(child_id):
            self._carry_out(self.supervision.child_started(child_id, self.now()))
        else:
            self._adopt(child_id)

    def _adopt(self, child_id: str) -> None:
        spec = self._nursery.specify(child_id)
        if spec is not None:
            self._carry_out(self.supervision.adopt(spec, self.now()))

    def _ended(self, exit_: Exit) -> None:
        child_id = self._id_of(exit_.path)
        if exit_.reason is ExitReason.ABANDONED:
            return  # by this supervisor, which knows it
        if not self.supervision.knows(child_id):
            # It failed while it started, before it could be adopted.
            self._adopt(child_id)
        error = None
        if exit_.reason is not ExitReason.NORMAL:
            error = "an error" if exit_.error is None else place_of(exit_.error)
        self._carry_out(self._end(child_id, error))
        self._note_stopped(child_id)

    def _end(self, child_id: str, error: str | None) -> list[Command]:
        commands = self.supervision.child_ended(child_id, error, self.now())
        if error is not None:
            self._note_failure(child_id, error)
        give_up = self.supervision.giving_up
        if give_up is not None and not self._gives_up:
            self._gives_up = True
            self._nursery.gives_up(give_up)
        return commands

    def _note_failure(self, child_id: str, error: str) -> None:
        now = self.now()
        child = self.supervision.child(child_id, now)
        if self.supervision.giving_up is not None:
            consequence = "its supervisor gives up"
        elif child is None:
            consequence = "not restarted"
        elif child.phase is Phase.CLOSED or child.phase is Phase.STOPPED:
            consequence = child.phase.value
        else:
            self._board.restarts += 1
            wait_s = 0.0 if child.starts_at is None else child.starts_at - now
            consequence = f"restarted in {wait_s:.3g} s" if wait_s else "restarted"
        path = self._path_of(child_id)
        self._board.incidents.append(Incident(now, path, error, consequence))
        log.warning(
            "supervisor.child_failed",
            extra={"actor": path, "consequence": consequence, "error": error},
        )

    def _note_stopped(self, child_id: str) -> None:
        if child_id not in self._to_stop:
            return
        child = self.supervision.child(child_id, self.now())
        if child is None or child.phase is Phase.STOPPED:
            self._to_stop.discard(child_id)
            self._nursery.absent(child_id, None)

    def _carry_out(self, commands: list[Command]) -> None:
        if not commands:
            return  # as for nearly every start and end of a connection
        pending = deque(commands)
        while pending:
            command = pending.popleft()
            match command:
                case StartChild(id=child_id):
                    pending += self._start(child_id)
                case StopChild(id=child_id):
                    self._stop_child(child_id)
                case AbandonChild(id=child_id):
                    log.error(
                        "supervisor.child_abandoned", extra={"actor": self._path_of(child_id)}
                    )
                    self.system.abandon(self._path_of(child_id))
                case WakeAt(time=time):
                    self._wake_at(time)
                case ChildClosed(id=child_id):
                    self._nursery.absent(child_id, command)
                case ChildFinished(id=child_id):
                    self._nursery.absent(child_id, None)
                case GiveUp():
                    self._stop_the_rest()
                    raise GaveUp(self.path, command, self.supervision.spec.period_s)
                case AllStopped():
                    self._stop_the_rest()
                    self.stop()
                case _:
                    assert_never(command)

    def _start(self, child_id: str) -> list[Command]:
        if self.system.resolve(self._path_of(child_id)) is not None:
            # An earlier incarnation of this supervisor started it.
            return self.supervision.child_started(child_id, self.now())
        try:
            if self._nursery.start(child_id) is None:
                return self.supervision.child_ended(child_id, None, self.now())
        except SystemStopping:
            return []
        except Exception as error:
            log.exception("supervisor.child_not_started", extra={"actor": self._path_of(child_id)})
            return self._end(child_id, place_of(error))
        return []

    def _stop_child(self, child_id: str) -> None:
        child = self.system.resolve(self._path_of(child_id))
        if child is not None:
            stop_in_order(child)

    def _stop_the_rest(self) -> None:
        """Stop the actors below a supervisor that failed while everything was being stopped."""
        below = self._path_of("")
        for path in reversed(self.system.paths()):
            if path != self.path and path.startswith(below):
                left = self.system.resolve(path)
                if left is not None:
                    left.stop(block=False)

    def _wake_at(self, time: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if time < inf:
            self._timer = self.schedule(max(0.0, time - self.now()), WakeUp())

    def _living(self) -> list[str]:
        below = self._path_of("")
        return [
            path.removeprefix(below)
            for path in self.system.paths()
            if path.startswith(below)
            and len(path) > len(below)
            and "/" not in path.removeprefix(below)
        ]

    def _id_of(self, path: str) -> str:
        return path.rpartition("/")[2]

    def _path_of(self, child_id: str) -> str:
        return f"{self.path.rstrip('/')}/{child_id}"


def stop_in_order(actor: LoopRef[Any]) -> None:
    """Stop an actor after its present message; a supervisor after all its children."""
    if issubclass(actor.actor_class, SupervisorActor):
        actor.tell_system(StopTree())
    else:
        actor.stop(block=False)
