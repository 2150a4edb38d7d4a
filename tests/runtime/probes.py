"""Actors that tests look into, and a system that only moves when told to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from exai_actors.runtime import ActorSystem, Event, LoopActor, LoopRef, ManualDriver

A = TypeVar("A", bound=LoopActor)


class Recorder(LoopActor):
    """Keeps what it is told and returns it; does a callable, raises an exception it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []
        self.hooks: list[str] = []

    def on_start(self) -> None:
        self.hooks.append("start")

    def on_stop(self) -> None:
        self.hooks.append("stop")

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.hooks.append(f"failure {exception_type.__name__}")

    def on_receive(self, message: Any) -> Any:
        self.seen.append(message)
        if isinstance(message, BaseException):
            raise message
        if callable(message):
            return message()
        return message


class ManualSystem(ActorSystem):
    """An actor system on a manual driver, with the events it published."""

    def __init__(self, **options: Any) -> None:
        self.manual = ManualDriver()
        super().__init__(self.manual, **options)
        self.told_events: list[Event] = []
        self.on_event(self.told_events.append)

    def run(self) -> None:
        self.manual.run_until_idle()

    def recorder(self, path: str, **options: Any) -> tuple[LoopRef[Recorder], Recorder]:
        """Spawn a recorder, let it start, and hand out the reference and the actor behind it."""
        ref = self.spawn(Recorder, path=path, **options)
        self.run()
        return ref, actor_of(ref)

    def events_of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.told_events if isinstance(event, kind)]


def actor_of(ref: LoopRef[A]) -> A:
    """The actor behind a living reference."""
    actor = ref._actor_weakref()
    assert actor is not None, f"{ref} is not alive"
    return actor


class Doing(LoopActor):
    """Does in its constructor and hooks what a test gives it."""

    def __init__(
        self,
        on_start: Callable[[Doing], object] | None = None,
        on_receive: Callable[[Doing, Any], object] | None = None,
        on_stop: Callable[[Doing], object] | None = None,
        on_failure: Callable[[Doing], object] | None = None,
    ) -> None:
        super().__init__()
        self._do_start = on_start
        self._do_receive = on_receive
        self._do_stop = on_stop
        self._do_failure = on_failure

    def on_start(self) -> None:
        if self._do_start is not None:
            self._do_start(self)

    def on_receive(self, message: Any) -> Any:
        return None if self._do_receive is None else self._do_receive(self, message)

    def on_stop(self) -> None:
        if self._do_stop is not None:
            self._do_stop(self)

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        if self._do_failure is not None:
            self._do_failure(self)


class Asked:
    """A message that must not be refused for want of room."""

    refusable = False
