"""The demo's broker: `exai serve` as a child process on a free port."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from exai_actors.daemon.demo.scarce_service import MODEL
from exai_actors.errors import ExaiError

START_S = 20.0
STOP_S = 5.0


class DemoFailed(ExaiError):
    """The demo's broker did not start; the message includes its output."""


@asynccontextmanager
async def broker_in_front_of(upstream: str, limit: int) -> AsyncIterator[str]:
    """Run a broker with one provider at ``upstream``; yields the broker's URL.

    Raises DemoFailed when it does not start. The broker ends with the block.
    """
    with tempfile.TemporaryDirectory(prefix="exai-demo-") as folder:
        file = Path(folder) / "exai.toml"
        file.write_text(_config(upstream, limit))
        process = await _start(file)
        try:
            yield await _ready(process)
        finally:
            await _stop(process)


def _config(upstream: str, limit: int) -> str:
    return f"""\
[server]
drain_s = 0
[logging]
level = "error"
format = "text"
[[provider]]
kind = "openai"
name = "scarce"
base_url = "{upstream}"
models = ["{MODEL}"]
limit = {limit}
"""


async def _start(file: Path) -> Process:
    # Neither the user's settings nor Ctrl-C may reach this broker; the demo ends it.
    env = {name: value for name, value in os.environ.items() if not name.startswith("EXAI_")}
    command = [sys.executable, "-m", "exai_actors", "serve", "--config", str(file)]
    return await asyncio.create_subprocess_exec(
        *command,
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=env,
        start_new_session=True,
    )


async def _ready(process: Process) -> str:
    if process.stdout is None or process.stderr is None:
        raise DemoFailed("the demo's broker has no pipes")
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_S)
    except TimeoutError:
        raise DemoFailed(f"the demo's broker did not start within {START_S:g} s") from None
    word, _, url = line.decode().strip().partition(" ")
    if word != "ready":
        output = (await process.stderr.read(4096)).decode(errors="replace")
        raise DemoFailed(f"the demo's broker did not start: {output}")
    return url


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            # communicate also drains the pipes; a full one would keep the process from ending.
            await asyncio.wait_for(process.communicate(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.communicate()
