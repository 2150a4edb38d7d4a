"""The pages of the old daemon over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from exai_actors.compat import http_pages
from exai_actors.compat.health import MachineFigures
from exai_actors.compat.http_pages import CompatHttp
from exai_actors.core.statistics import BrokerStatistics, ProviderStatistics
from exai_actors.errors import UsageError
from exai_actors.testing.clock import ManualClock

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
        kimi = ProviderStatistics(
            name="kimi",
            kind="openai",
            models=("k2",),
            limit=4,
            in_flight=self.in_flight,
            queued=self.queued,
            queue_limit=10,
            over=0,
            anomalies=0,
            granted=0,
            completed=0,
            failed=0,
            aborted=0,
            refused=0,
            mean_service_s=None,
            incarnation=1,
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


async def ask_health(port: int, connection: str) -> tuple[bytes, asyncio.StreamWriter]:
    """The response: all of it if the connection is to be closed, otherwise its first line."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(f"GET /health HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n\r\n".encode())
    try:
        response = await (reader.readline() if connection == "keep-alive" else reader.read())
    except ConnectionResetError:
        response = b""
    return response, writer


async def test_connections_beyond_the_maximum_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_pages, "MAX_SOCKETS", 3)
    writers = []
    async with serving(Broker()) as pages:
        for kind, answered in [
            ("keep-alive", True),
            ("keep-alive", True),
            ("close", True),
            ("keep-alive", True),
            ("keep-alive", False),
            ("close", False),
        ]:
            response, writer = await ask_health(pages.health_port, kind)
            writers.append(writer)
            assert response.startswith(b"HTTP/1.1 200") is answered
    for writer in writers:
        writer.close()
