"""pykka's own actor on a thread, to show its gaps."""

from __future__ import annotations

import threading
from typing import Any

from pykka import ThreadingActor


class Plain(ThreadingActor):
    """As Recorder, on a thread."""

    use_daemon_thread = True

    def __init__(self, raising_hook: str = "") -> None:
        super().__init__()
        self.seen: list[Any] = []
        self.hooks: list[str] = []
        self._raising_hook = raising_hook

    def on_start(self) -> None:
        if self._raising_hook == "on_start":
            raise ValueError("on_start")

    def on_stop(self) -> None:
        if self._raising_hook == "on_stop":
            raise ValueError("on_stop")

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.hooks.append("failure")

    def on_receive(self, message: Any) -> Any:
        self.seen.append(message)
        if isinstance(message, BaseException):
            raise message
        return message() if callable(message) else message


def start_plain(actor_class: type[Plain] = Plain, raising_hook: str = "") -> tuple[Any, Plain]:
    ref = actor_class.start(raising_hook)
    actor = ref._actor_weakref()
    assert actor is not None
    return ref, actor


def thread_of(actor_class: type[ThreadingActor]) -> threading.Thread:
    """The thread of the only actor of a class."""
    (thread,) = (
        thread
        for thread in threading.enumerate()
        if thread.name.startswith(f"{actor_class.__name__}-")
    )
    return thread
