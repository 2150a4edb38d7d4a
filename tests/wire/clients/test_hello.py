"""The first frame of a connection."""

from __future__ import annotations

import json
from typing import Any

import pytest

from exai_actors.errors import ErrorCode
from exai_actors.wire.clients import encode
from exai_actors.wire.clients.close_reasons import CloseReason
from exai_actors.wire.clients.connection import MAX_HELLO_SIZE, Close, Connection, State
from exai_actors.wire.clients.frames import Hello, Initialize, Malformed, Ping
from tests.wire.clients.wire_client import opened, parsed

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "desk", "version": "1"},
    },
}


def _first(frame: Any) -> Any:
    data = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    return Connection().receive(data)


@pytest.mark.parametrize(
    ("frame", "token", "session_id"),
    [
        ({"op": "hello"}, "", None),
        ({"op": "hello", "token": "secret"}, "secret", None),
        ({"op": "hello", "token": None, "session_id": None}, "", None),
        ({"op": "hello", "token": 12345, "session_id": 7}, "", None),
        ({"op": "hello", "session_id": "s-1"}, "", "s-1"),
        ({"op": "hello", "session_id": "s" * 64}, "", "s" * 64),
        ({"op": "hello", "session_id": "s" * 65}, "", None),
        ({"op": "hello", "session_id": "s1"}, "", None),
        ({"op": "hello", "session_id": "../etc"}, "", None),
        ({"op": "hello", "session_id": "s-1\n"}, "", None),
        (
            {
                "op": "hello",
                "token": "secret",
                "client": {"name": "x"},
                "client_version": "1",
                "client_info": [],
                "protocolVersion": 3,
                "capabilities": {},
                "name": 5,
                "arguments": "odd",
                "id": {"odd": True},
            },
            "secret",
            None,
        ),
    ],
)
def test_a_hello_has_a_token_and_a_session(
    frame: dict[str, Any], token: str, session_id: str | None
) -> None:
    hello = _first(frame)
    assert isinstance(hello, Hello)
    assert (hello.token, hello.session_id) == (token, session_id)


def test_an_admitted_hello_is_acknowledged() -> None:
    connection = Connection()
    states = [connection.state]
    connection.receive(b'{"op":"hello"}')
    states.append(connection.state)
    acknowledged = {"op": "hello_ack", "ok": True, "session_id": "abc", "resumed": False}
    assert parsed(connection.admit("abc")) == acknowledged
    states.append(connection.state)
    assert states == [State.AWAITING_HELLO, State.AUTHENTICATING, State.OPEN]


def test_a_hello_ack_has_the_secret_for_the_session() -> None:
    connection = Connection()
    hello = connection.receive(b'{"op":"hello","session_id":"desk","resume":"secret"}')
    assert isinstance(hello, Hello)
    assert hello.resume == "secret"
    acknowledged = parsed(connection.admit("desk", resumed=True, resume="secret"))
    assert (acknowledged["resumed"], acknowledged["resume"]) == (True, "secret")


@pytest.mark.parametrize("resume", [b"7", b"null", b"{}", b'["secret"]'])
def test_a_secret_that_is_no_text_counts_as_none(resume: bytes) -> None:
    hello = Connection().receive(b'{"op":"hello","session_id":"desk","resume":%b}' % resume)
    assert isinstance(hello, Hello)
    assert hello.resume is None


NOT_JSON = [
    b"",
    b"hello",
    b'{"op":"hello"',
    b'{"op":"hello","token":"\xff"}',
    b'{"op":"hello","token":"\\ud800"}',
    b'{"op":"hello","x":NaN}',
    b'{"op":"hello","x":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    b'{"op":"hello","x":"' + b"x" * MAX_HELLO_SIZE + b'"}',
]


@pytest.mark.parametrize("data", NOT_JSON, ids=range(len(NOT_JSON)))
def test_an_unreadable_first_frame_is_an_invalid_hello(data: bytes) -> None:
    close = _first(data)
    assert (close.code, close.reason) == (4000, "invalid hello")
    ack = parsed(close.frame)
    assert '{"op": "hello", "token": "YOUR-TOKEN"}' in ack.pop("message")
    assert ack == {"op": "hello_ack", "ok": False, "error": "invalid_hello"}


def test_a_first_frame_may_have_the_largest_size() -> None:
    head, tail = b'{"op":"hello","x":"', b'"}'
    frame = head + b"x" * (MAX_HELLO_SIZE - len(head) - len(tail)) + tail
    assert isinstance(Connection().receive(frame), Hello)


def test_a_binary_first_frame_is_an_invalid_hello() -> None:
    connection = Connection()
    close = connection.receive_binary(5)
    assert isinstance(close, Close)
    assert close.code == 4000
    assert parsed(close.frame)["error"] == "invalid_hello"
    assert "binary" in parsed(close.frame)["message"]
    assert connection.state is State.CLOSED


@pytest.mark.parametrize(
    "frame",
    [
        {"op": "list_tools"},
        {"op": "call_tool", "name": "chat", "request_id": "a"},
        {"op": "ping"},
        {"op": 5},
        {"op": "nonsense"},
        {},
        [],
        5,
        None,
        "hello",
        [{"op": "hello"}],
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
    ],
)
def test_another_first_frame_is_a_missing_hello_and_the_answer_shows_one(frame: Any) -> None:
    close = _first(frame)
    assert (close.code, close.reason) == (4001, "missing hello")
    ack = parsed(close.frame)
    assert '{"op": "hello", "token": "YOUR-TOKEN"}' in ack.pop("message")
    assert ack == {"op": "hello_ack", "ok": False, "error": "missing_hello"}


