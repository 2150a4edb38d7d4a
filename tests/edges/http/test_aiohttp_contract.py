"""The parts of aiohttp below its session that the HTTP edge builds on.

Fails, and names the part, when a release of aiohttp lacks one or has changed it. Whatever runs over
a real socket is in ``test_http_exchange`` and ``test_upstream_http_connections``.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from importlib.metadata import requires, version
from typing import Any

import aiohttp
import pytest
from aiohttp import client_proto, connector
from aiohttp.connector import Connection
from aiohttp.http_parser import RawResponseMessage
from yarl import URL

from exai_actors.edges.http.connector import Connector


@pytest.fixture
async def request_made() -> aiohttp.ClientRequest:
    return aiohttp.ClientRequest(
        "POST",
        URL("http://127.0.0.1/v1"),
        headers={"Accept": "*/*"},
        proxy=None,
        loop=asyncio.get_running_loop(),
    )


@pytest.fixture
async def made() -> AsyncIterator[Connector]:
    made = Connector(0, 5.0)
    yield made
    await made.close()


def parameters_of(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_aiohttp_is_of_a_version_that_was_read() -> None:
    assert any(line.startswith("aiohttp<4,>=3.11") for line in requires("exai-actors") or ())
    assert (3, 11) <= tuple(int(part) for part in version("aiohttp").split(".")[:2]) < (4, 0)


def test_a_connector_asks_get_for_a_pooled_connection_and_awaits_it() -> None:
    get = aiohttp.TCPConnector._get
    assert inspect.iscoroutinefunction(get)
    assert parameters_of(get) == ["self", "key", "traces"]
    assert "await self._get(key, traces)" in inspect.getsource(aiohttp.TCPConnector.connect)


def test_a_connector_connects_for_a_request_with_traces_and_timeout() -> None:
    assert parameters_of(connector.BaseConnector.connect) == ["self", "req", "traces", "timeout"]


async def test_a_pool_that_holds_nothing_gives_no_connection(
    made: Connector, request_made: aiohttp.ClientRequest
) -> None:
    assert await made._get(request_made.connection_key, []) is None


async def test_a_connector_makes_its_protocols_with_a_factory_that_can_be_replaced(
    made: Connector,
) -> None:
    source = inspect.getsource(connector.BaseConnector.__init__)
    assert "self._factory = functools.partial(ResponseHandler, loop=loop)" in source
    assert isinstance(made._factory(), client_proto.ResponseHandler)


@pytest.mark.parametrize("name", ["should_close", "set_exception", "set_response_params", "read"])
def test_a_protocol_has(name: str) -> None:
    assert hasattr(client_proto.ResponseHandler, name)


async def test_a_protocol_knows_the_body_that_is_being_read(made: Connector) -> None:
    assert made._factory()._payload is None


@pytest.mark.parametrize("name", ["protocol", "transport", "release", "close"])
def test_a_connection_has(name: str) -> None:
    assert hasattr(Connection, name)


@pytest.mark.parametrize("name", ["read_until_eof", "auto_decompress"])
def test_how_a_response_is_read_can_be_told(name: str) -> None:
    assert name in parameters_of(client_proto.ResponseHandler.set_response_params)


def test_a_connection_hands_out_one_response_after_another() -> None:
    assert inspect.iscoroutinefunction(client_proto.ResponseHandler.read)


@pytest.mark.parametrize("name", ["code", "headers"])
def test_the_head_of_a_response_has(name: str) -> None:
    assert hasattr(RawResponseMessage, name)


@pytest.mark.parametrize(
    "name", ["readany", "at_eof", "is_eof", "on_eof", "exception", "set_exception"]
)
def test_the_body_of_a_response_has(name: str) -> None:
    assert hasattr(aiohttp.StreamReader, name)


async def test_a_request_tells_what_its_head_is_made_of(
    request_made: aiohttp.ClientRequest,
) -> None:
    assert request_made.method == "POST"
    assert request_made.url == URL("http://127.0.0.1/v1")
    assert request_made.headers["Accept"] == "*/*"
    assert request_made.headers["Host"] == "127.0.0.1"
    assert request_made.proxy is None
    assert not request_made.is_ssl()
    assert request_made.request_info.url == request_made.url
