"""A broker that is stopped where there is no memory left ends with 0 or 12, as documented.

The memory runs out as in a process with a limit: threads cannot start, or allocations fail.
"""

import signal
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE

import pytest

from tests.daemon.processes import clean_environment, ended

PROGRAM = """
import asyncio, sys, threading
from exai_actors.daemon.cli.start import main

starts = 0

def short(*_):
    global starts
    starts += 1
    if starts > {threads}:
        raise RuntimeError("can't start new thread")
    start(*_)

def out_of_memory(*_):
    raise MemoryError

def run_out():
    global start
    start = threading.Thread.start
    threading.Thread.start = short
    {also}

from exai_actors.daemon import lifecycle
received = lifecycle._drain

async def drain(*arguments):
    # A thread pool, as the memory guard and asyncio's name lookups leave one behind.
    await asyncio.get_running_loop().run_in_executor(None, int)
    run_out()
    await received(*arguments)

lifecycle._drain = drain
sys.argv = ["exai", "serve", "--port", "0"]
main()
"""


@pytest.mark.parametrize(
    ("threads", "also", "code"),
    [
        (0, "", 0),
        (1, "", 0),
        (2, "", 0),
        (9, "lifecycle.Broker.drain = out_of_memory", 12),
        (0, "lifecycle.Broker.drain = out_of_memory", 12),
    ],
)
async def test_a_stop_without_memory_is_orderly(threads: int, also: str, code: int) -> None:
    process = await create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM.format(threads=threads, also=also),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=clean_environment(),
    )
    assert process.stdout is not None
    assert (await process.stdout.readline()).startswith(b"ready ")
    process.send_signal(signal.SIGTERM)
    result = await ended(process)
    assert result.code == code, result.err
    assert "Traceback" not in result.err
    assert "internal error" not in result.err
