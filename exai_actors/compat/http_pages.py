"""The HTTP pages of the EX-AI daemon: health on one port, a monitor on another.

They have the paths and the content of the old daemon's, and are read-only.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, tzinfo
from importlib.resources import files
from pathlib import Path
from string import Template
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from exai_actors.compat import health
from exai_actors.compat.health import MachineFigures, MemoryGrowth, Report
from exai_actors.compat.host import measure
from exai_actors.core.statistics import BrokerStatistics
from exai_actors.errors import UsageError
from exai_actors.ports import Clock

_log = logging.getLogger("exai_actors.compat.http")

MEASURE_EVERY_S = 10.0
MAX_SOCKETS = 100
# Also the time for the head of the first request. Probes open a connection each time.
_KEEPALIVE_S = 2.0
_SHUTDOWN_S = 1.0
_PAGES = files("exai_actors.compat") / "pages"
_ASSETS = {"monitor.css": "text/css", "monitor.js": "text/javascript"}


class CompatHttp:
    """Two small servers on ``host``; port 0 picks a free one, which ``start`` stores here.

    ``statistics`` is called on the loop's thread for each request.
    """

    def __init__(
        self,
        *,
        host: str,
        health_port: int,
        monitor_port: int,
        statistics: Callable[[], BrokerStatistics],
        clock: Clock,
        measure_machine: Callable[[], MachineFigures] = lambda: measure(Path.cwd()),
        measure_every_s: float = MEASURE_EVERY_S,
    ) -> None:
        self.health_port = health_port
        self.monitor_port = monitor_port
        self._host = host
        self._statistics = statistics
        self._clock = clock
        self._measure_machine = measure_machine
        self._measure_every_s = measure_every_s
        self._figures = MachineFigures()
        self._growth = MemoryGrowth()
        self._zone: tzinfo = UTC
        self._page = ""
        self._assets: dict[str, str] = {}
        self._running = AsyncExitStack()

    async def start(self) -> None:
        """Serve both ports. Raises UsageError, which names the key to change, if one is in use."""
        async with AsyncExitStack() as starting:
            self._zone = await asyncio.to_thread(_melbourne)
            self._page = await asyncio.to_thread((_PAGES / "monitor.html").read_text, "utf-8")
            for name in _ASSETS:
                self._assets[name] = await asyncio.to_thread((_PAGES / name).read_text, "utf-8")
            await self._measure()
            measuring = asyncio.create_task(self._measure_repeatedly())
            starting.push_async_callback(_cancel, measuring)
            self.health_port = await self._serve(
                self._health_routes(), self.health_port, "http_health_port", starting
            )
            self.monitor_port = await self._serve(
                self._monitor_routes(), self.monitor_port, "http_monitor_port", starting
            )
            self._running = starting.pop_all()

    async def stop(self) -> None:
        """Close both ports, after finishing the responses in progress."""
        await self._running.aclose()

    async def _serve(
        self, routes: list[web.RouteDef], port: int, key: str, stack: AsyncExitStack
    ) -> int:
        app = web.Application()
        app.add_routes(routes)
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=_log,
            keepalive_timeout=_KEEPALIVE_S,
            lingering_time=0.0,  # no page takes a body
            shutdown_timeout=_SHUTDOWN_S,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        server = runner.server
        assert server is not None

        def protocol() -> asyncio.Protocol:
            # The oldest give way: an answer takes milliseconds, so they are probably idle.
            connections = server.connections
            for oldest in connections[: max(0, len(connections) - MAX_SOCKETS + 1)]:
                oldest.force_close()
            return server()

        loop = asyncio.get_running_loop()
        try:
            listening = await loop.create_server(protocol, self._host, port)
        except OSError as error:
            raise UsageError(_listen_error(self._host, port, key, error)) from None
        stack.callback(listening.close)
        return int(listening.sockets[0].getsockname()[1])

    def _health_routes(self) -> list[web.RouteDef]:
        return [
            web.get("/health", self._health),
            web.get("/healthz", self._health),
            web.get("/health/ready", self._health),
            web.get("/health/live", self._live),
            web.get("/health/semaphores", self._semaphores),
            web.get("/health/memory", self._memory),
        ]

    def _monitor_routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._monitor),
            web.get("/semaphore_monitor.html", self._monitor),
            web.get("/{name:monitor\\.(?:css|js)}", self._asset),
            web.get("/status", self._status),
        ]

    async def _health(self, _: web.Request) -> web.Response:
        return _answer(self._health_report())

    async def _live(self, _: web.Request) -> web.Response:
        # Always 200: a failing liveness probe would kill a draining broker with its requests.
        return _json(self._health_report().content)

    async def _semaphores(self, _: web.Request) -> web.Response:
        return _answer(health.semaphores(self._statistics()))

    async def _memory(self, _: web.Request) -> web.Response:
        return _answer(health.memory(self._figures, self._growth.mb_per_hour))

    async def _status(self, _: web.Request) -> web.Response:
        return _json(health.monitor_status(self._statistics(), self._clock.wall()))

    async def _monitor(self, _: web.Request) -> web.Response:
        return web.Response(
            text=Template(self._page).substitute(health_port=self.health_port),
            content_type="text/html",
            headers={
                "Content-Security-Policy": (
                    "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; "
                    f"connect-src http://*:{self.health_port}; base-uri 'none'; "
                    "form-action 'none'; frame-ancestors 'none'"
                ),
                "Cache-Control": "no-store",
            },
        )

    async def _asset(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return web.Response(
            text=self._assets[name],
            content_type=_ASSETS[name],
            headers={"Cache-Control": "no-cache"},
        )

    def _health_report(self) -> Report:
        return health.health(
            self._statistics(),
            self._figures,
            self._growth.mb_per_hour,
            self._clock.wall(),
            self._zone,
        )

    async def _measure_repeatedly(self) -> None:
        while True:
            await asyncio.sleep(self._measure_every_s)
            await self._measure()

    async def _measure(self) -> None:
        self._figures = await asyncio.to_thread(self._measure_machine)
        self._growth.observe(self._clock.now(), self._figures.process_memory)


def _answer(report: Report) -> web.Response:
    return _json(report.content, status=200 if report.good else 503)


def _json(content: dict[str, object], status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(content),
        status=status,
        content_type="application/json",
        # Any page may read these, as with the daemon: figures without secrets.
        headers={"Access-Control-Allow-Origin": "*", "Cache-Control": "no-store"},
    )


def _melbourne() -> tzinfo:
    try:
        return ZoneInfo("Australia/Melbourne")
    except ZoneInfoNotFoundError:
        return UTC


def _listen_error(host: str, port: int, key: str, error: OSError) -> str:
    in_use = error.errno == errno.EADDRINUSE
    cause = "the port is in use" if in_use else error.strerror or error
    return (
        f"Cannot listen on {host}:{port} for the pages of [compat] http: {cause}. "
        f"Set [compat] {key} to another port (0: any free one), or [compat] http = false."
    )


def _is_of_this_program(record: logging.LogRecord) -> bool:
    """Whether a log record is about a fault of ours, not about a stranger's request.

    The library logs that with an excerpt of the request and a traceback.
    """
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


_log.addFilter(_is_of_this_program)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
