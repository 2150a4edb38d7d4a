"""A real broker in the test's process: on the test's event loop, or on a separate thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

from exai_actors.client import BrokerClient, SyncBrokerClient, connect, connect_sync
from exai_actors.client.loop_thread import LoopThread
from exai_actors.core.capacity.changes import Change
from exai_actors.core.statistics import BrokerStatistics
from exai_actors.daemon.config.tables import Config
from exai_actors.daemon.wiring import Broker, open_broker
from exai_actors.testing.config import AnyConfig, config_for_test
from exai_actors.testing.logs import log_through_logging

SETTLE_S = 2.0


class RunningBroker:
    """A broker on the test's event loop, from ``running_broker``."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    @property
    def config(self) -> Config:
        return self.broker.config

    @property
    def url(self) -> str:
        return self.broker.url

    @property
    def port(self) -> int:
        return self.broker.port

    @property
    def token(self) -> str | None:
        """The token that clients must send; None when none is needed."""
        return self.config.server.token or None

    def statistics(self) -> BrokerStatistics:
        """The broker's statistics at this moment."""
        return self.broker.statistics()

    def connect(self, **settings: Any) -> BrokerClient:
        """A client of this broker to open with ``async with``; settings as in ``connect``."""
        return connect(self.url, **{"token": self.token, **settings})

    async def change(self, provider: str, change: Change, cause: str = "the test") -> None:
        """Change a running provider's limit, weights or gates, or pause or drain it.

        Raises UsageError for an invalid change.
        """
        await self.broker.change(provider, change, cause)

    async def settled(self, within_s: float = SETTLE_S) -> BrokerStatistics:
        """The statistics once nothing is in flight or queued, or after ``within_s`` seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        # Statistics can only be polled.
        while not is_idle(found := self.statistics()) and loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return found


class BrokerInThread:
    """A broker on a separate thread, from ``broker_in_thread``, for sync and async tests.

    Every method may be called from any thread but the broker's.
    """

    def __init__(self, config: Config) -> None:
        self._stack = AsyncExitStack()
        self._thread = LoopThread("exai-broker", self._stack.aclose)
        try:
            self._running = self._thread.run(self._open(config))
        except BaseException:
            self._thread.stop()
            raise
        self.url = self._running.url
        self.port = self._running.port
        self.config = config
        self.token = self._running.token

    def statistics(self) -> BrokerStatistics:
        """The broker's statistics at this moment."""
        return self._thread.run(self._statistics())

    def settled(self, within_s: float = SETTLE_S) -> BrokerStatistics:
        """The statistics once nothing is in flight or queued, or after ``within_s`` seconds."""
        return self._thread.run(self._running.settled(within_s))

    def change(self, provider: str, change: Change, cause: str = "the test") -> None:
        """See ``RunningBroker.change``."""
        self._thread.run(self._running.change(provider, change, cause))

    def connect(self, **settings: Any) -> BrokerClient:
        """A client of this broker to open with ``async with``; settings as in ``connect``."""
        return connect(self.url, **{"token": self.token, **settings})

    def connect_sync(self, **settings: Any) -> SyncBrokerClient:
        """A client of this broker to open with ``with``; settings as in ``connect_sync``."""
        return connect_sync(self.url, **{"token": self.token, **settings})

    def stop(self) -> None:
        """Stop the broker and its thread. Idempotent."""
        self._thread.stop()

    @property
    def stopped(self) -> bool:
        """Whether ``stop`` was called."""
        return self._thread.stopped

    async def _open(self, config: Config) -> RunningBroker:
        log_through_logging()
        return RunningBroker(await self._stack.enter_async_context(open_broker(config)))

    async def _statistics(self) -> BrokerStatistics:
        return self._running.statistics()


@asynccontextmanager
async def running_broker(config: AnyConfig = None) -> AsyncIterator[RunningBroker]:
    """A broker on the running loop, on a free port unless the configuration names one.

    Raises ConfigError for an invalid configuration.
    """
    log_through_logging()
    async with open_broker(config_for_test(config)) as broker:
        yield RunningBroker(broker)


@contextmanager
def broker_in_thread(config: AnyConfig = None) -> Iterator[BrokerInThread]:
    """A broker on a separate thread, so that the test may block. Raises ConfigError."""
    broker = BrokerInThread(config_for_test(config))
    try:
        yield broker
    finally:
        broker.stop()


def is_idle(statistics: BrokerStatistics) -> bool:
    """Whether no provider has a request in flight or queued."""
    return not any(provider.in_flight or provider.queued for provider in statistics.providers)
