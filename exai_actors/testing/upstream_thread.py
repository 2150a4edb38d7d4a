"""A scripted upstream on a separate thread, for tests that block."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from exai_actors.client.loop_thread import LoopThread
from exai_actors.testing.scripted_replies import Gate
from exai_actors.testing.scripted_upstream import Script, ScriptedUpstream
from exai_actors.testing.upstream_log import SeenRequest

T = TypeVar("T")


class UpstreamInThread:
    """``ScriptedUpstream`` for blocking tests: waits block, and any thread can open gates.

    An async test should use a ScriptedUpstream on its own loop instead.
    """

    def __init__(self, *replies: Script) -> None:
        self.upstream = ScriptedUpstream(*replies)
        self._thread = LoopThread("exai-upstream", self.upstream.aclose)
        self._thread.run(self.upstream.start())
        self.base_url = self.upstream.base_url

    @property
    def requests(self) -> tuple[SeenRequest, ...]:
        """Every chat request received so far."""
        return self.run(self._requests)

    def then(self, *replies: Script) -> None:
        """Add replies for later requests."""
        self.run(lambda: self._then(replies))

    def clear_scripts(self) -> None:
        """Forget the replies that were not asked for."""
        self.run(self._clear_scripts)

    def reached(self, gate: Gate) -> None:
        """Wait until the upstream has reached this gate."""
        try:
            self.run(gate.reached)
        except AssertionError as error:
            raise AssertionError(f"{error}; it saw:\n{self.upstream}") from None

    def open(self, gate: Gate) -> None:
        """Let the upstream continue, now or when it gets there."""
        self.run(lambda: self._open(gate))

    def wait_for_started(self, count: int = 1) -> None:
        """See ``UpstreamLog``."""
        self.run(lambda: self.upstream.wait_for_started(count))

    def wait_for_completed(self, count: int = 1) -> None:
        """See ``UpstreamLog``."""
        self.run(lambda: self.upstream.wait_for_completed(count))

    def wait_for_disconnect(self, count: int = 1) -> None:
        """See ``UpstreamLog``."""
        self.run(lambda: self.upstream.wait_for_disconnect(count))

    def wait_until_idle(self) -> None:
        """Wait until no chat request is in flight."""
        self.run(self.upstream.wait_until_idle)

    def run(self, function: Callable[[], Awaitable[T]]) -> T:
        """Await ``function()`` on the upstream's loop and return its result."""

        async def call() -> T:
            return await function()

        return self._thread.run(call())

    def stop(self) -> None:
        """Stop the upstream and its thread. Idempotent."""
        self._thread.stop()

    async def _requests(self) -> tuple[SeenRequest, ...]:
        return tuple(self.upstream.requests)

    async def _then(self, replies: tuple[Script, ...]) -> None:
        self.upstream.then(*replies)

    async def _clear_scripts(self) -> None:
        self.upstream.clear_scripts()

    async def _open(self, gate: Gate) -> None:
        gate.open()


@contextmanager
def upstream_in_thread(*replies: Script) -> Iterator[UpstreamInThread]:
    """A scripted upstream on a separate thread while the block runs.

    Raises AssertionError at the end if a script has failed or was never asked for.
    """
    upstream = UpstreamInThread(*replies)
    try:
        yield upstream
    finally:
        upstream.stop()
    upstream.upstream.check_scripts()
