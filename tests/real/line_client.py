"""A WebSocket client in a child process, which sends each line of its input as a frame."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.real.frame_client import ANSWER_TIMEOUT_S, Frame, FrameClient

MAX_LINE = 2**26


class LineClient(FrameClient):
    """Uses a third-party client through its standard input and output."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__()
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._input = process.stdin
        self._output = process.stdout

    async def send(self, frame: Frame) -> None:
        self._input.write(json.dumps(frame).encode() + b"\n")
        await self._input.drain()

    async def _receive(self) -> Frame:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            line = await self._output.readline()
        if not line:
            raise AssertionError(f"the client has ended; it had received {self.received}")
        frame = json.loads(line)
        assert isinstance(frame, dict), frame
        return frame

    async def close(self) -> int:
        """Close the client's input, so that it closes its connection; returns its exit code."""
        self._input.close()
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            rest = await self._output.read()
            code = await self._process.wait()
        self.received.extend(json.loads(line) for line in rest.splitlines() if line)
        return code


@asynccontextmanager
async def line_client(
    command: Sequence[str | Path], env: Mapping[str, str] | None = None
) -> AsyncIterator[LineClient]:
    """Run the client's program while the block runs."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=None if env is None else dict(env),
        limit=MAX_LINE,
    )
    try:
        yield LineClient(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
