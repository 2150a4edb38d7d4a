"""Makes requests with an HTTP client as a call would, for its tests."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf

from yarl import URL

from exai_actors.core.calls import Aborted, UpstreamFailure
from exai_actors.core.trace_context import TraceContext
from exai_actors.edges.http.client import Headers, HttpClient, HttpExchange, Receiver, Target
from exai_actors.edges.http.direct_client import DirectClient
from exai_actors.edges.http.service import HttpService
from exai_actors.edges.http.settings import HttpSettings
from exai_actors.wire.openai.redaction import NO_SECRET

HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "exai"}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def service_named(base_url: str = "http://service.example/v1") -> HttpService:
    return HttpService("kimi", NO_SECRET, base_url, HttpSettings())


class LateClient:
    """Implements ``client.HttpClient``; made for the address of the first request."""

    def __init__(self, proxy: URL | None = None) -> None:
        self._proxy = proxy
        self._client: HttpClient | None = None

    @property
    def shortest_connect_s(self) -> float:
        return inf if self._client is None else self._client.shortest_connect_s

    def start(
        self,
        target: Target,
        body: bytes,
        receiver: Receiver,
        *,
        fresh: bool = False,
        trace: TraceContext | None = None,
    ) -> HttpExchange:
        if self._client is None:
            self._client = DirectClient(service_named(), target.url, proxy=self._proxy)
        return self._client.start(target, body, receiver, fresh=fresh, trace=trace)

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()


class Recorder:
    """Implements ``client.Receiver``; keeps what it gets and checks the order."""

    def __init__(self) -> None:
        self.exchange: HttpExchange | None = None
        self.connections = 0
        self.status: int | None = None
        self.headers: Headers | None = None
        self.portions: list[bytes] = []
        self.end: UpstreamFailure | Aborted | str | None = None
        self._changed = asyncio.Event()

    @property
    def body(self) -> bytes:
        return b"".join(self.portions)

    def connected(self) -> None:
        assert self.status is None
        assert self.end is None
        self.connections += 1
        self._changed.set()

    def head(self, status: int, headers: Headers, /) -> None:
        assert self.connections == 1
        assert self.status is None
        assert self.end is None
        self.status, self.headers = status, headers
        self._changed.set()

    def whole(self, status: int, headers: Headers, body: bytes, /) -> bool:
        assert self.connections == 1
        assert self.status is None
        assert self.end is None
        return False

    def data(self, data: bytes, /) -> None:
        assert data
        assert self.status is not None
        assert self.end is None
        self.portions.append(data)
        self._changed.set()

    def ended(self) -> None:
        assert self.status is not None
        assert self.end is None
        self.end = "ended"
        self._changed.set()

    def failed(self, failure: UpstreamFailure | Aborted, /) -> None:
        assert self.end is None
        self.end = failure
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def connects(self) -> None:
        await self.until(lambda: self.connections == 1)

    async def answer(self) -> tuple[int | None, bytes]:
        """The status and the body of a response, which must be complete."""
        await self.until(lambda: self.end is not None)
        assert self.end == "ended", self.end
        return self.status, self.body

    async def failure(self) -> UpstreamFailure:
        await self.until(lambda: self.end is not None)
        assert isinstance(self.end, UpstreamFailure), self.end
        return self.end


def start(
    client: HttpClient,
    target: Target,
    body: bytes = b"{}",
    *,
    fresh: bool = False,
    trace: TraceContext | None = None,
    receiver: Recorder | None = None,
) -> Recorder:
    receiver = receiver or Recorder()
    receiver.exchange = client.start(target, body, receiver, fresh=fresh, trace=trace)
    return receiver


async def ask(client: HttpClient, url: URL, body: bytes = b"{}", *, fresh: bool = False) -> bytes:
    """The body of the response to a POST."""
    _, answer = await start(client, Target("POST", url, {}), body, fresh=fresh).answer()
    return answer


async def turns(count: int = 20) -> None:
    """Give the loop turns."""
    for _ in range(count):
        await asyncio.sleep(0)


@asynccontextmanager
async def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[URL]:
    tasks: list[asyncio.Task[None]] = []

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0, ssl=tls)
    try:
        yield URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Peer:
    """The other end of the connections; ``seen`` is the data that it read from each."""

    def __init__(self) -> None:
        self.url = URL()
        self.seen: list[bytes] = []


@asynccontextmanager
async def peer(
    *replies: bytes, reads: bool = True, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Peer]:
    """Answers the requests of each connection in turn; or without reading them."""
    found = Peer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(found.seen)
        found.seen.append(b"")
        for reply in replies:
            if reads:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
                found.seen[number] += head + await reader.readexactly(int(length or 0))
            writer.write(reply)
        await asyncio.Event().wait()

    async with serving(serve, tls) as url:
        found.url = url
        yield found
