"""Calls tools as the earlier shims of the EX-AI daemon do, which wait as long as the ack says.

Each line of standard input is one call. It gets a random ``request_id``, and its result must arrive
within PATIENCE seconds, unless ``call_tool_ack`` prolongs that to its ``timeout`` and a grace. The
session id is one random UUID for the process. An attempt to connect that fails is repeated. Uses
the version of websockets on PYTHONPATH, 13 or older::

    python ack_shim.py URL TOKEN PATIENCE
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from typing import Any

import websockets

GRACE_S = 120.0


async def _call(socket: Any, call: dict[str, Any], patience_s: float) -> str:
    request_id = str(uuid.uuid4())
    await socket.send(json.dumps({"op": "call_tool", "request_id": request_id} | call))
    now = asyncio.get_running_loop().time
    deadline = now() + patience_s
    while True:
        try:
            frame = json.loads(await asyncio.wait_for(socket.recv(), max(0.1, deadline - now())))
        except TimeoutError:
            return "Daemon did not return call_tool_res in time"
        if frame.get("request_id") != request_id:
            continue
        if frame["op"] == "call_tool_ack":
            deadline = now() + (float(frame.get("timeout") or 0) or patience_s) + GRACE_S
        elif frame["op"] == "call_tool_res":
            return f"error {frame['error']}" if frame.get("error") else str(frame["text"])


async def _connected(url: str) -> Any:
    """Connect as often as it takes, whatever goes wrong; each failure is a line of output."""
    wait_s = 0.25
    while True:
        try:
            return await websockets.connect(url, ping_interval=45, ping_timeout=30)
        except Exception as error:  # noqa: BLE001 - the shim does so
            sys.stdout.write(json.dumps(str(error)) + "\n")
            sys.stdout.flush()
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, 2.0)


async def _main(url: str, token: str, patience_s: str) -> None:
    socket = await _connected(url)
    hello = {"op": "hello", "session_id": str(uuid.uuid4()), "token": token}
    await socket.send(json.dumps(hello))
    assert json.loads(await socket.recv())["ok"]
    await asyncio.wait_for(socket.ping(), timeout=5)
    for line in sys.stdin:
        text = await _call(socket, json.loads(line), float(patience_s))
        sys.stdout.write(json.dumps(text) + "\n")
        sys.stdout.flush()
    await socket.close()


asyncio.run(_main(*sys.argv[1:]))
