"""Calls tools as the last shim of the EX-AI daemon does: with one id for all calls of a connection.

Each line of standard input is one call, ``{"name": ..., "arguments": ...}``, or ``"list"``. It is
sent without ``request_id``, and the next frame is its answer, whatever it is; the texts in
``result`` are all that the user sees. Uses the version of websockets on PYTHONPATH, 13 or older::

    python one_id_shim.py URL TOKEN
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import websockets

HELLO = {
    "op": "hello",
    "protocolVersion": "2024-11-05",
    "capabilities": {},
    "clientInfo": {"name": "exai-mcp-shim", "version": "1.0.0"},
}


async def _exchange(socket: Any, frame: dict[str, Any]) -> dict[str, Any]:
    await socket.send(json.dumps(frame))
    answer = json.loads(await asyncio.wait_for(socket.recv(), timeout=60))
    assert isinstance(answer, dict)
    return answer


async def _main(url: str, token: str) -> None:
    socket = await websockets.connect(url)
    acknowledged = await _exchange(socket, HELLO | {"token": token})
    assert acknowledged["ok"], acknowledged
    for line in sys.stdin:
        call = json.loads(line)
        if call == "list":
            listed = await _exchange(socket, {"op": "list_tools", "id": f"list_{id(socket)}"})
            shown: list[Any] = [tool["name"] for tool in listed["tools"]]
        else:
            answer = await _exchange(socket, {"op": "call_tool", "id": f"call_{id(socket)}"} | call)
            shown = [item["text"] for item in answer.get("result", [])]
        sys.stdout.write(json.dumps(shown) + "\n")
        sys.stdout.flush()
    await socket.close()


asyncio.run(_main(*sys.argv[1:]))
