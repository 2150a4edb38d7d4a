"""The life of the process: start, report ready, wait for a signal, drain, stop.

The first SIGTERM, SIGINT, SIGHUP or SIGQUIT drains: requests in flight may take ``[server]
drain_s`` to end. A second one ends the drain, unless both are SIGHUP. SIGUSR1 and SIGUSR2 have no
effect; by default they would end the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import structlog

from exai_actors.daemon.collector import collecting
from exai_actors.daemon.config.tables import Config
from exai_actors.daemon.process_memory import available_bytes, resident_bytes
from exai_actors.daemon.programs.address import address_of
from exai_actors.daemon.watchdog import lacks_memory, watching
from exai_actors.daemon.wiring import Broker, open_broker
from exai_actors.edges.fd_limit import raise_fd_limit
from exai_actors.errors import ExaiError

log = structlog.get_logger()

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
WITHOUT_EFFECT = (signal.SIGUSR1, signal.SIGUSR2)


class EndedByWatchdog(ExaiError):
    """The process was out of memory; the message says where it was noticed."""


class BrokerGaveUp(ExaiError):
    """A part of the broker failed and could not be restarted; the message is the crash report."""


def serve(
    config: Config,
    on_ready: Callable[[str], None],
    on_end: Callable[[BaseException | None], None] = lambda _: None,
    kill: Callable[[str], object] = lambda _: None,
    beside: AbstractAsyncContextManager[object] | None = None,
) -> None:
    """Run a broker until a signal stops it; pass its URL to ``on_ready`` once clients can connect.

    Returns after an orderly stop. Raises UsageError when it cannot listen on its address,
    BrokerGaveUp when its parts fail too often, and EndedByWatchdog when memory is used up.
    ``on_end`` is called with the error, if any, before the loop is closed, which may wait for
    threads; ``kill`` is called, on another thread, when nothing else helps. ``beside`` is entered
    before the broker starts and left when it has stopped.
    """
    runner = asyncio.Runner(loop_factory=_loop_factory())
    try:
        runner.run(_serve(config, on_ready, kill, beside or nullcontext()))
    except BaseException as error:
        if lacks_memory(error):
            error = EndedByWatchdog("the memory of the process is used up")
        on_end(error)
        raise error
    else:
        on_end(None)
    finally:
        _close(runner)


def _close(runner: asyncio.Runner) -> None:
    """Close the loop; where there is no memory to wait for its threads, without that."""
    try:
        runner.close()
    except Exception as error:
        if not lacks_memory(error):
            raise


async def _serve(
    config: Config,
    on_ready: Callable[[str], None],
    kill: Callable[[str], object],
    beside: AbstractAsyncContextManager[object],
) -> None:
    loop = asyncio.get_running_loop()
    signalled = _receive_signals(loop)
    too_few = raise_fd_limit(config.server.max_connections, config.server.max_strangers)
    if too_few is not None:
        log.warning("server.open_files_limited", detail=too_few)
    async with beside, open_broker(config) as broker:
        out_of_memory: asyncio.Future[str] = loop.create_future()

        def give_up(cause: str) -> None:
            log.critical("process.out_of_memory", cause=cause)
            if not out_of_memory.done():
                out_of_memory.set_result(cause)

        def kill_recorded(cause: str) -> None:
            # Without memory there may be no recording; the end must come in any case.
            with contextlib.suppress(Exception):
                broker.save_recording(cause)
            kill(cause)

        watched = watching(
            stall_s=config.server.stall_s,
            available=available_bytes(),
            resident=resident_bytes,
            give_up=give_up,
            kill=kill_recorded,
        )
        with collecting(broker.is_idle), watched:
            address = address_of(broker.url)
            log.info(
                "broker.started",
                url=broker.url,
                openai=address.v1,
                anthropic=address.root,
                mcp=address.mcp,
                console=address.console,
            )
            on_ready(broker.url)
            first_signal = asyncio.ensure_future(signalled.get())
            ends: set[asyncio.Future[Any]] = {
                first_signal,
                broker.drain_asked,
                broker.gave_up,
                out_of_memory,
            }
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if first_signal.done():
                await _drain(broker, first_signal.result().name, signalled)
                return
            first_signal.cancel()
            if broker.drain_asked.done():
                await _drain(broker, broker.drain_asked.result(), signalled)
            elif out_of_memory.done():
                raise EndedByWatchdog(out_of_memory.result())
            else:
                raise BrokerGaveUp(str(broker.gave_up.result()))


def _receive_signals(loop: asyncio.AbstractEventLoop) -> asyncio.Queue[signal.Signals]:
    signalled: asyncio.Queue[signal.Signals] = asyncio.Queue()
    has_hung_up = False

    def note(each: signal.Signals) -> None:
        nonlocal has_hung_up
        if each is signal.SIGHUP:
            # A terminal that closes may send it twice: from the kernel and from the shell.
            if has_hung_up:
                return
            has_hung_up = True
        signalled.put_nowait(each)

    for each in SIGNALS:
        # A program that ignores SIGHUP for its children, such as nohup, wants them to live.
        if each is signal.SIGHUP and signal.getsignal(each) is signal.SIG_IGN:
            continue
        loop.add_signal_handler(each, note, each)
    for each in WITHOUT_EFFECT:
        loop.add_signal_handler(
            each, lambda name: log.info("broker.signal_ignored", signal=name), each.name
        )
    return signalled


async def _drain(broker: Broker, cause: str, signalled: asyncio.Queue[signal.Signals]) -> None:
    """``cause`` is the signal, or the operator with the reason."""
    statistics = broker.statistics()
    log.info(
        "broker.draining",
        signal=cause,
        in_flight=statistics.in_flight,
        queued=sum(provider.queued for provider in statistics.providers),
        timeout_s=broker.config.server.drain_s,
        hint="Ctrl-C or SIGTERM again stops immediately",
    )
    draining = asyncio.ensure_future(broker.drain(broker.config.server.drain_s))
    second_signal = asyncio.ensure_future(signalled.get())
    ends: set[asyncio.Future[Any]] = {draining, second_signal}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if draining.done():
        second_signal.cancel()
        log.info("broker.stopped", all_requests_ended=draining.result())
    else:
        draining.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await draining
        log.warning("broker.drain_interrupted", signal=second_signal.result().name)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
