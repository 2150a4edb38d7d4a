"""Send the lines of standard input as text frames, and print text frames as lines.

Uses the version of websockets on PYTHONPATH, with the API given as first argument::

    python pipe_websockets.py default|asyncio|legacy|sync URL [TOKEN]

``default`` is ``websockets.connect``: the legacy client up to version 13, the new one since.
The end of standard input closes the connection; the last output line is its close code.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import threading
import warnings
from typing import Any

BIG = 2**26


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _connect(style: str, url: str, token: str | None) -> Any:
    module = {
        "default": "websockets",
        "asyncio": "websockets.asyncio.client",
        "legacy": "websockets.legacy.client",
        "sync": "websockets.sync.client",
    }[style]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        connect = importlib.import_module(module).connect
    version = int(importlib.import_module("websockets.version").version.split(".")[0])
    is_legacy = style == "legacy" or (style == "default" and version < 14)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    name = "extra_headers" if is_legacy else "additional_headers"
    return connect(url, max_size=BIG, **{name: headers})


async def _pipe(style: str, url: str, token: str | None) -> tuple[int | None, str | None]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=BIG)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with _connect(style, url, token) as socket:

        async def send_all() -> None:
            async for line in reader:
                await socket.send(line.decode().rstrip("\n"))
            await socket.close()

        sending = asyncio.create_task(send_all())
        try:
            async for frame in socket:
                _say(frame)
        except importlib.import_module("websockets.exceptions").ConnectionClosed:
            pass
        sending.cancel()
    return _how_it_closed(socket)


def _pipe_sync(url: str, token: str | None) -> tuple[int | None, str | None]:
    with _connect("sync", url, token) as socket:

        def send_all() -> None:
            for line in sys.stdin:
                socket.send(line.rstrip("\n"))
            socket.close()

        threading.Thread(target=send_all, daemon=True).start()
        try:
            for frame in socket:
                _say(frame)
        except importlib.import_module("websockets.exceptions").ConnectionClosed:
            pass
    return _how_it_closed(socket)


def _how_it_closed(socket: Any) -> tuple[int | None, str | None]:
    # Early versions of the new client have these attributes on ``protocol`` only.
    ended = getattr(socket, "protocol", socket)
    return ended.close_code, ended.close_reason


def _main() -> None:
    style, url = sys.argv[1:3]
    token = sys.argv[3] if len(sys.argv) > 3 else None
    if style == "sync":
        code, reason = _pipe_sync(url, token)
    else:
        code, reason = asyncio.run(_pipe(style, url, token))
    _say(json.dumps({"closed": code, "reason": reason}))


_main()
