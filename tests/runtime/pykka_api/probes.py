"""pykka actors, on a loop and on threads, that tests look into."""

from __future__ import annotations

import threading
from typing import Any, TypeVar

from pykka import Actor, ThreadingActor

from exai_actors.runtime import ActorSystem, LoopActor, LoopRef, ManualDriver, Started

A = TypeVar("A", bound=LoopActor)


class Recording(Actor):
    """Records its messages and hooks; returns a message, or raises it, or calls it."""

    def __init__(self, raising_hook: str = "") -> None:
        super().__init__()
        self.seen: list[Any] = []
        self.hooks: list[str] = []
        self._raising_hook = raising_hook

    def on_start(self) -> None:
        self._note("start")

    def on_stop(self) -> None:
        self._note("stop")

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self._note(f"failure {exception_type.__name__}")

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, Started):
            return None
        self.seen.append(message)
        if isinstance(message, BaseException):
            raise message
        return message() if callable(message) else message

    def _note(self, hook: str) -> None:
        self.hooks.append(hook)
        if self._raising_hook == f"on_{hook}":
            raise ValueError(hook)


class Recorder(Recording, LoopActor):
    pass


class Plain(Recording, ThreadingActor):
    """pykka's own actor on a thread, to show its gaps."""

    use_daemon_thread = True


def start_plain(actor_class: type[Plain] = Plain, raising_hook: str = "") -> tuple[Any, Plain]:
    ref = actor_class.start(raising_hook)
    actor = ref._actor_weakref()
    assert actor is not None
    return ref, actor


def thread_of(actor_class: type[ThreadingActor]) -> threading.Thread:
    """The thread of the only actor of a class."""
    name = f"{actor_class.__name__}-"
    (thread,) = (each for each in threading.enumerate() if each.name.startswith(name))
    return thread


class ManualSystem(ActorSystem):
    """An actor system on a manual driver."""

    def __init__(self) -> None:
        self.manual = ManualDriver()
        super().__init__(self.manual)

    def run(self) -> None:
        self.manual.run_until_idle()

    def recorder(self, path: str, **options: Any) -> tuple[LoopRef[Recorder], Recorder]:
        """Start a recorder, let it run its ``on_start``, and return reference and actor."""
        ref = self.spawn(Recorder, path=path, **options)
        actor = actor_of(ref)
        self.run()
        return ref, actor


def actor_of(ref: LoopRef[A]) -> A:
    """The actor behind the reference of a living actor."""
    actor = ref._actor_weakref()
    assert actor is not None, f"{ref} has ended"
    return actor
