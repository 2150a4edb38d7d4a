"""Opening a connection: the hello, and the errors."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any

import pytest

from exai_actors.client import ConnectError, NotAccepting, Unauthorized, UsageError, connect
from exai_actors.client.settings import Settings
from exai_actors.client.urls import parse_url
from tests.client.scripted_peer import scripted_peer


async def _refused(url: str, **settings: Any) -> ConnectError:
    with pytest.raises(ConnectError) as raised:
        async with connect(url, **settings):
            pass
    return raised.value


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_hello_has_token_and_session() -> None:
    async with (
        scripted_peer() as peer,
        connect(peer.url, token="t" * 16, session_id="wanted") as broker,
    ):
        hello = await peer.receive("hello")
        assert (hello["token"], hello["session_id"]) == ("t" * 16, "wanted")
        assert broker.session_id == "session-1"


async def test_a_missing_broker_is_reported_with_url_and_advice() -> None:
    url = f"ws://127.0.0.1:{_free_port()}"
    error = await _refused(url)
    assert str(error).startswith(f"cannot connect to {url}: connection refused.")
    assert "exai serve" in str(error)


async def test_a_tls_url_without_tls_is_reported() -> None:
    async with scripted_peer() as peer:
        error = await _refused(peer.url.replace("ws:", "wss:"))
    assert re.match(
        r"cannot connect to wss://127\.0\.0\.1:\d+: \w.*the URL begins with ws://", f"{error}"
    )


async def test_a_wrong_token_is_unauthorized() -> None:
    ack = {"op": "hello_ack", "ok": False, "error": "unauthorized"}
    async with scripted_peer(ack) as peer:
        with pytest.raises(Unauthorized, match=r"does not accept the token; .*\[\[access\]\]"):
            async with connect(peer.url, token="secret-of-somebody"):
                pass


async def test_a_missing_token_is_reported() -> None:
    ack = {"op": "hello_ack", "ok": False, "error": "unauthorized"}
    async with scripted_peer(ack) as peer:
        with pytest.raises(Unauthorized, match="requires a token"):
            async with connect(peer.url):
                pass


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"op": "hello_ack", "ok": False, "error": "draining"}, "refused with 'draining'"),
        ({"op": "welcome"}, "the first frame was 'welcome', not hello_ack"),
        (b"good morning", "not a frame"),
    ],
)
async def test_another_answer_to_hello_is_reported(
    answer: dict[str, Any] | bytes, reason: str
) -> None:
    async with scripted_peer(answer) as peer:
        assert reason in str(await _refused(peer.url))


async def test_a_silent_server_times_out() -> None:
    async with scripted_peer(None) as peer:
        assert "no answer within 0.05 s" in str(await _refused(peer.url, open_timeout_s=0.05))


async def test_a_server_that_closes_is_reported_with_its_reason() -> None:
    async with scripted_peer(None) as peer:
        connecting = asyncio.create_task(_refused(peer.url))
        await peer.receive("hello")
        await (await peer.socket()).close(1008, "too many connections")
        assert "1008 too many connections" in str(await connecting)


async def test_a_server_of_another_protocol_is_reported() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert "does not speak WebSocket" in str(await _refused(f"ws://127.0.0.1:{port}"))


@pytest.mark.parametrize(
    ("head", "body", "why", "retry_after"),
    [
        ("Retry-After: 5\r\n", b"It drains.\nLater.\n", "it answers 503 (It drains)", 5.0),
        ("", b"", "it answers 503 (Service Unavailable)", None),
        ("Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n", b"<p>No", "503 (<p>No)", None),
        ("Retry-After: -1\r\n", b"\xff" + b"a" * 5_000, "503 (\ufffd" + "a" * 199 + ")", None),
    ],
)
async def test_a_broker_that_takes_no_clients_is_reported_with_the_time_to_come_back(
    head: str, body: bytes, why: str, retry_after: float | None
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head_ = f"HTTP/1.1 503 Service Unavailable\r\n{head}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head_.encode() + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        refused = await _refused(f"ws://127.0.0.1:{port}")
    assert isinstance(refused, NotAccepting)
    assert why in str(refused)
    assert refused.retry_after == retry_after


async def test_port_0_is_not_the_default_port() -> None:
    assert "nothing can listen on port 0" in str(await _refused("ws://127.0.0.1:0/here"))


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "127.0.0.1:8079", "ws://", "ws://h:99999", "ws://[::1"]
)
async def test_an_invalid_url_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match=r"is not a WebSocket URL .*ws://127\.0\.0\.1:8079"):
        async with connect(url):
            pass


@pytest.mark.parametrize("settings", [{"token": "\ud800"}, {"token": 5}, {"session_id": b"one"}])
async def test_an_unencodable_hello_is_a_usage_error(settings: dict[str, Any]) -> None:
    async with scripted_peer() as peer:
        with pytest.raises(UsageError, match=f"{next(iter(settings))} "):
            await connect(peer.url, **settings).__aenter__()


async def test_a_client_is_opened_once_and_used_only_then() -> None:
    async with scripted_peer() as peer:
        client = connect(peer.url)
        with pytest.raises(UsageError, match="not connected"):
            await client.ping()
        async with client:
            pass
        with pytest.raises(UsageError, match="opened before"):
            async with client:
                pass


def test_neither_the_url_nor_the_settings_show_secrets() -> None:
    assert parse_url("ws://user:secret@host:1/path").display == "ws://host:1/path"
    assert "secret" not in repr(Settings(token="secret-secret-secret"))
