"""How the benchmark's clients speak: one request of about 250 bytes in each dialect."""

from __future__ import annotations

import orjson

from tools.bench_load import Dialect

PROMPT = (
    "Summarise what an actor is in one sentence, please, and keep it short enough for a slide in "
    "a talk."
)
ARGUMENTS = {"prompt": PROMPT, "model": "synthetic", "temperature": 0.3}
_HELLO = orjson.dumps({"op": "hello", "client": "bench"})
_INITIALIZE = orjson.dumps(
    {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "bench", "version": "1"},
        },
    }
)


def _call_tool(request_id: str) -> bytes:
    call = {"op": "call_tool", "request_id": request_id, "name": "chat", "arguments": ARGUMENTS}
    return orjson.dumps(call)


def _tool_call(request_id: str) -> bytes:
    call = {"op": "tool_call", "request_id": request_id, "tool": "chat", "arguments": ARGUMENTS}
    return orjson.dumps(call)


def _tools_call(request_id: str) -> bytes:
    params = {"name": "chat", "arguments": ARGUMENTS}
    call = {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}
    return orjson.dumps(call)


BARE = Dialect("bare", None, _call_tool, b'"call_tool_res"')
CALL_TOOL = Dialect("call_tool", _HELLO, _call_tool, b'"call_tool_res"')
TOOL_CALL = Dialect("tool_call", _HELLO, _tool_call, b'"call_tool_res"')
JSON_RPC = Dialect("JSON-RPC", _INITIALIZE, _tools_call, b'"result"')
