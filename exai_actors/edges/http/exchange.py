"""One request to a service and its response, on a connection of aiohttp's pool.

aiohttp's session is not used: it builds every request from its parts and writes it from a task,
which nearly doubles the CPU time of a call through the broker. The requests to one address differ
in their body only, so their head is built once.

Below its session, aiohttp documents ``connect`` and Connection's ``transport``, ``release`` and
``close``. Also needed are ``Connection.protocol`` with ``set_response_params``, ``read`` and
others, which have no leading underscore but no documentation either, and that protocol's
``_parser``; the tests in ``tests/edges/http/test_aiohttp_contract.py`` fail by name if a release
of aiohttp lacks one.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from yarl import URL

from exai_actors.core.trace_context import TraceContext
from exai_actors.edges.http.client import trace_fields
from exai_actors.edges.http.connector import Connector, Handler, ReceivedBody
from exai_actors.edges.http.response_head import MAX_INTERIM_RESPONSES, SWITCHING_PROTOCOLS

_OK = 200
_REQUEST_TIMEOUT = 408
_KEEP_ALIVE = "Keep-Alive"


class Progress(Protocol):
    """The call that a request belongs to.

    ``fresh``: it needs a new connection. ``trace`` goes with the request.
    """

    fresh: bool
    trace: TraceContext | None

    def connected(self) -> None:
        """It has a connection."""


class StaleConnectionError(aiohttp.ServerDisconnectedError):
    """The service closed a connection that had been idle, and answered nothing on it.

    It has probably closed it before the request arrived. A 408 that closes is no answer: it says
    that no request came in time (RFC 9110, 15.5.9).
    """


class TooManyInterimResponses(aiohttp.ClientError):
    """More than MAX_INTERIM_RESPONSES."""


class Endpoint:
    """One address of a service. Its requests differ in nothing but the body.

    To be made on the running loop.
    """

    def __init__(
        self, method: str, url: URL, *, headers: dict[str, str], proxy: URL | None
    ) -> None:
        self.request = aiohttp.ClientRequest(
            method, url, headers=headers, proxy=proxy, loop=asyncio.get_running_loop()
        )
        self._head = b""

    def encode(self, body: bytes, trace: TraceContext | None = None) -> bytes:
        """The whole request. To be called once a connection has been taken for it.

        Only then does aiohttp add the header for a proxy.
        """
        if not self._head:
            self._head = self._encode_head()
        if trace is not None:
            body_head = self._head + trace_fields(trace)
            return b"%bContent-Length: %d\r\n\r\n%b" % (body_head, len(body), body)
        if not body:
            return self._head + b"\r\n"
        return b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body)

    def _encode_head(self) -> bytes:
        request = self.request
        through_proxy = request.proxy is not None and not request.is_ssl()
        target = str(request.url) if through_proxy else request.url.raw_path_qs
        lines = [f"{request.method} {target} HTTP/1.1"]
        lines += [
            f"{name}: {value}"
            for name, value in request.headers.items()
            if name != hdrs.CONTENT_LENGTH
        ]
        return "\r\n".join([*lines, ""]).encode()


class Response:
    """The head of a response; ``content`` is its body as it was sent.

    The connection returns to the pool when the body has ended.
    """

    __slots__ = ("_connection", "_handler", "content", "headers", "status")

    def __init__(
        self,
        connection: Connection,
        handler: Handler,
        head: RawResponseMessage,
        received: aiohttp.StreamReader,
    ) -> None:
        self._connection = connection
        self._handler = handler
        self.status = head.code
        self.headers = head.headers
        self.content = body = handler.body = ReceivedBody(received)
        if handler.transport is None:
            body.keep_unread(handler.broken_rule())
            body.fail(None)
        received.on_eof(self._finish)

    def close(self) -> None:
        """Abort the connection unless the body was read to its end."""
        _abort(self._connection)

    def _finish(self) -> None:
        connection, handler = self._connection, self._handler
        handler.body = None
        transport = connection.transport
        if transport is not None and transport.get_write_buffer_size():
            # The answer came before the request was sent, the rest of which must not precede the
            # next one.
            _abort(connection)
            return
        keep_alive = self.headers.get(_KEEP_ALIVE)
        if keep_alive is not None:
            handler.note_keep_alive(keep_alive)
        connection.release()


async def exchange(
    connector: Connector,
    endpoint: Endpoint,
    body: bytes = b"",
    progress: Progress | None = None,
) -> Response:
    """Send a request and wait for the head of its response.

    Raises aiohttp.ClientError and OSError. When it raises or is cancelled, the connection is
    aborted immediately, even if half of the request is still to be sent. Connecting
    is limited by aiohttp's timeout, or by that of the call in ``progress``.
    """
    request = endpoint.request
    if progress is None:
        try:
            connection, was_used = await connector.take(request)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"no connection to {request.url}") from error
    else:
        connection, was_used = await connector.take(request, fresh=progress.fresh, patient=True)
        progress.connected()
    try:
        protocol, transport = connection.protocol, connection.transport
        if not isinstance(protocol, Handler) or transport is None:
            raise aiohttp.ServerDisconnectedError
        protocol.expect_response()
        transport.write(endpoint.encode(body, None if progress is None else progress.trace))
        head, received = await protocol.read()
        if head.code != _OK:
            if head.code < _OK and head.code != SWITCHING_PROTOCOLS:
                head, received = await _skip_interim(protocol)
            elif head.code == _REQUEST_TIMEOUT and was_used and head.should_close:
                raise StaleConnectionError
        return Response(connection, protocol, head, received)
    except HttpProcessingError as error:
        _abort(connection)
        raise aiohttp.ClientResponseError(
            request.request_info, (), status=error.code, message=error.message
        ) from error
    except (aiohttp.ServerDisconnectedError, OSError) as error:
        _abort(connection)
        if was_used and isinstance(protocol, Handler) and not protocol.ended_within_head:
            raise StaleConnectionError from error
        raise
    except BaseException:
        _abort(connection)
        raise


async def _skip_interim(
    protocol: ResponseHandler,
) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
    """Read the head of the response behind an interim response."""
    try:
        for _ in range(MAX_INTERIM_RESPONSES):
            head, received = await protocol.read()
            if head.code >= 200 or head.code == SWITCHING_PROTOCOLS:
                return head, received
    except (aiohttp.ServerDisconnectedError, OSError) as error:
        raise aiohttp.ClientPayloadError("the connection ended before the answer") from error
    raise TooManyInterimResponses


def _abort(connection: Connection) -> None:
    """Close a connection without sending the rest of its request; no effect if it was released."""
    if connection.protocol is None:
        return
    if (transport := connection.transport) is not None:
        transport.abort()
    connection.close()
