"""One request to a service and its response, on a connection of aiohttp's pool.

aiohttp's session makes each request from its parts: address, headers, cookies, a writer with a
task of its own. To one address of a service all of it is the same every time and is made once here.
That was half of what a call cost, and one more round of the loop in which its permit was out for
nothing.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import aiohttp
from aiohttp import hdrs
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDictProxy
from yarl import URL

from exai_actors.edges.http.connector import Connector
from exai_actors.wire.openai.content_coding import BadCoding, Inflater, is_compressed

_SWITCHING_PROTOCOLS = 101


class Target:
    """An address of a service and how it is asked; only the body differs from call to call.

    Made on the running loop.
    """

    def __init__(
        self, method: str, url: URL, *, headers: dict[str, str], proxy: URL | None
    ) -> None:
        self.request = aiohttp.ClientRequest(
            method, url, headers=headers, proxy=proxy, loop=asyncio.get_running_loop()
        )
        self._head = b""

    def message(self, body: bytes) -> bytes:
        """The whole request. A proxy's own header is known once a connection has been asked for."""
        if not self._head:
            self._head = self._made_head()
        if not body:
            return self._head + b"\r\n"
        return b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body)

    def _made_head(self) -> bytes:
        request = self.request
        through_proxy = request.proxy is not None and not request.is_ssl()
        address = str(request.url) if through_proxy else request.url.raw_path_qs
        lines = [f"{request.method} {address} HTTP/1.1"]
        lines += [
            f"{name}: {value}"
            for name, value in request.headers.items()
            if name != hdrs.CONTENT_LENGTH
        ]
        return "\r\n".join([*lines, ""]).encode()


class Body(Protocol):
    """A body as it comes."""

    async def readany(self) -> bytes:
        """What has arrived, all of it at once; empty at the end."""
        ...

    def at_eof(self) -> bool: ...


class Response:
    """The head of a response; ``content`` is its body as it comes.

    Its connection goes back to the pool with the end of the body.
    """

    __slots__ = ("_connection", "content", "headers", "status")

    def __init__(
        self,
        connection: Connection,
        status: int,
        headers: CIMultiDictProxy[str],
        content: aiohttp.StreamReader,
    ) -> None:
        self._connection = connection
        self.status = status
        self.headers = headers
        coding = headers.get(hdrs.CONTENT_ENCODING)
        self.content: Body = content
        if coding is not None and is_compressed(coding):
            self.content = _Inflated(content, Inflater(coding))
        content.on_eof(self._ended)

    def hang_up(self) -> None:
        """Drop the connection unless the body was read to its end."""
        _drop(self._connection)

    def _ended(self) -> None:
        connection = self._connection
        transport = connection.transport
        if transport is not None and transport.get_write_buffer_size():
            # It was answered before it was sent; what is left of it must not precede the next.
            _drop(connection)
        else:
            connection.release()


async def exchange(connector: Connector, target: Target, body: bytes = b"") -> Response:
    """Ask, and wait for the head of the response.

    Raises aiohttp.ClientError and OSError. When it raises, or is cancelled, the connection is
    dropped at once, even with half of the request still to be sent.
    """
    request = target.request
    try:
        connection = await connector.connect(request, [], connector.timeout)
    except TimeoutError as error:
        raise aiohttp.ConnectionTimeoutError(f"no connection to {request.url}") from error
    try:
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None:
            raise aiohttp.ServerDisconnectedError
        # aiohttp's releases differ in how much they inflate at once, some without any bound.
        protocol.set_response_params(read_until_eof=True, auto_decompress=False)
        transport.write(target.message(body))
        while True:
            head, content = await protocol.read()
            if head.code >= 200 or head.code == _SWITCHING_PROTOCOLS:
                return Response(connection, head.code, head.headers, content)
    except HttpProcessingError as error:
        _drop(connection)
        raise aiohttp.ClientResponseError(
            request.request_info, (), status=error.code, message=error.message
        ) from error
    except BaseException:
        _drop(connection)
        raise


class _Inflated:
    """A compressed body, inflated a portion at a time and no sooner than it is read."""

    def __init__(self, content: aiohttp.StreamReader, inflater: Inflater) -> None:
        self._content = content
        self._inflater = inflater

    async def readany(self) -> bytes:
        inflater = self._inflater
        try:
            if inflater.truncated:
                # A few bytes may come to many portions; others have their turns between them.
                await asyncio.sleep(0)
            while not (portion := inflater.take()):
                data = await self._content.readany()
                if not data:
                    break
                inflater.feed(data)
        except BadCoding as error:
            raise aiohttp.ClientPayloadError(str(error)) from error
        if not portion and inflater.truncated:
            raise aiohttp.ClientPayloadError("the compressed body is cut off")
        return portion

    def at_eof(self) -> bool:
        return self._content.at_eof() and not self._inflater.truncated


def _drop(connection: Connection) -> None:
    """Nothing for one that was given back to the pool."""
    if connection.protocol is None:
        return
    # An orderly close would wait until what is left of the request has been sent.
    if (transport := connection.transport) is not None:
        transport.abort()
    connection.close()
