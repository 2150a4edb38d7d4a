"""The record that a scripted upstream keeps of its requests, independent of the broker's."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Fate(Enum):
    """The state of a request, as seen by the server."""

    RUNNING = "running"
    COMPLETED = "completed"
    DISCONNECTED = "disconnected"
    BROKEN_OFF = "broken off"


@dataclass(slots=True)
class SeenRequest:
    """One received chat request, numbered from 1; ``steps_done`` grows during the reply.

    ``path`` includes the query. ``connection`` numbers the TCP connections from 1, so that equal
    numbers mean a reused connection. ``body`` is the parsed JSON, None if invalid.
    """

    number: int
    path: str
    headers: dict[str, str]
    raw: bytes
    body: Any
    connection: int
    fate: Fate = Fate.RUNNING
    steps_done: int = 0

    @property
    def stream(self) -> bool:
        """Whether the request asks for a stream."""
        return isinstance(self.body, dict) and bool(self.body.get("stream"))

    @property
    def includes_usage(self) -> bool:
        """Whether the request asks for a usage event at the end of the stream."""
        options = self.body.get("stream_options") if isinstance(self.body, dict) else None
        return isinstance(options, dict) and bool(options.get("include_usage"))

    @property
    def model(self) -> str:
        """The requested model; empty if there is none."""
        return str(self.body.get("model", "")) if isinstance(self.body, dict) else ""

    @property
    def prompt(self) -> str:
        """The text of the last message with its parts joined; empty if there is none."""
        try:
            content = self.body["messages"][-1]["content"]
        except (TypeError, LookupError):
            return ""
        if isinstance(content, str):
            return content
        return "".join(part.get("text", "") for part in content)


@dataclass(slots=True)
class _Wait:
    fulfilled: Callable[[], bool]
    done: asyncio.Future[None] = field(default_factory=asyncio.Future)


class UpstreamLog:
    """Every chat request that an upstream has received, with methods to wait for their ends.

    Each ``wait_for…`` raises an AssertionError that shows the log after ``wait_s`` seconds.
    """

    def __init__(self, wait_s: float = 10.0) -> None:
        self.requests: list[SeenRequest] = []
        self.max_in_flight = 0
        self._script_errors: list[Exception] = []
        self._fates: Counter[Fate] = Counter()
        self._connections: dict[object, int] = {}
        self._waits: list[_Wait] = []
        self._wait_s = wait_s

    @property
    def connections(self) -> int:
        """The number of TCP connections that carried chat requests."""
        return len(self._connections)

    @property
    def started(self) -> int:
        """Chat requests received so far."""
        return len(self.requests)

    @property
    def in_flight(self) -> int:
        """Chat requests received that have not ended."""
        return self._fates[Fate.RUNNING]

    @property
    def completed(self) -> int:
        """Chat requests whose reply was sent completely."""
        return self._fates[Fate.COMPLETED]

    @property
    def disconnected(self) -> int:
        """Chat requests whose client closed the connection before the end of the reply."""
        return self._fates[Fate.DISCONNECTED]

    async def wait_for_started(self, count: int = 1) -> None:
        """Wait until a total of ``count`` chat requests have arrived."""
        await self.wait_until(lambda: self.started >= count, f"{count} started")

    async def wait_for_completed(self, count: int = 1) -> None:
        """Wait until a total of ``count`` replies have been sent completely."""
        await self.wait_until(lambda: self.completed >= count, f"{count} completed")

    async def wait_for_disconnect(self, count: int = 1) -> None:
        """Wait until ``count`` clients have closed their connection before the end of the reply."""
        await self.wait_until(lambda: self.disconnected >= count, f"{count} disconnected")

    async def wait_for_steps(self, count: int, request: int = 1) -> None:
        """Wait until ``count`` steps of the reply to request number ``request`` are done."""
        await self.wait_until(
            lambda: self.started >= request and self.requests[request - 1].steps_done >= count,
            f"{count} steps of request {request}",
        )

    async def wait_until_idle(self) -> None:
        """Wait until no chat request is in flight."""
        await self.wait_until(lambda: self.in_flight == 0, "nothing in flight")

    async def wait_until(self, fulfilled: Callable[[], bool], goal: str) -> None:
        """Wait until ``fulfilled()``, which is checked whenever the log changes."""
        if fulfilled():
            return
        wait = _Wait(fulfilled)
        self._waits.append(wait)
        try:
            async with asyncio.timeout(self._wait_s):
                await wait.done
        except TimeoutError:
            raise AssertionError(
                f"waited {self._wait_s} s for {goal}; the upstream saw:\n{self}"
            ) from None
        finally:
            self._waits.remove(wait)

    def __str__(self) -> str:
        lines = [
            f"  {seen.number}: {seen.fate.value}, {seen.steps_done} steps, {seen.prompt[:60]!r}"
            for seen in self.requests[-20:]
        ]
        lines += [f"  a script failed: {error!r}" for error in self._script_errors]
        return "\n".join(lines) or "  nothing"

    def check_scripts(self) -> None:
        """Raise an AssertionError if a script has failed; its client got status 500."""
        if self._script_errors:
            error = self._script_errors[0]
            raise AssertionError(f"a script of the upstream failed: {error!r}") from error

    def script_failed(self, error: Exception) -> None:
        """Called by the upstream: a script raised instead of returning a reply."""
        self._script_errors.append(error)

    def arrived(
        self, path: str, headers: dict[str, str], raw: bytes, body: Any, connection: object
    ) -> SeenRequest:
        """Called by the upstream: a request has been read."""
        number = self._connections.setdefault(connection, len(self._connections) + 1)
        seen = SeenRequest(len(self.requests) + 1, path, headers, raw, body, number)
        self.requests.append(seen)
        self._fates[Fate.RUNNING] += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self.changed()
        return seen

    def step_done(self, seen: SeenRequest) -> None:
        """Called by the upstream: one more step of the reply is done."""
        seen.steps_done += 1
        self.changed()

    def ended(self, seen: SeenRequest, fate: Fate) -> None:
        """Called by the upstream: the reply has ended."""
        self._fates[seen.fate] -= 1
        self._fates[fate] += 1
        seen.fate = fate
        self.changed()

    def changed(self) -> None:
        """Wake the waits that are fulfilled now."""
        for wait in self._waits:
            if not wait.done.done() and wait.fulfilled():
                wait.done.set_result(None)
