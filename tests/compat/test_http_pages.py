"""The pages of the old daemon over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from exai_actors.compat import http_pages
from exai_actors.compat.health import MachineFigures
from exai_actors.compat.http_pages import CompatHttp
from exai_actors.core.statistics import BrokerStatistics
from exai_actors.errors import UsageError
from exai_actors.testing.clock import ManualClock
from tests.idle_provider import IDLE

HOST = "127.0.0.1"
GB = 1024**3
ROOMY = MachineFigures(50 * 1024**2, 16 * GB, 8 * GB, 100 * GB, 75 * GB)
HEALTH_PATHS = ["/health", "/healthz", "/health/live", "/health/ready"]


class Broker:
    """Statistics that a test can change while they are served."""

    def __init__(self) -> None:
        self.in_flight = 1
        self.queued = 0
        self.draining = False

    def __call__(self) -> BrokerStatistics:
        kimi = replace(
            IDLE,
            kind="openai",
            models=("k2",),
            limit=4,
            free=0,
            in_flight=self.in_flight,
            queued=self.queued,
        )
        return BrokerStatistics(
            version="1.2.3",
            uptime_s=60.0,
            connections=3,
            sessions=2,
            draining=self.draining,
            dead_letters=0,
            providers=(kimi,),
        )


@asynccontextmanager
async def serving(broker: Broker, **options: Any) -> AsyncIterator[CompatHttp]:
    arguments: dict[str, Any] = {
        "host": HOST,
        "health_port": 0,
        "monitor_port": 0,
        "statistics": broker,
        "clock": ManualClock(now=0.0, wall=1_763_000_000.0),
        "measure_machine": lambda: ROOMY,
    }
    http = CompatHttp(**arguments | options)
    await http.start()
    try:
        yield http
    finally:
        await http.stop()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server((HOST, 0)) as listener:
        yield listener.getsockname()[1]


async def ask(client: aiohttp.ClientSession, port: int, path: str) -> tuple[int, Any]:
    async with client.get(f"http://{HOST}:{port}{path}") as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize("path", HEALTH_PATHS)
async def test_a_serving_broker_answers_healthy(client: aiohttp.ClientSession, path: str) -> None:
    async with serving(Broker()) as http:
        status, content = await ask(client, http.health_port, path)
    assert (status, content["status"]) == (200, "healthy")
    assert set(content["components"]) >= {"storage", "supabase", "memory", "disk", "semaphores"}
    assert content["version"] == "1.2.3"
    assert content["timestamp_utc"] == "2025-11-13T02:13:20+00:00"
    assert content["timestamp_melbourne"] == "2025-11-13 13:13:20 AEDT"


@pytest.mark.parametrize("path", HEALTH_PATHS)
async def test_a_draining_broker_answers_503_but_is_still_alive(
    client: aiohttp.ClientSession, path: str
) -> None:
    broker = Broker()
    broker.draining = True
    async with serving(broker) as http:
        status, content = await ask(client, http.health_port, path)
    assert status == (200 if path == "/health/live" else 503)
    assert content["status"] == "unhealthy"


async def test_the_permits_are_current(client: aiohttp.ClientSession) -> None:
    broker = Broker()
    async with serving(broker) as http:
        before = await ask(client, http.health_port, "/health/semaphores")
        broker.in_flight, broker.queued = 4, 10
        after = await ask(client, http.health_port, "/health/semaphores")
    assert (before[0], before[1]["status"]) == (200, "healthy")
    assert before[1]["providers"]["kimi"]["current"] == 3
    assert (after[0], after[1]["status"]) == (503, "critical")
    assert after[1]["providers"]["kimi"]["current"] == 0


async def test_the_memory_is_measured_before_the_first_request(
    client: aiohttp.ClientSession,
) -> None:
    async with serving(Broker()) as http:
        status, content = await ask(client, http.health_port, "/health/memory")
    assert status == 200
    assert (content["process_memory_mb"], content["system_memory_percent"]) == (50.0, 50.0)


async def test_the_memory_is_measured_repeatedly(client: aiohttp.ClientSession) -> None:
    loop, third = asyncio.get_running_loop(), asyncio.Event()
    measured = 0

    def measure_machine() -> MachineFigures:
        nonlocal measured
        measured += 1
        if measured == 3:
            loop.call_soon_threadsafe(third.set)
        return MachineFigures(process_memory=measured * 1024**2)

    async with serving(Broker(), measure_machine=measure_machine, measure_every_s=0.001) as http:
        await third.wait()
        _, content = await ask(client, http.health_port, "/health/memory")
    assert content["process_memory_mb"] >= 2.0


async def test_critically_low_memory_is_503_on_the_memory_page_only(
    client: aiohttp.ClientSession,
) -> None:
    scarce = MachineFigures(memory_total=100 * GB, memory_available=GB)
    async with serving(Broker(), measure_machine=lambda: scarce) as http:
        assert (await ask(client, http.health_port, "/health/memory"))[0] == 503
        assert (await ask(client, http.health_port, "/health"))[0] == 200


async def test_other_origins_may_read_the_health(client: aiohttp.ClientSession) -> None:
    async with (
        serving(Broker()) as http,
        client.get(
            f"http://{HOST}:{http.health_port}/health/semaphores",
            headers={"Origin": "http://desk.example"},
        ) as answer,
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/semaphore_monitor.html"])
async def test_the_monitor_polls_the_actual_health_port(
    client: aiohttp.ClientSession, path: str
) -> None:
    async with serving(Broker()) as http:
        async with client.get(f"http://{HOST}:{http.monitor_port}{path}") as answer:
            page = await answer.text()
            policy = answer.headers["Content-Security-Policy"]
        assert answer.content_type == "text/html"
        assert f'data-health-port="{http.health_port}"' in page
        assert f"connect-src http://*:{http.health_port};" in policy


@pytest.mark.parametrize(
    ("name", "kind"), [("monitor.css", "text/css"), ("monitor.js", "text/javascript")]
)
async def test_the_monitor_serves_its_style_and_script(
    client: aiohttp.ClientSession, name: str, kind: str
) -> None:
    async with serving(Broker()) as http:
        base = f"http://{HOST}:{http.monitor_port}"
        async with client.get(base) as answer:
            assert f'"/{name}"' in await answer.text()
        async with client.get(f"{base}/{name}") as answer:
            assert (answer.status, answer.content_type) == (200, kind)
            assert await answer.text()


async def test_the_monitors_status_counts_the_connections(client: aiohttp.ClientSession) -> None:
    async with serving(Broker()) as http:
        status, content = await ask(client, http.monitor_port, "/status")
    assert status == 200
    assert (content["status"], content["service"]) == ("ok", "monitoring")
    assert content["clients_connected"] == 3


@pytest.mark.parametrize("path", ["/nothing", "/monitor.html", "/../http_pages.py", "/health"])
async def test_the_monitor_serves_nothing_else(client: aiohttp.ClientSession, path: str) -> None:
    async with (
        serving(Broker()) as http,
        client.get(f"http://{HOST}:{http.monitor_port}{path}") as answer,
    ):
        assert answer.status == 404


async def test_the_pages_are_read_only(client: aiohttp.ClientSession) -> None:
    async with (
        serving(Broker()) as http,
        client.post(f"http://{HOST}:{http.health_port}/health", data="x") as answer,
    ):
        assert answer.status == 405


@pytest.mark.parametrize("which", ["health", "monitor"])
async def test_a_port_in_use_is_reported_with_its_key_and_nothing_stays_open(
    taken_port: int, which: str
) -> None:
    http = CompatHttp(
        host=HOST,
        health_port=taken_port if which == "health" else 0,
        monitor_port=taken_port if which == "monitor" else 0,
        statistics=Broker(),
        clock=ManualClock(),
    )
    wanted = rf"127\.0\.0\.1:{taken_port} .* port is in use.*\[compat\] http_{which}_port"
    with pytest.raises(UsageError, match=wanted):
        await http.start()
    if which == "monitor":
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, http.health_port)
    await http.stop()
    assert {task for task in asyncio.all_tasks() if task is not asyncio.current_task()} == set()


async def test_a_foreign_address_is_reported() -> None:
    http = CompatHttp(
        host="192.0.2.1", health_port=0, monitor_port=0, statistics=Broker(), clock=ManualClock()
    )
    with pytest.raises(UsageError, match=r"Cannot listen on 192\.0\.2\.1:0 .*"):
        await http.start()


async def test_stop_closes_both_ports() -> None:
    async with serving(Broker()) as http:
        pass
    for port in (http.health_port, http.monitor_port):
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, port)


async def probe_health(port: int) -> bytes:
    """The response to a probe on a connection of its own."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return await reader.read()
    finally:
        writer.close()


