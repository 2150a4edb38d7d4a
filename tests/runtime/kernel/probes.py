"""Plain behaviours that tests look into, and a system that only moves when a test moves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from exai_actors.runtime.kernel.cell import ActorCell, Supervisor
from exai_actors.runtime.kernel.events import Event
from exai_actors.runtime.kernel.manual_driver import ManualDriver
from exai_actors.runtime.kernel.ref import Ref
from exai_actors.runtime.kernel.requests import request, request_stop
from exai_actors.runtime.kernel.signals import Started
from exai_actors.runtime.kernel.system import System
from exai_actors.runtime.kernel.timers import ScheduledMessage
from exai_actors.runtime.kernel.watching import watch


class Recorder:
    """Records its messages and hooks; returns a message, or raises it, or calls it."""

    def __init__(self, cell: ActorCell) -> None:
        self.cell = cell
        self.ref: Ref = cell.ref
        self.seen: list[Any] = []
        self.hooks: list[str] = []
        self.started: list[Started] = []

    def on_start(self) -> None:
        self.hooks.append("start")

    def on_receive(self, message: Any, /) -> Any:
        if isinstance(message, Started):
            self.started.append(message)
            return None
        self.seen.append(message)
        if isinstance(message, BaseException):
            raise message
        return message() if callable(message) else message

    def on_suspend(self) -> None:
        self.hooks.append("suspend")

    def on_resume(self) -> None:
        self.hooks.append("resume")

    def on_stop(self) -> None:
        self.hooks.append("stop")

    def on_failure(self, kind: type[BaseException], *rest: object) -> None:
        self.hooks.append(f"failure {kind.__name__}")
        self.failure = (kind, *rest)

    def watch(self, target: Ref | str, tag: object = None) -> None:
        watch(self.cell, target if isinstance(target, str) else target._cell, tag)

    def schedule(self, delay_s: float, message: Any) -> ScheduledMessage:
        return ScheduledMessage(self.cell, delay_s, message)


class Doing(Recorder):
    """Calls in its hooks the functions that a test gives it."""

    do_start: Callable[[], object] = staticmethod(lambda: None)
    do_receive: Callable[[Any], object] = staticmethod(lambda message: None)
    do_stop: Callable[[], object] = staticmethod(lambda: None)
    do_failure: Callable[[], object] = staticmethod(lambda: None)

    def on_start(self) -> None:
        self.do_start()

    def on_receive(self, message: Any, /) -> Any:
        return self.do_receive(message)

    def on_stop(self) -> None:
        self.do_stop()

    def on_failure(self, kind: type[BaseException], *_: object) -> None:
        self.do_failure()


B = TypeVar("B", bound=Recorder)


class Answer:
    """The reply to a request: "value", "error" or "dead", with the rest beside it."""

    def __init__(self) -> None:
        self.kind: str | None = None
        self.content: Any = None
        self.when_settled: Callable[[], object] = lambda: None

    def settle(self, value: Any, /) -> None:
        self._settle("value", value)

    def settle_error(self, error: BaseException, /) -> None:
        self._settle("error", error)

    def settle_dead(self, reason: str, /) -> None:
        self._settle("dead", reason)

    def _settle(self, kind: str, content: Any) -> None:
        assert self.kind is None, "a request was answered twice"
        self.kind, self.content = kind, content
        self.when_settled()


class ManualSystem(System[Ref]):
    """An actor system on a manual driver, with the events it published."""

    def __init__(self, **options: Any) -> None:
        self.manual = ManualDriver()
        super().__init__(self.manual, Ref, **options)
        self.published: list[Event] = []
        self.on_event(self.published.append)

    def run(self) -> None:
        self.manual.run_until_idle()

    def spawn(
        self,
        behaviour_class: type[B],
        path: str,
        *,
        limit: int = 10_000,
        supervisor: Supervisor | None = None,
        hooks: Mapping[str, object] | None = None,
        **more_hooks: object,
    ) -> B:
        """Start an actor; the hooks are attributes of its behaviour, set before it starts."""
        made: list[B] = []

        def construct(cell: ActorCell) -> B:
            made.append(behaviour_class(cell))
            for name, hook in {**(hooks or {}), **more_hooks}.items():
                setattr(made[0], name, hook)
            return made[0]

        self.start(
            behaviour_class, construct, path=path, mailbox_limit=limit, supervisor=supervisor
        )
        return made[0]

    def recorder(self, path: str, **options: Any) -> Recorder:
        """Start a recorder and let it run its ``on_start``."""
        recorder = self.spawn(Recorder, path, **options)
        self.run()
        return recorder

    def ended(self, path: str) -> Ref:
        """A reference to an actor that has lived at a path."""
        ref = self.recorder(path).ref
        self.stop(ref)
        return ref

    def stop(self, ref: Ref) -> None:
        request_stop(ref._cell)
        self.run()

    def events_of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.published if isinstance(event, kind)]


def ask(ref: Ref, message: Any) -> Answer:
    answer = Answer()
    request(ref._cell, message, answer)
    return answer


class Unrefusable:
    """A message that must not be refused for want of room."""

    refusable = False
