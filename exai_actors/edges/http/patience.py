"""A timeout for a part of a call, before which data that has arrived comes first."""

from __future__ import annotations

import asyncio
from types import TracebackType

from exai_actors.runtime import AfterReading


class PatientTimeout:
    """As ``asyncio.timeout``, but data that has arrived when it is due is still read."""

    __slots__ = ("_delay_s", "_scope", "_timer")

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._scope = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | AfterReading | None = None

    async def __aenter__(self) -> None:
        await self._scope.__aenter__()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._delay_s, self._look, loop)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._scope.__aexit__(kind, error, trace)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = AfterReading(loop, lambda: self._scope.reschedule(loop.time()))
