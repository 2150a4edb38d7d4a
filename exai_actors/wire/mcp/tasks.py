"""Calls that outlive the request that began them: a client asks for their outcome later."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

from exai_actors.wire.mcp.link import BrokerLink, Call, CallEnd

MAX_TASKS = 64
"""Tasks of one client. A new one takes the place of the one that ended first."""
KEPT_S = 1800.0
"""How long the outcome of a task is kept."""
MAX_KEPT_CHARACTERS = 16_000_000
"""Of all kept outcomes of one client; the oldest make room."""

Status = Literal["working", "completed", "cancelled"]


class Task:
    """A call and its outcome. Instants in ``wall`` seconds are since the epoch."""

    __slots__ = (
        "_watchers",
        "began_wall",
        "call",
        "changed_wall",
        "end",
        "ended_at",
        "id_",
        "status",
    )

    def __init__(self, id_: str, call: Call, wall: float) -> None:
        self.id_ = id_
        self.call = call
        self.status: Status = "working"
        self.end: CallEnd | None = None
        self.ended_at: float | None = None
        self.began_wall = self.changed_wall = wall
        self._watchers: list[Callable[[], None]] = []

    @property
    def has_ended(self) -> bool:
        return self.status != "working"

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call ``watcher`` once when the task ends."""
        self._watchers.append(watcher)

    def unwatch(self, watcher: Callable[[], None]) -> None:
        if watcher in self._watchers:
            self._watchers.remove(watcher)

    def finish(self, status: Status, end: CallEnd | None, now: float, wall: float) -> None:
        if self.has_ended:
            return
        self.status, self.end = status, end
        self.ended_at, self.changed_wall = now, wall
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher()

    @property
    def size(self) -> int:
        """Characters of its outcome."""
        if self.end is None or self.end.result is None:
            return 0
        content = self.end.result.get("content") or ()
        return sum(len(block.get("text", "")) for block in content if type(block) is dict)


class Tasks:
    """The tasks of one client by their ids."""

    def __init__(
        self,
        link: BrokerLink,
        new_id: Callable[[], str],
        now: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._link = link
        self._new_id = new_id
        self._now = now
        self._wall = wall
        self._tasks: dict[str, Task] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def are_running(self) -> bool:
        return any(not task.has_ended for task in self._tasks.values())

    def of(self, call: Call) -> Task | None:
        return next((task for task in self._tasks.values() if task.call is call), None)

    def get(self, id_: object) -> Task | None:
        self.forget_old()
        return self._tasks.get(id_) if type(id_) is str else None

    def add(self, call: Call) -> Task | None:
        """Let a running call end in a task; None if MAX_TASKS are running."""
        self.forget_old()
        if len(self._tasks) >= MAX_TASKS and not self._forget_first_ended():
            return None
        task = Task(self._new_id(), call, self._wall())
        call.ended = lambda end: self._ended(task, end)
        self._tasks[task.id_] = task
        return task

    def cancel(self, task: Task) -> None:
        """No effect on a task that has ended."""
        if not task.has_ended:
            self._link.cancel(task.call)
            task.finish("cancelled", None, self._now(), self._wall())

    def cancel_all(self) -> None:
        for task in self._tasks.values():
            self.cancel(task)

    def forget_old(self) -> None:
        limit = self._now() - KEPT_S
        for task in tuple(self._tasks.values()):
            if task.ended_at is not None and task.ended_at <= limit:
                del self._tasks[task.id_]

    def _ended(self, task: Task, end: CallEnd) -> None:
        task.finish("completed", end, self._now(), self._wall())
        while sum(each.size for each in self._tasks.values()) > MAX_KEPT_CHARACTERS:
            if not self._forget_first_ended(but=task):
                break

    def _forget_first_ended(self, but: Task | None = None) -> bool:
        ended = [each for each in self._tasks.values() if each.has_ended and each is not but]
        if not ended:
            return False
        del self._tasks[min(ended, key=lambda each: each.ended_at or 0.0).id_]
        return True


def shown(task: Task, message: str, poll_ms: int) -> dict[str, Any]:
    """The task as MCP's extension describes it, without its outcome."""
    return {
        "taskId": task.id_,
        "status": task.status,
        "statusMessage": message,
        "createdAt": _iso(task.began_wall),
        "lastUpdatedAt": _iso(task.changed_wall),
        "ttlMs": int(KEPT_S * 1000),
        "pollIntervalMs": poll_ms,
    }


def _iso(wall: float) -> str:
    return (
        datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
