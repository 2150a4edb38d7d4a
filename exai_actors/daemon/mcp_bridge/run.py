"""Runs the bridge as a process, for as long as its host lives."""

from __future__ import annotations

import contextlib
import os
import select
import sys

from exai_actors.daemon.mcp_bridge.bridge import Bridge, Host
from exai_actors.daemon.mcp_bridge.lines import LineReader, Output, read

STDIN, STDOUT, STDERR = 0, 1, 2
LAST_WORDS_S = 1.0
"""How long a process that ends waits for its host to read, and for its broker."""

_LOOK_EVERY_MS = 1000


def run(url: str, token: str | None) -> bool:
    """Serve the host until it is gone or a signal ends this process; returns whether the signal was
    that of Ctrl-C.

    Nothing but the protocol is written to stdout: all else that is printed goes to stderr.
    """
    parent = os.getppid()
    output = Output(os.dup(STDOUT))
    os.dup2(STDERR, STDOUT)
    host = Host(output.write, lambda: output.is_full)
    bridge = Bridge(url, token, host, print_error)
    reader = LineReader()
    # The first answer does not wait for the imports that a connection needs.
    has_answered = False
    while not has_answered and _has_input(parent):
        data = read(STDIN)
        for line in reader.feed(data):
            bridge.received(line)
            has_answered = True
        if not data:
            break
    interrupted = False
    if has_answered:
        import asyncio

        from exai_actors.daemon.mcp_bridge.process import serve

        interrupted = asyncio.run(serve(bridge, reader, output, parent))
    output.close(LAST_WORDS_S)
    return interrupted


def _has_input(parent: int) -> bool:
    """Wait for input, or its end; False once the host is gone."""
    stdin = select.poll()
    stdin.register(STDIN, select.POLLIN)
    while not stdin.poll(_LOOK_EVERY_MS):
        if os.getppid() != parent:
            return False
    return True


def print_error(text: str) -> None:
    # A host may have closed its end; the results that it gets say the same.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"exai mcp: {text}\n")
        sys.stderr.flush()