@pytest.mark.parametrize(
    ("frame", "name"),
    [
        ({"method": "tools/call", "params": {"name": "chat"}}, None),
        ({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, 1),
        ({"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": {"name": "x"}}, "a"),
        ({"jsonrpc": "1.0", "id": 1, "method": "initialize"}, 1),
        ({"jsonrpc": "2.0", "id": 2, "method": "resources/list"}, 2),
    ],
)
def test_json_rpc_without_initialize_is_answered_in_json_rpc(frame: Any, name: Any) -> None:
    close = _first(frame)
    assert (close.code, close.reason) == (4001, "missing hello")
    answer = parsed(close.frame)
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", name)
    assert '"method": "initialize"' in answer["error"]["message"]


def test_a_silent_client_is_closed_without_a_frame() -> None:
    connection = Connection()
    assert connection.time_out_hello() == Close(4002, "hello timeout or disconnect")
    assert connection.state is State.CLOSED


def test_a_wrong_token_has_its_own_close_code() -> None:
    connection = Connection()
    connection.receive(b'{"op":"hello","token":"wrong"}')
    close = connection.refuse("unauthorized")
    assert (close.code, close.reason) == (4003, "unauthorized")
    assert parsed(close.frame) == {"op": "hello_ack", "ok": False, "error": "unauthorized"}


@pytest.mark.parametrize(
    ("error", "reason"),
    [("too_many_sessions", CloseReason.NOT_ADMITTED), ("draining", CloseReason.GOING_AWAY)],
)
def test_other_refusals_explain_themselves_in_the_frame(error: str, reason: CloseReason) -> None:
    connection = Connection()
    connection.receive(b'{"op":"hello"}')
    close = connection.refuse(error, "come back later")
    assert (close.code, close.reason) == (reason.code, reason.reason)
    assert parsed(close.frame) == {
        "op": "hello_ack",
        "ok": False,
        "error": error,
        "message": "come back later",
    }


def test_a_second_hello_is_a_protocol_error() -> None:
    connection = opened()
    again = connection.receive(b'{"op":"hello","token":"x","request_id":"h2"}')
    assert isinstance(again, Malformed)
    answer = parsed(encode.error(again.reply, again.error))
    assert answer["op"] == "error"
    assert answer["request_id"] == "h2"
    assert answer["error"]["code"] == "PROTOCOL_ERROR"
    assert connection.state is State.OPEN
    assert isinstance(connection.receive(b'{"op":"ping"}'), Ping)


def test_initialize_opens_a_connection_in_json_rpc() -> None:
    connection = Connection()
    first = connection.receive(json.dumps(INITIALIZE).encode())
    assert isinstance(first, Initialize)
    assert first.protocol_version == "2025-06-18"
    answer = parsed(connection.admit("s-9"))
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", 0)
    assert answer["result"]["protocolVersion"] == "2025-06-18"
    assert answer["result"]["capabilities"] == {"tools": {"listChanged": False}}
    assert answer["result"]["serverInfo"]["name"] == "exai-actors"
    assert answer["result"]["_meta"] == {"session_id": "s-9"}


@pytest.mark.parametrize("params", [None, [], {}, {"protocolVersion": 1, "clientInfo": "x"}])
def test_an_initialize_without_version_is_offered_the_newest(params: Any) -> None:
    connection = Connection()
    frame = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    first = connection.receive(json.dumps(frame).encode())
    assert isinstance(first, Initialize)
    assert first.protocol_version == ""
    assert parsed(connection.admit("s"))["result"]["protocolVersion"] == "2025-11-25"


def test_a_refused_initialize_is_answered_in_json_rpc() -> None:
    connection = Connection()
    connection.receive(json.dumps(INITIALIZE).encode())
    close = connection.refuse("unauthorized", "a bearer token is needed")
    assert close.code == 4003
    answer = parsed(close.frame)
    assert answer["id"] == 0
    assert answer["error"]["message"] == "a bearer token is needed"
    assert answer["error"]["data"]["code"] == ErrorCode.UNAUTHORIZED


def test_a_json_rpc_ping_is_answered_before_initialize() -> None:
    connection = Connection()
    ping = connection.receive(b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
    assert isinstance(ping, Ping)
    assert connection.state is State.AWAITING_HELLO
    assert parsed(encode.pong(ping.reply, 0.0)) == {"jsonrpc": "2.0", "id": 1, "result": {}}


@pytest.mark.parametrize("first", [b'{"op":"hello"}', json.dumps(INITIALIZE).encode()])
def test_a_later_initialize_is_a_protocol_error_under_its_id(first: bytes) -> None:
    connection = Connection()
    connection.receive(first)
    connection.admit("s")
    again = connection.receive(json.dumps(INITIALIZE | {"id": 7}).encode())
    assert isinstance(again, Malformed)
    answer = parsed(encode.error(again.reply, again.error))
    assert (answer["id"], answer["error"]["data"]["code"]) == (7, "PROTOCOL_ERROR")
    assert connection.state is State.OPEN
