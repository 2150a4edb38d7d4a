from __future__ import annotations

from typing import Any

import pytest

from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.wire.mcp.link import Call, CallEnd
from tests.wire.mcp.desk import Desk


def begin(desk: Desk, tool: str = "chat", **arguments: Any) -> tuple[Call, list[CallEnd]]:
    ends: list[CallEnd] = []
    call = desk.link.call(tool, arguments, desk.now, {})
    call.ended = ends.append
    return call, ends


def test_the_first_frame_names_the_session_and_the_token(desk: Desk) -> None:
    desk.link.opened()
    assert desk.take() == [{"op": "hello", "session_id": "session-uuid", "token": "the-token"}]


def test_calls_wait_until_the_broker_has_admitted_the_client(desk: Desk) -> None:
    begin(desk, prompt="a")
    desk.link.opened()
    desk.take()
    ready: list[bool] = []
    desk.link.on_ready = lambda: ready.append(desk.link.is_ready)
    desk.from_broker({"op": "hello_ack", "ok": True})
    begin(desk, "list_models")
    assert ready == [True]
    first, second = desk.take()
    assert first["method"] == "tools/call"
    assert first["params"] == {
        "name": "chat",
        "arguments": {"prompt": "a"},
        "idempotency_key": "session-uuid-1",
        "_meta": {"progressToken": 1},
    }
    assert (second["id"], second["params"]["name"]) == (2, "list_models")


def test_a_refused_hello_is_reported_with_its_reason(desk: Desk) -> None:
    refused: list[tuple[str, str]] = []
    desk.link.on_refused = lambda word, message: refused.append((word, message))
    desk.link.opened()
    desk.from_broker({"op": "hello_ack", "ok": False, "error": "overloaded", "message": "full"})
    assert refused == [("overloaded", "full")]
    assert not desk.link.is_ready


def test_a_call_ends_with_the_result_of_the_broker(desk: Desk) -> None:
    desk.connect()
    _, ends = begin(desk)
    desk.finish(1, "Hello.")
    desk.finish(1, "Hello again.")
    assert ends == [CallEnd({"content": [{"type": "text", "text": "Hello."}], "isError": False})]
    assert desk.link.calls == ()


@pytest.mark.parametrize(
    ("error", "body"),
    [
        (
            {"code": -32003, "message": "no", "data": {"code": "OVER_CAPACITY", "retry_after": 2}},
            ErrorBody(ErrorCode.OVER_CAPACITY, "no", {"retry_after": 2}),
        ),
        ({"code": -1, "message": "odd"}, ErrorBody(ErrorCode.INTERNAL_ERROR, "odd")),
        (
            {"code": -1, "message": "odd", "data": {"code": "NEW"}},
            ErrorBody(ErrorCode.INTERNAL_ERROR, "odd"),
        ),
        ("odd", ErrorBody(ErrorCode.INTERNAL_ERROR, "")),
    ],
)
def test_a_call_ends_with_the_error_of_the_broker(desk: Desk, error: Any, body: ErrorBody) -> None:
    desk.connect()
    _, ends = begin(desk)
    desk.from_broker({"jsonrpc": "2.0", "id": 1, "error": error})
    assert ends == [CallEnd(error=body)]


@pytest.mark.parametrize(
    "frame",
    [
        b"{",
        b"[]",
        b'{"jsonrpc":"2.0","id":99,"result":{}}',
        b'{"jsonrpc":"2.0","id":"1","result":{}}',
        b'{"jsonrpc":"2.0","method":"notifications/progress"}',
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"1"}}',
        b'{"op":"progress"}',
    ],
)
def test_frames_about_nothing_known_are_ignored(desk: Desk, frame: bytes) -> None:
    desk.connect()
    _, ends = begin(desk)
    desk.link.received(frame)
    assert ends == []
    assert len(desk.link.calls) == 1


def test_progress_says_where_a_call_waits_and_that_it_runs(desk: Desk) -> None:
    desk.connect()
    call, _ = begin(desk)
    moves: list[tuple[int | None, float | None, bool]] = []
    call.moved = lambda: moves.append((call.position, call.estimate_s, call.reason is not None))
    desk.queue(3, 12.5)
    desk.queue(2)
    params = {"progressToken": 1, "progress": 3, "message": "running"}
    desk.from_broker({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
    assert moves == [(3, 12.5, True), (2, None, True), (None, None, False)]


def test_a_cancelled_call_is_cancelled_at_the_broker_and_gets_no_end(desk: Desk) -> None:
    desk.connect()
    call, ends = begin(desk)
    desk.take()
    desk.link.cancel(call)
    desk.link.cancel(call)
    (cancel,) = desk.take()
    assert cancel["method"] == "notifications/cancelled"
    assert cancel["params"] == {"requestId": 1}
    desk.finish(1)
    assert ends == []


def test_a_call_that_was_not_sent_needs_no_cancel(desk: Desk) -> None:
    call, _ = begin(desk)
    desk.link.cancel(call)
    desk.connect()
    assert desk.take() == []


def test_after_a_lost_connection_a_call_is_sent_once_more_under_its_key(desk: Desk) -> None:
    desk.connect()
    _, ends = begin(desk)
    (first,) = desk.take()
    desk.link.lost()
    assert not desk.link.is_ready
    desk.connect()
    assert desk.take() == [first]
    desk.finish(1)
    assert [end.error for end in ends] == [None]


def test_a_connection_that_is_lost_twice_ends_the_call(desk: Desk) -> None:
    desk.connect()
    _, sent_twice = begin(desk)
    desk.link.lost()
    desk.connect()
    _, sent_once = begin(desk)
    desk.link.lost()
    (end,) = sent_twice
    assert end.error is not None
    assert end.error.code == ErrorCode.SERVICE_UNAVAILABLE
    assert sent_once == []


def test_all_calls_can_be_ended(desk: Desk) -> None:
    ends = [begin(desk)[1] for _ in range(3)]
    error = ErrorBody(ErrorCode.DRAINING, "bye")
    desk.link.fail_all(error)
    desk.link.fail_all(error)
    assert ends == [[CallEnd(error=error)]] * 3
    assert desk.link.calls == ()
