"""Measure the time of the wire per frame: ``python tools/bench_wire.py``.

Prints the best of several rounds in microseconds; the machine's other work only ever adds.
"""

from __future__ import annotations

import json
import timeit
from collections.abc import Callable

from exai_actors.core.calls import ToolResult, Usage
from exai_actors.wire.clients import encode
from exai_actors.wire.clients.connection import Connection
from exai_actors.wire.clients.frames import CallTool

ROUNDS = 9
PER_ROUND = 50_000

CALL = json.dumps(
    {
        "op": "call_tool",
        "request_id": "b1946ac92492d2347c6235b4d2611184",
        "name": "chat",
        "arguments": {
            "prompt": "Say hello to everybody in this room, and do it in a nice way. Thanks!",
            "model": "kimi-k2",
            "temperature": 0.3,
            "stream": False,
        },
    }
).encode()
RPC_CALL = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 17,
        "method": "tools/call",
        "params": {"name": "chat", "arguments": {"prompt": "Say hello.", "model": "kimi-k2"}},
    }
).encode()


def main() -> None:
    connection = Connection()
    connection.receive(b'{"op":"hello"}')
    connection.admit("bench")
    call = connection.receive(CALL)
    rpc_call = connection.receive(RPC_CALL)
    assert isinstance(call, CallTool)
    assert isinstance(rpc_call, CallTool)
    reply, rpc_reply, now = call.reply, rpc_call.reply, 1_760_000_000.123
    piece_frame = encode.piece_frame(reply, lambda: now)
    assert piece_frame is not None
    plain = ToolResult(("Hello everybody! " * 6,))
    full = ToolResult(plain.outputs, "c-1", "kimi-k2", "kimi", "stop", Usage(31, 18))

    cases: dict[str, Callable[[], object]] = {
        f"decode call_tool, {len(CALL)} bytes": lambda: connection.receive(CALL),
        f"decode tools/call, {len(RPC_CALL)} bytes": lambda: connection.receive(RPC_CALL),
        "encode progress, accepted": lambda: encode.accepted(reply, "chat", now),
        "encode call_tool_ack": lambda: encode.acknowledged(reply, "chat", 90.0),
        "encode stream_chunk": lambda: piece_frame(3, "Hello "),
        "encode call_tool_res": lambda: encode.result(reply, plain),
        "encode call_tool_res, all metadata": lambda: encode.result(reply, full),
        "encode tools/call result": lambda: encode.result(rpc_reply, plain),
    }
    for name, run in cases.items():
        best = min(timeit.repeat(run, number=PER_ROUND, repeat=ROUNDS)) / PER_ROUND
        print(f"{name:40} {best * 1e6:6.2f} µs")


if __name__ == "__main__":
    main()
