"""The life of the process: start, say ready, wait, drain, stop; what a signal means in each part.

The first SIGTERM or SIGINT drains: requests in flight may end, for ``[server] drain_s`` at most.
A second one stops at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable
from typing import Any

import structlog

from exai_actors.daemon.config.tables import Config
from exai_actors.daemon.wiring import Broker, open_broker
from exai_actors.edges.fd_limit import raise_fd_limit
from exai_actors.errors import ExaiError

log = structlog.get_logger()

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class BrokerGaveUp(ExaiError):
    """A part of the broker could not be kept alive; the text says which."""


def serve(config: Config, on_ready: Callable[[str], None]) -> None:
    """Run a broker until a signal ends it; ``on_ready`` gets its URL once clients can connect.

    Returns after an orderly end. Raises UsageError when the address cannot be listened on and
    BrokerGaveUp when a provider's actor could not be kept alive or the guardian failed.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(config, on_ready))


async def _serve(config: Config, on_ready: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    signalled: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for each in SIGNALS:
        loop.add_signal_handler(each, signalled.put_nowait, each)
    too_few = raise_fd_limit(config.server.max_connections)
    if too_few is not None:
        log.warning("server.open_files_limited", detail=too_few)
    async with open_broker(config) as broker:
        _quiet_collector()
        log.info("broker.started", url=broker.url)
        on_ready(broker.url)
        asked = asyncio.ensure_future(signalled.get())
        ends: set[asyncio.Future[Any]] = {asked, broker.gave_up}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            asked.cancel()
            raise BrokerGaveUp(broker.gave_up.result())
        await _drain(broker, asked.result(), signalled)
        gc.unfreeze()


async def _drain(
    broker: Broker, asked_by: signal.Signals, signalled: asyncio.Queue[signal.Signals]
) -> None:
    statistics = broker.statistics()
    log.info(
        "broker.draining",
        signal=asked_by.name,
        in_flight=statistics.in_flight,
        timeout_s=broker.config.server.drain_s,
    )
    draining = asyncio.ensure_future(broker.drain(broker.config.server.drain_s))
    again = asyncio.ensure_future(signalled.get())
    ends: set[asyncio.Future[Any]] = {draining, again}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if draining.done():
        again.cancel()
        log.info("broker.stopped", all_requests_ended=draining.result())
    else:
        draining.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await draining
        log.warning("broker.drain_interrupted", signal=again.result().name)


def _quiet_collector() -> None:
    # What exists now lives as long as the process: without this, full collections walk it again
    # and again, a third of the p99 latency at 1,000 connections. An ended actor and its reference
    # are garbage that only the collector finds, so the old are still looked at now and then.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
