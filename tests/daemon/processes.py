"""Run `exai` in child processes: commands to their end, brokers for the length of a block."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from exai_actors.testing.scripted_upstream import ScriptedUpstream

EXAI = (sys.executable, "-m", "exai_actors")
MODEL = "scripted-model"


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without the developer's own settings of exai."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EXAI_")}
    return kept | {"XDG_CONFIG_HOME": "/nonexistent"} | more


@dataclass(frozen=True)
class Result:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str


async def start(
    *arguments: str,
    env: dict[str, str] | None = None,
    stdin: int = PIPE,
    terminal: int | None = None,
) -> Process:
    """Start `exai` in the root folder, which has no exai.toml.

    Its stdout and stderr are pipes, or both are the given ``terminal``.
    """
    return await asyncio.create_subprocess_exec(
        *EXAI,
        *arguments,
        stdin=stdin,
        stdout=terminal or PIPE,
        stderr=terminal or PIPE,
        env=clean_environment(**(env or {})),
        cwd="/",
    )


async def ended(process: Process, stdin: bytes | None = None) -> Result:
    """Wait for the end; kill the process if the wait is cancelled."""
    try:
        out, err = await process.communicate(stdin)
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    assert process.returncode is not None
    return Result(process.returncode, (out or b"").decode(), (err or b"").decode())


async def exai(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Result:
    """Run `exai` to its end."""
    return await ended(await start(*arguments, env=env), stdin)


@dataclass(frozen=True)
class Serving:
    """A broker in a child process that is ready."""

    url: str
    process: Process

    async def stop(self) -> Result:
        """Send SIGTERM and wait for the end."""
        if self.process.returncode is None:
            self.process.terminate()
        return await ended(self.process)


@asynccontextmanager
async def serving(
    config: str, folder: Path, *arguments: str, env: dict[str, str] | None = None
) -> AsyncIterator[Serving]:
    """Run `exai serve` with this configuration on a free port while the block runs."""
    file = folder / "exai.toml"
    file.write_text(config)
    process = await start(
        "serve", "--config", str(file), "--port", "0", *arguments, env=env, stdin=DEVNULL
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        if not line.startswith("ready ws://"):
            raise AssertionError(f"not ready: {line!r} {(await ended(process)).err}")
        yield Serving(line.split()[1], process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def provider_at(upstream: ScriptedUpstream, *lines: str) -> str:
    """The ``[[provider]]`` table for this upstream, plus ``lines``."""
    table = [
        "[[provider]]",
        'kind = "openai"',
        'name = "scripted"',
        f'base_url = "{upstream.base_url}"',
        f'models = ["{MODEL}"]',
        *lines,
    ]
    return "\n".join(table) + "\n"
