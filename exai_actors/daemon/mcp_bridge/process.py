"""The event loop of the bridge, and the ends of its process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable

from exai_actors.daemon.mcp_bridge.bridge import Bridge
from exai_actors.daemon.mcp_bridge.lines import MAX_UNWRITTEN_BYTES, Input, LineReader, Output

_TICK_S = 1.0
_LAST_WORDS_S = 1.0
LAST_ANSWERS_S = 30.0
"""How long calls may take after the end of stdin. A host that does not want to wait sends a signal.
"""
_LOOK_EVERY_S = 0.05


async def serve(bridge: Bridge, reader: LineReader, output: Output, parent: int) -> bool:
    """Run until the process has to end; returns whether Ctrl-C is the reason."""
    return await _Process(bridge, reader, output, parent).serve()


class _Process:
    """Passes the host's lines to the bridge while both keep up with what they get.

    It ends with stdin, with a signal, or when ``parent`` is not the parent any more: a host that
    was killed may have left its end of stdin to another process. After the end of stdin, calls
    that have no answer yet have some time for it, as long as anything reads stdout.
    """

    def __init__(self, bridge: Bridge, reader: LineReader, output: Output, parent: int) -> None:
        self._bridge = bridge
        self._reader = reader
        self._output = output
        self._parent = parent
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[bool] = self._loop.create_future()
        self._input: Input
        self._last_answers: asyncio.Task[None] | None = None

    async def serve(self) -> bool:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            self._loop.add_signal_handler(number, self._end, number == signal.SIGINT)
        self._input = Input(0, lambda data: self._on_loop(self._received, data))
        self._output.on_written = lambda: self._on_loop(self._read_on)
        tasks = [
            asyncio.create_task(self._bridge.run(), name="exai-mcp-connection"),
            asyncio.create_task(self._tick(), name="exai-mcp-tick"),
        ]
        try:
            return await self._ended
        finally:
            self._bridge.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._bridge.flush()
            if self._last_answers is not None:
                tasks.append(self._last_answers)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, is_interrupt: bool) -> None:
        if not self._ended.done():
            self._ended.set_result(is_interrupt)

    def _received(self, data: bytes) -> None:
        for line in self._reader.feed(data):
            self._bridge.received(line)
        if not data:
            self._last_answers = asyncio.create_task(self._end_after_answers())
        self._read_on()

    async def _end_after_answers(self) -> None:
        until = self._loop.time() + LAST_ANSWERS_S
        # Whether a pipe has a reader can only be polled.
        while self._bridge.is_busy and self._output.has_reader and self._loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_EVERY_S)
        self._end(False)

    def _read_on(self) -> None:
        if not self._output.is_full and self._bridge.unsent <= MAX_UNWRITTEN_BYTES:
            self._input.resume()

    def _on_loop(self, function: Callable[..., object], *arguments: object) -> None:
        # The loop is closed when the process ends.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            if os.getppid() != self._parent:
                self._end(False)
            self._bridge.tick()
            self._read_on()
