"""What an upstream saw of its clients: its own record, independent of the broker's."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Fate(Enum):
    """What became of a request, as the server saw it."""

    RUNNING = "running"
    COMPLETED = "completed"
    DISCONNECTED = "disconnected"
    BROKEN_OFF = "broken off"


@dataclass(slots=True)
class SeenRequest:
    """One chat request as it arrived. ``number`` counts from 1; ``steps_done`` grows meanwhile.

    ``path`` is with its query. ``connection`` numbers the TCP connections from 1: equal numbers
    mean a reused connection. ``body`` is the parsed JSON, None if it was none.
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
        """Whether a stream was asked for."""
        return isinstance(self.body, dict) and bool(self.body.get("stream"))

    @property
    def includes_usage(self) -> bool:
        """Whether a usage event was asked for at the end of the stream."""
        options = self.body.get("stream_options") if isinstance(self.body, dict) else None
        return isinstance(options, dict) and bool(options.get("include_usage"))

    @property
    def model(self) -> str:
        """The model asked for, empty if none was."""
        return str(self.body.get("model", "")) if isinstance(self.body, dict) else ""

    @property
    def prompt(self) -> str:
        """The text of the last message, its parts joined; empty if there is none."""
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
    """Every chat request an upstream received, and waiting for what becomes of them.

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
        """How many TCP connections chat requests came over."""
        return len(self._connections)

    @property
    def started(self) -> int:
        """Chat requests received so far."""
        return len(self.requests)

    @property
    def in_flight(self) -> int:
        """Chat requests received and neither answered nor abandoned yet."""
        return self._fates[Fate.RUNNING]

    @property
    def completed(self) -> int:
        """Chat requests whose reply went out whole."""
        return self._fates[Fate.COMPLETED]

    @property
    def disconnected(self) -> int:
        """Chat requests whose client closed the connection before the reply was whole."""
        return self._fates[Fate.DISCONNECTED]

    async def wait_for_started(self, count: int = 1) -> None:
        """Wait until so many chat requests have arrived in all."""
        await self.wait_until(lambda: self.started >= count, f"{count} started")

    async def wait_for_completed(self, count: int = 1) -> None:
        """Wait until so many replies have gone out whole."""
        await self.wait_until(lambda: self.completed >= count, f"{count} completed")

    async def wait_for_disconnect(self, count: int = 1) -> None:
        """Wait until so many clients have closed their connection before the reply was whole."""
        await self.wait_until(lambda: self.disconnected >= count, f"{count} disconnected")

    async def wait_for_steps(self, count: int, request: int = 1) -> None:
        """Wait until ``count`` steps of the reply to the request of that number are done."""
        await self.wait_until(
            lambda: self.started >= request and self.requests[request - 1].steps_done >= count,
            f"{count} steps of request {request}",
        )

    async def wait_until_idle(self) -> None:
        """Wait until no chat request is in flight."""
        await self.wait_until(lambda: self.in_flight == 0, "nothing in flight")

    async def wait_until(self, fulfilled: Callable[[], bool], what: str) -> None:
        """Wait until this holds; it is looked at whenever the log changes."""
        if fulfilled():
            return
        wait = _Wait(fulfilled)
        self._waits.append(wait)
        try:
            async with asyncio.timeout(self._wait_s):
                await wait.done
        except TimeoutError:
            raise AssertionError(
                f"waited {self._wait_s} s for {what}; the upstream saw:\n{self}"
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
        """Raise an AssertionError when a script has failed; its client saw a status 500."""
        if self._script_errors:
            error = self._script_errors[0]
            raise AssertionError(f"a script of the upstream failed: {error!r}") from error

    def script_failed(self, error: Exception) -> None:
        """Called by the upstream: a script raised instead of making a reply."""
        self._script_errors.append(error)

    def arrived(
        self, path: str, headers: dict[str, str], raw: bytes, body: Any, connection: object
    ) -> SeenRequest:
        """Called by the upstream: a request has been read whole."""
        number = self._connections.setdefault(connection, len(self._connections) + 1)
        seen = SeenRequest(len(self.requests) + 1, path, headers, raw, body, number)
        self.requests.append(seen)
        self._fates[Fate.RUNNING] += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self.changed()
        return seen

    def step_done(self, seen: SeenRequest) -> None:
        """Called by the upstream: one more step of the reply is behind it."""
        seen.steps_done += 1
        self.changed()

    def ended(self, seen: SeenRequest, fate: Fate) -> None:
        """Called by the upstream: nothing more will be sent."""
        self._fates[seen.fate] -= 1
        self._fates[fate] += 1
        seen.fate = fate
        self.changed()

    def changed(self) -> None:
        """Look at all waits again."""
        for wait in self._waits:
            if not wait.done.done() and wait.fulfilled():
                wait.done.set_result(None)
