"""`exai` as child processes of a test: commands that run to their end, and brokers that serve."""

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
    """The environment without any setting of exai, so that a developer's own have no effect."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EXAI_")}
    return kept | {"XDG_CONFIG_HOME": "/nonexistent"} | more


@dataclass(frozen=True)
class Told:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


async def start(
    *arguments: str,
    env: dict[str, str] | None = None,
    stdin: int = PIPE,
    terminal: int | None = None,
) -> Process:
    """Start `exai` in the root folder, where no exai.toml lies.

    Its stdout and stderr are pipes, or both the ``terminal`` if one is given.
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


async def ended(process: Process, stdin: bytes | None = None) -> Told:
    """Wait for the end; kills the process if the wait itself is given up."""
    try:
        out, err = await process.communicate(stdin)
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    assert process.returncode is not None
    return Told(process.returncode, (out or b"").decode(), (err or b"").decode())


async def exai(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Told:
    """Run `exai` to its end."""
    return await ended(await start(*arguments, env=env), stdin)


@dataclass(frozen=True)
class Serving:
    """A broker in a child process that has said it is ready."""

    url: str
    process: Process

    async def stop(self) -> Told:
        """Ask for an orderly end and wait for it."""
        if self.process.returncode is None:
            self.process.terminate()
        return await ended(self.process)


@asynccontextmanager
async def serving(
    config: str, folder: Path, *arguments: str, env: dict[str, str] | None = None
) -> AsyncIterator[Serving]:
    """Run `exai serve` on a free port with this configuration; it is gone after the block."""
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
    """The configuration of one provider there, with more lines of its table."""
    table = [
        "[[provider]]",
        'kind = "openai"',
        'name = "scripted"',
        f'base_url = "{upstream.base_url}"',
        f'models = ["{MODEL}"]',
        *lines,
    ]
    return "\n".join(table) + "\n"
