"""A broker that serves does not end because nothing can be written to its stdout."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable

import pytest

from tests.daemon.processes import EXAI, clean_environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/dev/full and pipe sizes")


def _full_device() -> list[int]:
    return [os.open("/dev/full", os.O_WRONLY)]


def _pipe_without_reader() -> list[int]:
    reader, writer = os.pipe()
    os.close(reader)
    return [writer]


def _full_pipe() -> list[int]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writer, b"x" * 4096)
    return [writer, reader]


async def _serve(stdout: int) -> Process:
    return await asyncio.create_subprocess_exec(
        *EXAI,
        "serve",
        "--port",
        "0",
        "--log-format",
        "json",
        stdin=DEVNULL,
        stdout=stdout,
        stderr=PIPE,
        env=clean_environment(),
        cwd="/",
    )


@pytest.mark.parametrize("open_stdout", [_full_device, _pipe_without_reader, _full_pipe])
async def test_the_broker_serves_and_ends_in_order(open_stdout: Callable[[], list[int]]) -> None:
    descriptors = open_stdout()
    process = await _serve(descriptors[0])
    try:
        assert process.stderr is not None
        entry: dict[str, str] = {}
        while entry.get("message") != "broker.ready_not_printed":
            entry = json.loads(await process.stderr.readline())
        assert entry["url"].startswith("ws://127.0.0.1:")
        host, _, port = entry["url"].removeprefix("ws://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
        process.terminate()
        await process.stderr.read()
        assert await process.wait() == 0
    finally:
        for each in descriptors:
            os.close(each)
        if process.returncode is None:
            process.kill()
            await process.wait()
