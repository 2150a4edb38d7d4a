"""A streamed answer: an asynchronous iterable of pieces with a result at its end."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from exai_actors.client.connection import Connection
from exai_actors.client.pending import PendingCall
from exai_actors.client.results import CallResult, Progress
from exai_actors.errors import UsageError


class Stream:
    """One streaming call; sent when its iteration begins.

    Iterate it once::

        async for piece in broker.stream("chat", prompt="Hello"):
            print(piece, end="")

    Leaving the loop early, by ``break``, an exception or the task's cancellation, cancels the
    call at the broker. On CPython that happens at once, because the loop owned the only
    reference to the iterator; ``async with`` says where the call ends on any Python, and
    ``aclose`` ends it by hand.

    The pieces joined are the text of the result. A tool that does not stream gives its text as
    one piece. A reader that falls behind by more than ``max_unread`` characters holds nobody
    up: it gets what it missed as one piece at the end.
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
        """The last word about the waiting call, None before the first."""
        return self._pending.progress

    @property
    def result(self) -> CallResult:
        """The whole answer. Raises UsageError before the end and a failed call's error after."""
        if not self._pending.ended:
            raise UsageError("the result is there after the last piece: read the stream first")
        return self._pending.result_now()

    def __aiter__(self) -> StreamPieces:
        if self._iterated:
            raise UsageError("a stream is iterated once; its whole text is in .result")
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
            # The traceback keeps the iterator alive, so its finalizer would come too late.
            self._connection.abandon(self._pending)
            raise

    def _left(self) -> None:
        self._connection.abandon_from_anywhere(self._pending)


class StreamPieces:
    """The iterator that a loop over a Stream owns: gone with the loop, and the call with it."""

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
        self._stream._left()