STRANGERS = {
    "nothing": b"",
    "half a request line": b"GET /hea",
    "a head without its end": b"GET /health HTTP/1.1\r\nHost: x\r\n",
    "a request, and no more": b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "a body that does not come": b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
}


@pytest.mark.parametrize("sent", STRANGERS.values(), ids=STRANGERS)
async def test_idle_sockets_keep_no_probe_out(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(http_pages, "MAX_SOCKETS", 5)
    async with serving(Broker()) as pages, AsyncExitStack() as stack:
        idle = []
        for _ in range(30):
            reader, writer = await asyncio.open_connection(HOST, pages.health_port)
            stack.callback(writer.close)
            writer.write(sent)
            idle.append(reader)
            assert (await probe_health(pages.health_port)).startswith(b"HTTP/1.1 200")
        # The oldest have given way.
        for reader in idle[:25]:
            await reader.read()


@pytest.mark.parametrize("sent", list(STRANGERS.values())[:4], ids=list(STRANGERS)[:4])
async def test_a_socket_that_asks_nothing_further_is_closed_in_time(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    assert http_pages._KEEPALIVE_S <= 2.0
    monkeypatch.setattr(http_pages, "_KEEPALIVE_S", 0.05)
    async with serving(Broker()) as pages:
        reader, writer = await asyncio.open_connection(HOST, pages.health_port)
        writer.write(sent)
        await reader.read()
        writer.close()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Secret: hunter2\x00\r\n\r\n",
        b"GET /health HTTP/1.1\r\nX-Secret: " + b"hunter2" * 2000 + b"\r\n\r\n",
        b"hunter2 is my password\r\n\r\n",
        b"GET /hunter2\xff HTTP/9.9\r\n\r\n",
        b"GET /" + b"hunter2" * 2000 + b" HTTP/1.1\r\n\r\n",
        b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: hunter2\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: hunter2\r\n\r\n",
    ],
)
async def test_nothing_that_a_stranger_sends_is_logged(
    caplog: pytest.LogCaptureFixture, request_: bytes
) -> None:
    caplog.set_level("DEBUG")
    async with serving(Broker()) as pages:
        for _ in range(3):
            reader, writer = await asyncio.open_connection(HOST, pages.health_port)
            writer.write(request_)
            assert (await reader.readline()).startswith(b"HTTP/1.")
            writer.close()
    assert "hunter2" not in caplog.text
    assert caplog.records == []


async def test_a_fault_of_the_pages_themselves_is_logged(
    caplog: pytest.LogCaptureFixture, client: aiohttp.ClientSession
) -> None:
    def broken() -> BrokerStatistics:
        raise ValueError("a bug")

    async with serving(broken) as pages:  # type: ignore[arg-type]
        url = f"http://{HOST}:{pages.health_port}/health/semaphores"
        async with client.get(url) as answer:
            assert answer.status == 500
    assert "a bug" in caplog.text
