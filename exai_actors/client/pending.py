"""The outstanding calls and replies of one connection.

The connection's reader feeds both, and neither ever blocks it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from exai_actors.client.codec import Frame, error_body, output_texts
from exai_actors.client.errors import StreamGap, broker_error
from exai_actors.client.results import CallResult, Progress

OnProgress = Callable[[Progress], object]
OnReasoning = Callable[[str], object]


class PendingReply:
    """An operation that one frame answers: ``tools``, ``health``, ``ping``."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self._reply: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()

    def on_frame(self, frame: Frame) -> bool:
        """Take the answer; True, because it is the last frame."""
        if not self._reply.done():
            if frame.error is not None:
                self._reply.set_exception(
                    broker_error(error_body(frame.error), self.request_id),
                )
            else:
                self._reply.set_result(frame)
        return True

    def fail(self, error: Exception) -> None:
        if not self._reply.done():
            self._reply.set_exception(error)
            # If the caller is gone, asyncio would report the error as never retrieved.
            self._reply.exception()

    async def reply(self) -> Frame:
        return await self._reply


class PendingCall:
    """One outstanding call: unread pieces up to ``max_unread`` characters, then one outcome.

    Pieces beyond the limit are dropped, because waiting for their reader would delay every other
    call of the connection. No text is lost: the outcome repeats it all, and ``next_piece`` returns
    the missing rest as the last piece.
    """

    def __init__(
        self,
        request_id: str,
        max_unread: int,
        on_progress: OnProgress | None = None,
        on_reasoning: OnReasoning | None = None,
    ) -> None:
        self.request_id = request_id
        self.progress: Progress | None = None
        self._max_unread = max_unread
        self._on_progress = on_progress
        self._on_reasoning = on_reasoning
        self._pieces: deque[str] = deque()
        self._unread = 0
        self._kept_size = 0
        self._last_kept = ""
        self._sequence = 0
        self._gap = False
        self._result: CallResult | None = None
        self._error: Exception | None = None
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def on_frame(self, frame: Frame) -> bool:
        """Take a frame of this call; True when it was the last one."""
        match frame.op:
            case "stream_chunk":
                self._on_chunk(frame)
            case "reasoning_chunk":
                self._on_reasoning_chunk(frame)
            case "call_tool_ack" | "progress":
                self._on_progress_frame(frame)
            case "call_tool_res" | "error" | "":
                self._on_outcome(frame)
        return self.ended

    def fail(self, error: Exception) -> None:
        """End the call without a result. Harmless after the end."""
        if not self.ended:
            self._error = error
            self._end()

    def result_now(self) -> CallResult:
        """The result of an ended call. Raises the error of a failed one."""
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise AssertionError(f"call {self.request_id} has not ended")
        return self._result

    async def result(self) -> CallResult:
        await self._ended.wait()
        return self.result_now()

    async def next_piece(self) -> str | None:
        """The next piece of text, None after the last. A failed call raises after its pieces."""
        while not self._pieces and not self.ended:
            self._changed.clear()
            await self._changed.wait()
        if self._pieces:
            piece = self._pieces.popleft()
            self._unread -= len(piece)
            return piece
        return self._rest(self.result_now().text)

    def _rest(self, text: str) -> str | None:
        """The part of the result's ``text`` that was not kept in pieces."""
        if self._kept_size and not self._gap:
            return None
        if not text.startswith(self._last_kept, self._kept_size - len(self._last_kept)):
            raise StreamGap(
                f"pieces of {self.request_id} were lost after {self._kept_size} characters and "
                "its result does not continue them; the whole result is in .result of the stream"
            )
        rest = text[self._kept_size :]
        self._kept_size = len(text)
        self._last_kept = ""
        return rest or None

    def _on_chunk(self, frame: Frame) -> None:
        piece = frame.chunk or ""
        self._count(frame)
        if self._unread + len(piece) > self._max_unread:
            self._gap = True
        if self._gap or not piece:
            return
        self._pieces.append(piece)
        self._unread += len(piece)
        self._kept_size += len(piece)
        self._last_kept = piece
        self._changed.set()

    def _on_reasoning_chunk(self, frame: Frame) -> None:
        self._count(frame)
        if frame.chunk and self._on_reasoning is not None:
            asyncio.get_running_loop().call_soon(self._on_reasoning, frame.chunk)

    def _count(self, frame: Frame) -> None:
        """Note the number of a chunk, and a gap before it."""
        sequence = self._sequence if frame.sequence is None else frame.sequence
        if sequence != self._sequence:
            self._gap = True
        self._sequence = sequence + 1

    def _on_progress_frame(self, frame: Frame) -> None:
        self.progress = Progress(
            request_id=self.request_id,
            position=frame.position,
            estimate_s=frame.estimate_s,
            note=frame.note,
            waits_for=frame.waits_for,
        )
        if self._on_progress is not None:
            # An exception in the caller's function must not end the reader of all calls.
            asyncio.get_running_loop().call_soon(self._on_progress, self.progress)

    def _on_outcome(self, frame: Frame) -> None:
        if frame.error is not None:
            self.fail(broker_error(error_body(frame.error), self.request_id))
            return
        outputs = output_texts(frame.outputs)
        text = frame.text if frame.text is not None else "\n\n".join(filter(None, outputs))
        self._result = CallResult(
            text=text,
            outputs=outputs,
            continuation_id=frame.continuation_id,
            dropped_turns=frame.dropped_turns,
            metadata=frame.metadata or {},
            request_id=self.request_id,
        )
        self._end()

    def _end(self) -> None:
        self._ended.set()
        self._changed.set()
