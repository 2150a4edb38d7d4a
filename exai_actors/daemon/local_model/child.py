"""The child process of the local model: started with the broker, and again when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import structlog

from exai_actors.daemon.config.provider_tables import OpenAIProvider
from exai_actors.daemon.config.tables import DEFAULT_PROVIDERS, Config
from exai_actors.daemon.local_model.parts import MODEL
from exai_actors.errors import UsageError

log = structlog.get_logger()

NAME = "local"
SLOTS = 2
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 3.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0
"""After this long the next failure is a new one, and the pause short again."""
MAX_LINE_BYTES = 4096
LINES_KEPT = 20
_READY = re.compile(rb"\bready (http://\S+)\s*$")

Sleep = Callable[[float], Awaitable[object]]


def with_local_model(config: Config, port: int) -> Config:
    """The configuration with the model as one more provider, in place of the built-in one.

    Raises UsageError if it has a provider of that name.
    """
    providers = () if config.provider == DEFAULT_PROVIDERS else config.provider
    if any(provider.name == NAME for provider in providers):
        raise UsageError(f'--local adds a provider "{NAME}", which the configuration has already')
    local = OpenAIProvider(
        name=NAME,
        base_url=f"http://127.0.0.1:{port}/v1",
        families=("chat", "messages", "responses", "embeddings"),
        count_tokens="relay",
        models=(MODEL,),
        limit=SLOTS,
    )
    return msgspec.structs.replace(config, provider=(*providers, local))


def free_port() -> int:
    """A port that the child can listen on, and again after a restart."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def command(port: int) -> tuple[str, ...]:
    return (sys.executable, "-m", "exai_actors.daemon.local_model.server", str(port), str(SLOTS))


@asynccontextmanager
async def local_model(
    command: tuple[str, ...], sleep: Sleep = asyncio.sleep
) -> AsyncIterator[Process]:
    """Run the model while the block runs, from the moment when it answers.

    Raises UsageError if it does not start; an end later is logged, and it is started again.
    """
    child = _Child(command, sleep)
    process = await child.start()
    keeping = asyncio.ensure_future(child.keep())
    try:
        yield process
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        await child.stop()


class _Child:
    def __init__(self, command: tuple[str, ...], sleep: Sleep) -> None:
        self._command = command
        self._sleep = sleep
        self._process: Process
        self._lines: list[str] = []

    async def start(self) -> Process:
        """Start it and wait until it answers. Raises UsageError with its last words."""
        # A session of its own: Ctrl-C is for the broker, which ends the child after its requests.
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            limit=MAX_LINE_BYTES,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_TIMEOUT_S):
                async for line in self._output():
                    if found := _READY.search(line):
                        url = found[1].decode()
                        log.info("local.started", url=url, process=self._process.pid)
                        return self._process
        await self.stop()
        last = " / ".join(self._lines[-3:]) or "it printed nothing"
        raise UsageError(f"the local model did not start: {last}")

    async def keep(self) -> None:
        """Pass its output to the log, and start it again whenever it ends."""
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE_S
        while True:
            began = loop.time()
            async for _ in self._output():
                pass
            code = await self._process.wait()
            if loop.time() - began > STEADY_S:
                pause = FIRST_PAUSE_S
            log.warning("local.ended", code=code, again_in_s=pause, last=self._lines[-1:])
            await self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
            try:
                await self.start()
            except UsageError as error:
                log.warning("local.not_started", detail=str(error))

    async def stop(self) -> None:
        """End it: by the end of its input, and by force if that is not enough."""
        if self._process.returncode is not None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _output(self) -> AsyncIterator[bytes]:
        """Its lines, until it closes them; a longer one comes in parts."""
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readuntil()
            except asyncio.LimitOverrunError:
                line = await self._process.stdout.read(MAX_LINE_BYTES)
            except asyncio.IncompleteReadError as error:
                line = error.partial
            if not line:
                return
            text = line.decode("utf-8", "replace").strip()
            self._lines = [*self._lines[1 - LINES_KEPT :], text[:300]]
            log.debug("local.output", line=text[:300])
            yield line
