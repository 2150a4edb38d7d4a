"""Requests that go through a proxy: passed on by it, or in a tunnel."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from yarl import URL

from exai_actors.core.calls import Aborted, FailureKind
from exai_actors.core.families import Family
from exai_actors.core.trace_context import TraceContext
from exai_actors.edges.http import direct_client
from exai_actors.edges.http.client import Target
from exai_actors.edges.http.settings import Address
from exai_actors.edges.http.upstream import HttpUpstream
from exai_actors.errors import ConfigError
from tests.edges.http.exchanging import OK, LateClient, peer, serving, start, turns


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_tls(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ssl.SSLContext]:
    """That of a service at 127.0.0.1 whose certificate is trusted."""
    trusted = tmp_path / "trusted.pem"
    authority.cert_pem.write_to_path(trusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    direct_client.tls_context.cache_clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    yield context
    direct_client.tls_context.cache_clear()


@asynccontextmanager
async def client_behind(proxy: URL) -> AsyncIterator[LateClient]:
    client = LateClient(proxy)
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def tunnelling(
    answer: bytes = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n",
) -> AsyncIterator[tuple[URL, list[bytes]]]:
    """A proxy that answers CONNECT, and passes on all bytes if that says so; heads it has read."""
    heads: list[bytes] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        for part in answer.splitlines(keepends=True):
            writer.write(part)
            await asyncio.sleep(0)
        if b" 200 " not in answer:
            return
        port = int(heads[-1].split(b" ")[1].rpartition(b":")[2])
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))
        finally:
            up_writer.transport.abort()

    async with serving(serve) as url:
        yield url, heads


async def test_a_proxy_gets_the_whole_address_and_its_credentials() -> None:
    async with peer(OK, OK) as proxy:
        named = proxy.url.with_user("me").with_password("s\u00e9cret")
        async with client_behind(named) as client:
            target = Target("POST", URL("http://service.example/v1/chat?version=2"), {"A": "b"})
            trace = TraceContext("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "")
            assert await start(client, target, trace=trace).answer() == (200, b"ok")
            assert await start(client, target).answer() == (200, b"ok")
        first, second, _ = proxy.seen[0].split(b"{}")
        line, _, rest = first.partition(b"\r\n")
        assert line == b"POST http://service.example/v1/chat?version=2 HTTP/1.1"
        assert rest.startswith(b"Host: service.example\r\nA: b\r\nProxy-Authorization: Basic ")
        assert b"\r\ntraceparent: " in rest
        assert second.startswith(line)


async def test_a_proxy_without_credentials_gets_none() -> None:
    async with peer(OK) as proxy, client_behind(proxy.url) as client:
        await start(client, Target("GET", URL("http://service.example/"), {}), b"").answer()
        assert b"Proxy-Authorization" not in proxy.seen[0]


async def test_a_proxy_with_tls_passes_on_requests_too(server_tls: ssl.SSLContext) -> None:
    async with peer(OK, tls=server_tls) as proxy:
        async with client_behind(proxy.url.with_scheme("https")) as client:
            target = Target("POST", URL("http://service.example/chat"), {})
            assert await start(client, target).answer() == (200, b"ok")
        assert proxy.seen[0].startswith(b"POST http://service.example/chat HTTP/1.1\r\n")


async def test_a_service_with_tls_is_called_without_a_proxy(server_tls: ssl.SSLContext) -> None:
    client = LateClient()
    async with peer(OK, OK, tls=server_tls) as service:
        target = Target("POST", service.url.with_scheme("https") / "chat", {})
        for _ in range(2):
            assert await start(client, target).answer() == (200, b"ok")
        assert len(service.seen) == 1
        await client.aclose()


async def test_a_tunnel_carries_requests_to_a_service_with_tls(server_tls: ssl.SSLContext) -> None:
    async with tunnelling() as (proxy, heads), peer(OK, OK, tls=server_tls) as service:
        port = service.url.port or 0
        async with client_behind(proxy.with_user("me")) as client:
            target = Target("POST", service.url.with_scheme("https") / "chat", {})
            for _ in range(2):
                assert await start(client, target).answer() == (200, b"ok")
        assert heads == [
            b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
            b"Proxy-Authorization: Basic bWU6\r\n\r\n" % (port, port)
        ]
        assert service.seen[0].startswith(b"POST /chat HTTP/1.1\r\n")
        assert b"Proxy-" not in service.seen[0]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", "a proxy that answered HTTP 407"),
        (b"HTTP/1.0 502 Bad\r\n\r\n", "a proxy that answered HTTP 502"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "a proxy that answered with something that is not HTTP"),
        (b"HTTP/1.1 2", "a proxy that closed the connection without answering"),
        (b"", "a proxy that closed the connection without answering"),
        (b"HTTP/1.1 403 No\r\n" + b"X: y\r\n" * 10_000, "closed the connection without"),
    ],
)
async def test_a_proxy_that_opens_no_tunnel_is_named(answer: bytes, said: str) -> None:
    async with tunnelling(answer) as (proxy, _), client_behind(proxy) as client:
        failed = await start(client, Target("POST", URL("https://service.example"), {})).failure()
    assert failed.kind is FailureKind.CONNECT
    assert said in failed.message


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_cannot_be_reached_is_named(scheme: str) -> None:
    async with client_behind(URL("http://127.0.0.1:1")) as client:
        failed = await start(
            client, Target("POST", URL(f"{scheme}://service.example"), {})
        ).failure()
    assert failed.kind is FailureKind.CONNECT
    assert failed.message == "is behind a proxy that cannot be reached at 127.0.0.1:1"


async def test_an_exchange_can_be_aborted_while_its_tunnel_is_opened() -> None:
    async with tunnelling(b"HTTP/1.1 ") as (proxy, heads), client_behind(proxy) as client:
        aborted = start(client, Target("POST", URL("https://service.example"), {}))
        for _ in range(1000):
            if not heads:
                await asyncio.sleep(0)
        assert aborted.exchange is not None
        aborted.exchange.abort()
        await turns()
        assert aborted.end == Aborted()


def test_a_proxy_that_cannot_be_used_is_refused_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "https://proxy.example:3128")
    plain = "http://service.example/v1"
    with pytest.raises(ConfigError, match="HTTPS_PROXY names cannot be used"):
        HttpUpstream(name="s", base_url="https://service.example/v1", api_key=None)
    relayed: dict[Family, Address] = {"messages": Address("https://service.example")}
    with pytest.raises(ConfigError, match="HTTPS_PROXY names cannot be used"):
        HttpUpstream(name="s", base_url=plain, api_key=None, relayed=relayed)
    HttpUpstream(name="s", base_url=plain, api_key=None)
