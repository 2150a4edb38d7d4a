"""The synchronous client: the asynchronous one, run on a background thread.

Any number of threads may use it concurrently; each waits for its own call only.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

from exai_actors.client.client import BrokerClient, connect
from exai_actors.client.loop_thread import LoopThread
from exai_actors.client.results import CallResult, Progress
from exai_actors.client.settings import DEFAULT_URL, ConnectOptions
from exai_actors.client.stream import Stream, StreamPieces
from exai_actors.errors import UsageError

P = ParamSpec("P")
T = TypeVar("T")


def connect_sync(url: str = DEFAULT_URL, **options: Unpack[ConnectOptions]) -> SyncBrokerClient:
    """A client to open with ``with``; the options are those of ``connect``."""
    return SyncBrokerClient(connect(url, **options))


def _blocking(
    method: Callable[Concatenate[BrokerClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncBrokerClient, P], T]:
    """``method`` for callers that block."""

    @functools.wraps(method)
    def blocking(self: SyncBrokerClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._opened.run(method(self._client, *args, **kwargs))

    return blocking


def _streaming(
    method: Callable[Concatenate[BrokerClient, P], Stream],
) -> Callable[Concatenate[SyncBrokerClient, P], SyncStream]:
    """``method`` for ``for`` loops."""

    @functools.wraps(method)
    def streaming(self: SyncBrokerClient, /, *args: P.args, **kwargs: P.kwargs) -> SyncStream:
        self._check_opened()
        return SyncStream(method(self._client, *args, **kwargs), self)

    return streaming


class SyncBrokerClient:
    """``BrokerClient`` for code without an event loop: the same methods, arguments and errors.

    An interrupt (Ctrl-C) while a call waits cancels the call. ``on_progress`` and
    ``on_reasoning`` are called on the client's thread and must not call the client.
    """

    def __init__(self, client: BrokerClient) -> None:
        self._client = client
        self._thread: LoopThread | None = None

    def __enter__(self) -> Self:
        """Connect and send hello. Raises the errors of ``open_connection``."""
        if self._thread is not None:
            raise UsageError("this client was opened before; make a new one with connect_sync()")
        self._thread = thread = LoopThread("exai-client", self._client.aclose)
        self._stop = weakref.finalize(self, thread.stop)
        try:
            thread.run(self._client.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and end the thread; outstanding calls fail. Idempotent."""
        if self._thread is not None:
            self._stop()

    @property
    def session_id(self) -> str:
        """The session's id."""
        self._check_opened()
        return self._client.session_id

    @property
    def resume(self) -> str | None:
        """The secret with which ``connect_sync`` joins this session; None if its id is enough."""
        self._check_opened()
        return self._client.resume

    @property
    def resumed(self) -> bool:
        """Whether the session existed before, with its conversations and outcomes."""
        self._check_opened()
        return self._client.resumed

    call = _blocking(BrokerClient.call)
    cancel = _blocking(BrokerClient.cancel)
    tools = _blocking(BrokerClient.tools)
    models = _blocking(BrokerClient.models)
    health = _blocking(BrokerClient.health)
    ping = _blocking(BrokerClient.ping)
    stream = _streaming(BrokerClient.stream)

    @property
    def _opened(self) -> LoopThread:
        if self._thread is None:
            raise UsageError("not connected: use the client inside `with connect_sync(...)`")
        return self._thread

    def _check_opened(self) -> None:
        _ = self._opened


class SyncStream:
    """``Stream`` for a ``for`` loop or a ``with`` block."""

    def __init__(self, stream: Stream, client: SyncBrokerClient) -> None:
        self._stream = stream
        self._client = client

    @property
    def request_id(self) -> str:
        return self._stream.request_id

    @property
    def progress(self) -> Progress | None:
        """The latest progress of the call, None before the first."""
        return self._stream.progress

    @property
    def result(self) -> CallResult:
        """The whole answer. Raises UsageError before the end, and the error of a failed call."""
        return self._stream.result

    def __iter__(self) -> SyncPieces:
        return SyncPieces(aiter(self._stream), self._client)

    def __enter__(self) -> Self:
        self._client._opened.run(self._stream.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel the call unless it has ended. Idempotent, also after the client was closed."""
        thread = self._client._opened
        try:
            thread.run(self._stream.aclose())
        except UsageError:
            if not thread.stopped:
                raise


class SyncPieces(Iterator[str]):
    """The iterator of a ``for`` loop; owns the asynchronous one, which cancels the call."""

    def __init__(self, pieces: StreamPieces, client: SyncBrokerClient) -> None:
        self._pieces = pieces
        self._client = client

    def __next__(self) -> str:
        piece = self._client._opened.run(self._next())
        if piece is None:
            raise StopIteration
        return piece

    async def _next(self) -> str | None:
        # StopAsyncIteration cannot be the exception of a future.
        return await anext(self._pieces, None)
