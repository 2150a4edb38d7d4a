"""A streamed answer: an asynchronous iterable of pieces, then a result."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from exai_actors.client.connection import Connection
from exai_actors.client.pending import PendingCall
from exai_actors.client.results import CallResult, Progress
from exai_actors.errors import UsageError


class Stream:
    """One streaming call. Iterate it once; the call is sent when the iteration begins::

        async for piece in broker.stream("chat", prompt="Hello"):
            print(piece, end="")

    Leaving the loop early, by ``break``, an exception or the task's cancellation, cancels the call
    at the broker. On CPython that happens immediately, because the loop has the only reference to
    the iterator. On any Python, ``async with`` or ``aclose`` determines the end.

    The pieces joined are the text of the result. A tool that does not stream returns its text as
    one piece. A reader more than ``max_unread`` characters behind delays no other call; it gets the
    text that it missed as the last piece.
    """

    def __init__(
        self, connection: Connection, pending: PendingCall, frame: bytes, timeout_s: float | None
    ) -> None:
        self._connection = connection
        self._pending = pending
        self._frame = frame
        self._timeout_s = timeout_s
        self._iterated = False
        self._submitted = False

    @property
    def request_id(self) -> str:
        return self._pending.request_id

    @property
    def progress(self) -> Progress | None:
        """The latest progress of the call, None before the first."""
        return self._pending.progress

    @property
    def result(self) -> CallResult:
        """The whole answer. Raises UsageError before the end, and the error of a failed call."""
        if not self._pending.ended:
            raise UsageError("the result exists only after the last piece: read the stream first")
        return self._pending.result_now()

    def __aiter__(self) -> StreamPieces:
        if self._iterated:
            raise UsageError("a stream can be iterated only once; its whole text is in .result")
        self._iterated = True
        return StreamPieces(self)

    async def __aenter__(self) -> Self:
        self._submit()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the call unless it has ended. Idempotent."""
        self._connection.abandon(self._pending)

    def _submit(self) -> None:
        if not self._submitted:
            self._submitted = True
            self._connection.submit(self._pending, self._frame, self._timeout_s)

    async def _next_piece(self) -> str | None:
        try:
            self._submit()
            return await self._pending.next_piece()
        except BaseException:
            # The traceback keeps the iterator alive, so its finalizer would run too late.
            self._connection.abandon(self._pending)
            raise

    def _abandon(self) -> None:
        self._connection.abandon_threadsafe(self._pending)


class StreamPieces:
    """The iterator of a loop over a Stream; its finalizer cancels the call."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        piece = await self._stream._next_piece()
        if piece is None:
            raise StopAsyncIteration
        return piece

    def __del__(self) -> None:
        self._stream._abandon()
