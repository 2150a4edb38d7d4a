"""Scripts whose ids recur: made of a whole second, counted from 1 in each call, or constant.

Prints the answers of one list of calls, sent by each habit on a connection of its own. Uses the
version of websockets on PYTHONPATH, 13 or older::

    python recurring_ids.py URL TOKEN PROMPT...
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import websockets


async def _last(socket: Any, frame: dict[str, Any]) -> dict[str, Any]:
    await socket.send(json.dumps(frame))
    while True:
        answer = json.loads(await asyncio.wait_for(socket.recv(), 30))
        assert isinstance(answer, dict)
        if "result" in answer or "error" in answer or answer.get("op") == "call_tool_res":
            return answer


async def _connect(url: str, token: str) -> Any:
    socket = await websockets.connect(url)
    await socket.send(json.dumps({"op": "hello", "token": token, "session_id": "bench"}))
    assert json.loads(await socket.recv())["ok"]
    return socket


async def _main(url: str, token: str, *prompts: str) -> None:
    second = int(time.time())
    habits: dict[str, dict[str, Any]] = {
        "a second": {"op": "call_tool", "request_id": f"test_chat_{second}"},
        "an id": {"op": "call_tool", "id": 1},
        "a req_id": {"op": "tool_call", "req_id": "same"},
        "JSON-RPC": {"jsonrpc": "2.0", "id": 1, "method": "tools/call"},
    }
    for habit, ids in habits.items():
        socket = await _connect(url, token)
        texts = []
        for prompt in prompts:
            call = {"name": "echo", "arguments": {"prompt": prompt}}
            answer = await _last(socket, ids | ({"params": call} if "jsonrpc" in ids else call))
            if "jsonrpc" in ids:
                texts.append(answer["result"]["content"][0]["text"])
            else:
                texts.append(answer.get("text", str(answer.get("error"))))
        sys.stdout.write(json.dumps([habit, texts]) + "\n")
        await socket.close()


asyncio.run(_main(*sys.argv[1:]))
