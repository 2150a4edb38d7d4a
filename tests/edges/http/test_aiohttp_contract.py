"""The parts of aiohttp below its session that the HTTP edge uses.

Fails, and names the part, when a release of aiohttp lacks one. How the parts behave is tested over
real sockets in ``test_exchange`` and ``test_upstream_connections``.
"""

import asyncio
import inspect
from collections.abc import Callable
from importlib.metadata import requires, version
from typing import Any

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_parser import RawResponseMessage
from yarl import URL


def parameters_of(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_installed_aiohttp_is_one_that_the_package_allows() -> None:
    assert "aiohttp<4,>=3.12.7" in (requires("exai-actors") or ())
    assert (3, 12, 7) <= tuple(int(part) for part in version("aiohttp").split(".")[:3]) < (4,)


def test_a_connector_connects_for_a_request_with_traces_and_timeout() -> None:
    assert parameters_of(aiohttp.BaseConnector.connect) == ["self", "req", "traces", "timeout"]


@pytest.mark.parametrize("name", ["protocol", "transport", "release", "close"])
def test_a_connection_has(name: str) -> None:
    assert hasattr(Connection, name)


@pytest.mark.parametrize(
    "name",
    ["should_close", "force_close", "closed", "exception", "set_response_params", "read"],
)
def test_the_protocol_of_a_connection_has(name: str) -> None:
    assert hasattr(ResponseHandler, name)


async def test_a_connector_makes_its_protocols_by_a_factory() -> None:
    connector = aiohttp.TCPConnector()
    assert isinstance(connector._factory(), ResponseHandler)
    await connector.close()


async def test_a_protocol_asks_its_parser_at_the_end_of_its_connection() -> None:
    protocol = ResponseHandler(asyncio.get_running_loop())
    protocol.set_response_params()
    ends: list[bool] = []

    class Witness:
        def feed_eof(self) -> None:
            ends.append(True)

    assert protocol._parser is not None
    protocol._parser = Witness()  # type: ignore[assignment]
    protocol.connection_lost(None)
    assert ends == [True]


async def test_a_protocol_feeds_its_parser_and_hands_on_the_heads_that_it_returns() -> None:
    protocol = ResponseHandler(asyncio.get_running_loop())
    protocol.set_response_params()
    parser: Any = protocol._parser

    class StandIn:
        def feed_data(self, data: bytes) -> Any:
            messages, upgraded, rest = parser.feed_data(data)
            assert (len(messages), upgraded, rest) == (1, False, b"")
            return messages, upgraded, rest

    protocol._parser = StandIn()  # type: ignore[assignment]
    protocol.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    head, body = await protocol.read()
    assert (head.code, await body.read()) == (200, b"ok")


@pytest.mark.parametrize("name", ["read_until_eof", "auto_decompress"])
def test_a_response_can_be_read_with(name: str) -> None:
    assert name in parameters_of(ResponseHandler.set_response_params)


@pytest.mark.parametrize("name", ["code", "headers"])
def test_the_head_of_a_response_has(name: str) -> None:
    assert hasattr(RawResponseMessage, name)


@pytest.mark.parametrize(
    "name",
    ["readany", "read_nowait", "at_eof", "is_eof", "on_eof", "exception", "set_exception"],
)
def test_the_body_of_a_response_has(name: str) -> None:
    assert hasattr(aiohttp.StreamReader, name)


async def test_a_request_has_what_its_head_is_built_from() -> None:
    request = aiohttp.ClientRequest(
        "POST",
        URL("http://127.0.0.1/v1"),
        headers={"Accept": "*/*"},
        proxy=None,
        loop=asyncio.get_running_loop(),
    )
    assert request.method == "POST"
    assert request.url == URL("http://127.0.0.1/v1")
    assert request.headers["Accept"] == "*/*"
    assert request.headers["Host"] == "127.0.0.1"
    assert request.proxy is None
    assert not request.is_ssl()
    assert request.request_info.url == request.url
