"""Third-party WebSocket clients, in the versions that people use, with the broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.real.conftest import PROGRAMS, TOKEN, StartBroker, WebSocketProgram
from tests.real.frame_client import Frame
from tests.real.line_client import LineClient, line_client

# "quick" is just slow enough to stream in several pieces. "slow" starts immediately but takes
# minutes, for tests that need a call in flight.
PROVIDERS = """
[[provider]]
name = "quick"
kind = "synthetic"
models = ["quick"]
tokens = 24
tokens_per_second = 400

[[provider]]
name = "slow"
kind = "synthetic"
models = ["slow"]
tokens = 4000
tokens_per_second = 20
limit = 1
"""

INITIALIZE: Frame = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "somebody's script", "version": "1"},
}

WEBSOCKETS_STYLES = {
    "12.0": ("default", "sync"),
    "13.1": ("default", "asyncio", "sync"),
    "14.2": ("default", "legacy", "sync"),
    "15.0.1": ("default", "sync"),
    "16.1.1": ("default", "sync"),
    "17.4": ("default", "sync"),
}
CLIENTS = [
    *(f"websockets {version} {style}" for version in WEBSOCKETS_STYLES
      for style in WEBSOCKETS_STYLES[version]),
    "websocket-client",
    "websocat",
    "node",
]  # fmt: skip


@pytest.fixture(scope="module")
def broker(start_broker: StartBroker) -> str:
    return start_broker(PROVIDERS, TOKEN)


@pytest.fixture(params=CLIENTS)
def program(request: pytest.FixtureRequest) -> WebSocketProgram:
    name: str = request.param
    if name == "node":
        node: Path = request.getfixturevalue("node")
        return WebSocketProgram((node, PROGRAMS / "pipe_node.mjs"), {})
    if name == "websocket-client":
        client_program: WebSocketProgram = request.getfixturevalue("websocket_client")
        return client_program
    if name == "websocat":
        websocat: Path = request.getfixturevalue("websocat")
        return WebSocketProgram((websocat, "--text", "--exit-on-eof", "-B", "1048576"), {})
    client: Callable[[str, str], WebSocketProgram] = request.getfixturevalue("websockets_client")
    _, version, style = name.split()
    return client(version, style)


@pytest.fixture
async def client(program: WebSocketProgram, broker: str) -> AsyncIterator[LineClient]:
    async with line_client(program.to(broker), program.environment) as client:
        acknowledged = await client.hello(TOKEN)
        assert acknowledged["op"] == "hello_ack"
        assert acknowledged["ok"] is True, acknowledged
        assert acknowledged["session_id"]
        yield client


async def test_a_client_lists_the_tools_and_calls_one(client: LineClient) -> None:
    await client.send({"op": "list_tools", "request_id": "tools"})
    listed = await client.until(op="list_tools_res")
    assert listed["request_id"] == "tools"
    chat = next(tool for tool in listed["tools"] if tool["name"] == "chat")
    assert chat["inputSchema"]["type"] == "object"

    answer = await client.chat(prompt="hello", model="quick")
    assert answer.result["ok"] is True, answer.result
    assert answer.text
    assert [block["text"] for block in answer.result["outputs"]] == [answer.text]
    acknowledged = next(f for f in client.received if f["op"] == "call_tool_ack")
    assert acknowledged["accepted"] is True

    await client.close()
    assert sum(frame.get("op") == "call_tool_res" for frame in client.received) == 1


async def test_a_client_streams_an_answer_in_pieces(client: LineClient) -> None:
    answer = await client.chat(prompt="hello", model="quick", stream=True)
    assert len(answer.pieces) > 1
    assert "".join(answer.pieces) == answer.text
    completed = [f["op"] for f in client.received if f["op"].startswith("stream_")]
    assert completed == ["stream_chunk"] * len(answer.pieces) + ["stream_complete"]


async def test_a_cancelled_call_makes_room_for_the_next(client: LineClient) -> None:
    await client.submit("first", prompt="hello", model="slow", stream=True)
    await client.until(op="stream_chunk", request_id="first")
    await client.send({"op": "cancel", "request_id": "first"})
    ended = await client.until(op="call_tool_res", request_id="first")
    assert ended["error"]["code"] == "CANCELLED"

    await client.submit("second", prompt="hello", model="slow", stream=True)
    await client.until(op="stream_chunk", request_id="second")


async def test_answers_arrive_out_of_order_with_their_request_ids(client: LineClient) -> None:
    await client.submit("long", prompt="hello", model="slow", stream=True)
    await client.until(op="stream_chunk", request_id="long")
    await client.submit("short", prompt="hello", model="quick")
    short = await client.until(op="call_tool_res")
    assert short["request_id"] == "short"
    assert short["ok"] is True


async def test_a_closed_connection_makes_room_for_the_next_client(
    client: LineClient, program: WebSocketProgram, broker: str
) -> None:
    await client.submit("abandoned", prompt="hello", model="slow", stream=True)
    await client.until(op="stream_chunk", request_id="abandoned")
    await client.close()
    async with line_client(program.to(broker), program.environment) as other:
        await other.hello(TOKEN)
        await other.submit("next", prompt="hello", model="slow", stream=True)
        await other.until(op="stream_chunk", request_id="next")


async def test_a_client_uses_json_rpc_with_a_token_in_the_handshake(
    program: WebSocketProgram, broker: str
) -> None:
    if "websocat" in str(program.command[0]):
        command = [*program.command, f"--header=Authorization: Bearer {TOKEN}", broker]
    else:
        command = program.to(broker, TOKEN)
    async with line_client(command, program.environment) as client:
        await client.send(_rpc(1, "initialize", INITIALIZE))
        initialized = await client.until(id=1)
        assert initialized["jsonrpc"] == "2.0"
        assert initialized["result"]["serverInfo"]["name"]
        await client.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

        await client.send(_rpc(2, "tools/list", {}))
        listed = await client.until(id=2)
        assert "chat" in {tool["name"] for tool in listed["result"]["tools"]}

        arguments = {"prompt": "hello", "model": "quick"}
        await client.send(_rpc("three", "tools/call", {"name": "chat", "arguments": arguments}))
        called = await client.until(id="three")
        assert called["result"]["content"][0]["type"] == "text"
        assert called["result"]["content"][0]["text"]
        assert not called["result"].get("isError", False)

        await client.send(_rpc(4, "ping", {}))
        assert (await client.until(id=4))["result"] == {}


async def test_a_wrong_token_is_reported_before_the_close(
    program: WebSocketProgram, broker: str
) -> None:
    async with line_client(program.to(broker), program.environment) as client:
        reply = await client.hello("not-the-right-token-at-all")
        assert (reply["op"], reply["ok"], reply["error"]) == ("hello_ack", False, "unauthorized")
        await client.close()
    # Only websocat does not report the close code.
    if "websocat" not in str(program.command[0]):
        assert client.received[-1] == {"closed": 4003, "reason": "unauthorized"}


def _rpc(number: int | str, method: str, params: Frame) -> Frame:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
