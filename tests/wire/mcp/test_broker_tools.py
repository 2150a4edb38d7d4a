from __future__ import annotations

import json
from typing import Any

import pytest

from exai_actors.wire.mcp import messages
from exai_actors.wire.mcp.broker_tools import PROGRESS_EVERY_S, TASK_AFTER_S, TOOLS
from exai_actors.wire.mcp.tasks import KEPT_S, MAX_KEPT_CHARACTERS, MAX_TASKS
from tests.wire.mcp.desk import STATELESS_META, TASKS_META, Desk, Sheet

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.connect()
    return desk


def test_every_tool_has_a_closed_schema() -> None:
    for tool in TOOLS:
        schema = tool["inputSchema"]
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) <= set(schema["properties"])
        assert tool["description"]
        assert tool["annotations"]["readOnlyHint"] is True


@pytest.mark.parametrize(
    ("tool", "arguments", "broker_tool"),
    [
        ("chat", {"prompt": "Hi?", "temperature": 0.5}, "chat"),
        ("ask", {"model": "kimi-k2", "prompt": "Hi?"}, "chat"),
        ("list_models", {}, "list_models"),
        ("usage", {}, "usage"),
    ],
)
def test_a_tool_is_a_call_at_the_broker(
    desk: Desk, tool: str, arguments: dict[str, Any], broker_tool: str
) -> None:
    sheet = desk.call(tool, arguments, traceparent=TRACE, tracestate=5)
    (frame,) = desk.take()
    assert frame["params"]["name"] == broker_tool
    assert frame["params"]["arguments"] == arguments
    assert frame["params"]["_meta"] == {"progressToken": 1, "traceparent": TRACE}
    assert sheet.answers == []
    desk.finish(1, "Hello.", model_used="kimi-k2")
    assert sheet.result == {
        "content": [{"type": "text", "text": "Hello."}],
        "isError": False,
        "_meta": {"model_used": "kimi-k2"},
    }
    assert not desk.tools.is_busy


def test_an_answer_names_its_conversation_to_the_model(desk: Desk) -> None:
    sheet = desk.call("chat", {"prompt": "Hi?"})
    desk.finish(1, "Hello.", continuation_id="c-1")
    assert sheet.text == "Hello."
    assert "c-1" in sheet.result["content"][1]["text"]


def test_results_of_the_stateless_era_say_that_they_are_complete(desk: Desk) -> None:
    sheet = desk.call("chat", {"prompt": "Hi?"}, **STATELESS_META)
    desk.finish(1, "Hello.", model_used="kimi-k2")
    assert sheet.result["resultType"] == "complete"
    assert sheet.result["_meta"]["model_used"] == "kimi-k2"
    assert messages.SERVER_KEY in sheet.result["_meta"]


def test_a_refusal_of_the_broker_is_text_for_the_model(desk: Desk) -> None:
    sheet = desk.call("chat", {"prompt": "Hi?"})
    data = {"code": "OVER_CAPACITY", "retry_after": 2.5}
    error = {"code": -32003, "message": "the queue is full; retry later", "data": data}
    desk.from_broker({"jsonrpc": "2.0", "id": 1, "error": error})
    assert sheet.result["isError"] is True
    assert sheet.text == "OVER_CAPACITY: the queue is full; retry later"
    assert sheet.result["_meta"]["error"]["details"] == {"retry_after": 2.5}


@pytest.mark.parametrize("name", ["nope", None, 5, "", "x" * 5000])
def test_an_unknown_tool_is_an_error_that_names_the_others(desk: Desk, name: Any) -> None:
    sheet = desk.ask("tools/call", {"name": name})
    assert sheet.error["code"] == messages.INVALID_PARAMS
    assert "list_models" in sheet.error["message"]
    assert len(sheet.error["message"]) < 300


def test_arguments_have_to_be_an_object(desk: Desk) -> None:
    sheet = desk.ask("tools/call", {"name": "chat", "arguments": [1]})
    assert sheet.error["code"] == messages.INVALID_PARAMS
    assert desk.take() == []


@pytest.mark.parametrize("model", [None, "", " ", 5])
def test_ask_needs_the_name_of_a_model(desk: Desk, model: Any) -> None:
    sheet = desk.call("ask", {"prompt": "Hi?", "model": model})
    assert sheet.result["isError"] is True
    assert "list_models" in sheet.text
    assert desk.take() == []


def test_a_call_that_waits_reports_its_position_and_start(desk: Desk) -> None:
    sheet = desk.call("chat", {"prompt": "Hi?"}, progressToken="p")
    desk.wait(1.0)
    desk.queue(3, 12.4)
    assert sheet.reports == [
        "waiting at position 3, starts in about 12 s (kimi: 1 of 1 used)",
    ]
    assert sheet.before[0]["params"]["_meta"] == {
        "position": 3,
        "estimate_s": 12.4,
        "waits_for": {"code": "permit", "text": "kimi: 1 of 1 used"},
    }


def test_progress_comes_every_few_seconds_and_not_more_than_once_a_second(desk: Desk) -> None:
    sheet = desk.call("chat", {"prompt": "Hi?"}, progressToken=7)
    for position in range(20, 10, -1):
        desk.queue(position)
    desk.wait(1.0)
    assert len(sheet.reports) <= 1
    desk.wait(3 * PROGRESS_EVERY_S)
    assert 3 <= len(sheet.reports) <= 5
    assert sheet.reports[-1] == "waiting at position 11 (kimi: 1 of 1 used)"
    numbers = [frame["params"]["progress"] for frame in sheet.before]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_call_that_runs_reports_its_age(desk: Desk) -> None:
    sheet = desk.call("chat", {"prompt": "Hi?"}, progressToken=7)
    desk.wait(2 * PROGRESS_EVERY_S)
    assert sheet.reports == [
        "in progress, 4 s after it was asked",
        "in progress, 8 s after it was asked",
    ]


def test_a_call_without_a_broker_says_that_it_waits_for_it() -> None:
    desk = Desk()
    sheet = desk.call("chat", {"prompt": "Hi?"}, progressToken=7)
    desk.wait(PROGRESS_EVERY_S)
    assert sheet.reports == ["waiting for the connection to the broker"]


def test_a_reason_without_a_position_is_reported_too(desk: Desk) -> None:
    sheet = desk.call("chat", {"prompt": "Hi?"}, progressToken=7)
    meta = {"waits_for": {"code": "session_window", "text": "8 of 8 run"}}
    params = {"progressToken": 1, "progress": 1, "_meta": meta}
    desk.wait(1.0)
    desk.from_broker({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
    assert sheet.reports == ["waiting (8 of 8 run)"]


def test_a_cancelled_request_cancels_its_call(desk: Desk) -> None:
    sheet = desk.call("chat", {"prompt": "Hi?"}, id_=9)
    desk.take()
    desk.notify("notifications/cancelled", {"requestId": 9})
    assert [frame["method"] for frame in desk.take()] == ["notifications/cancelled"]
    assert sheet.error["code"] == messages.CANCELLED
    assert not desk.tools.is_busy


def submit(desk: Desk, **arguments: Any) -> str:
    submitted = json.loads(desk.call("submit", {"prompt": "Hi?", **arguments}).text)
    assert submitted["status"] == "working"
    id_: str = submitted["id"]
    return id_


def test_a_submitted_question_is_answered_to_poll(desk: Desk) -> None:
    id_ = submit(desk, model="k2")
    sheet = desk.call("poll", {"id": id_}, progressToken="p")
    assert sheet.answers == []
    desk.wait(PROGRESS_EVERY_S)
    assert len(sheet.reports) == 1
    desk.finish(1, "Hello.")
    assert sheet.text == "Hello."
    assert desk.call("poll", {"id": id_}).text == "Hello."
    assert not desk.tools.is_busy


def test_poll_returns_the_state_after_its_wait(desk: Desk) -> None:
    id_ = submit(desk)
    desk.queue(2, 30.0)
    waited = desk.call("poll", {"id": id_, "wait_s": 5}, id_=2)
    immediate = desk.call("poll", {"id": id_, "wait_s": 0}, id_=3)
    desk.wait(4.0)
    assert waited.answers == []
    desk.wait(1.0)
    for sheet in (waited, immediate):
        assert json.loads(sheet.text) == {
            "id": id_,
            "status": "working",
            "state": "waiting at position 2, starts in about 30 s (kimi: 1 of 1 used)",
            "position": 2,
            "estimate_s": 30.0,
        }
    desk.finish(1)
    assert len(waited.answers) == 1


def test_a_failure_is_answered_to_poll_as_a_failure(desk: Desk) -> None:
    id_ = submit(desk)
    data = {"code": "PROVIDER_ERROR"}
    error = {"code": -32011, "message": "it failed", "data": data}
    desk.from_broker({"jsonrpc": "2.0", "id": 1, "error": error})
    result = desk.call("poll", {"id": id_}).result
    assert result["isError"] is True


def test_poll_can_cancel_and_says_so_from_then_on(desk: Desk) -> None:
    id_ = submit(desk)
    desk.take()
    waiting = desk.call("poll", {"id": id_}, id_=2)
    cancelled = desk.call("poll", {"id": id_, "cancel": True}, id_=3)
    assert [frame["method"] for frame in desk.take()] == ["notifications/cancelled"]
    for sheet in (waiting, cancelled, desk.call("poll", {"id": id_}, id_=4)):
        assert json.loads(sheet.text) == {
            "id": id_,
            "status": "cancelled",
            "state": "cancelled",
        }


def test_a_poll_that_is_cancelled_leaves_the_question_running(desk: Desk) -> None:
    id_ = submit(desk)
    desk.take()
    poll = desk.call("poll", {"id": id_}, id_=2)
    desk.notify("notifications/cancelled", {"requestId": 2})
    assert desk.take() == []
    desk.finish(1, "Hello.")
    assert poll.error["code"] == messages.CANCELLED
    assert desk.call("poll", {"id": id_}).text == "Hello."


@pytest.mark.parametrize("id_", ["nope", "", None, 5, []])
def test_poll_of_an_unknown_question_fails(desk: Desk, id_: Any) -> None:
    assert desk.call("poll", {"id": id_}).result["isError"] is True


@pytest.mark.parametrize("wait_s", [-1, 51, "5", None, True])
def test_poll_waits_for_a_limited_time(desk: Desk, wait_s: Any) -> None:
    sheet = desk.call("poll", {"id": submit(desk), "wait_s": wait_s})
    assert sheet.result["isError"] is True
    assert "50" in sheet.text


def test_why_lists_the_questions_without_an_answer(desk: Desk) -> None:
    assert desk.call("why").text == "No question of yours waits or runs."
    desk.call("ask", {"prompt": "Hi?", "model": "k2"}, id_=2)
    id_ = submit(desk)
    desk.queue(4, 9.0, key=2)
    desk.wait(3.0)
    assert desk.call("why", id_=3).text.splitlines() == [
        "chat k2, 3 s old: in progress, 3 s after it was asked",
        f"chat (id {id_}), 3 s old: waiting at position 4, starts in about 9 s (kimi: 1 of 1 used)",
    ]


def test_submitted_questions_are_limited(desk: Desk) -> None:
    for _ in range(MAX_TASKS):
        submit(desk)
    desk.take()
    sheet = desk.call("submit", {"prompt": "Hi?"})
    assert sheet.result["isError"] is True
    sent, cancel = desk.take()
    assert cancel["params"] == {"requestId": sent["id"]}
    desk.finish(5)
    submit(desk)


def test_an_outcome_is_kept_for_a_while(desk: Desk) -> None:
    id_ = submit(desk)
    desk.finish(1, "Hello.")
    desk.now += KEPT_S - 1
    assert desk.call("poll", {"id": id_}).text == "Hello."
    desk.now += 1
    assert desk.call("poll", {"id": id_}).result["isError"] is True


def test_the_oldest_outcomes_make_room(desk: Desk) -> None:
    ids = [submit(desk) for _ in range(3)]
    for number in range(3):
        desk.now += 1
        desk.finish(number + 1, "x" * (MAX_KEPT_CHARACTERS // 2))
    failed = [desk.call("poll", {"id": id_}).result["isError"] for id_ in ids]
    assert failed == [True, False, False]


def test_one_outcome_that_is_too_large_for_others_is_kept(desk: Desk) -> None:
    id_ = submit(desk)
    desk.finish(1, "x" * (MAX_KEPT_CHARACTERS + 1))
    assert desk.call("poll", {"id": id_}).result["isError"] is False


def long_call(desk: Desk) -> Sheet:
    sheet = desk.call("chat", {"prompt": "Hi?"}, progressToken="p", **TASKS_META)
    desk.wait(TASK_AFTER_S)
    return sheet


def get_task(desk: Desk, id_: str) -> Any:
    return desk.ask("tasks/get", {"taskId": id_}, **TASKS_META).result


def test_a_long_call_becomes_a_task_for_clients_that_know_tasks(desk: Desk) -> None:
    sheet = long_call(desk)
    task = sheet.result
    assert task["resultType"] == "task"
    assert task["status"] == "working"
    assert task["createdAt"].endswith("Z")
    assert task["ttlMs"] > 0
    working = get_task(desk, task["taskId"])
    assert working["resultType"] == "complete"
    assert working["status"] == "working"
    assert "result" not in working
    assert working["statusMessage"] == "in progress, 2 s after it was asked"
    desk.queue(2)
    desk.wait(PROGRESS_EVERY_S)
    assert sheet.before == []
    desk.finish(1, "Hello.")
    done = get_task(desk, task["taskId"])
    assert done["status"] == "completed"
    assert done["result"]["content"] == [{"type": "text", "text": "Hello."}]
    assert done["lastUpdatedAt"] > done["createdAt"]


def test_a_short_call_is_answered_immediately(desk: Desk) -> None:
    sheet = desk.call("chat", {"prompt": "Hi?"}, **TASKS_META)
    desk.wait(TASK_AFTER_S - 1)
    desk.finish(1, "Hello.")
    assert sheet.result["resultType"] == "complete"


def test_without_the_extension_no_call_becomes_a_task(desk: Desk) -> None:
    for sheet in (
        desk.call("chat", {"prompt": "Hi?"}, **STATELESS_META),
        desk.call("list_models", id_=2, **TASKS_META),
    ):
        desk.wait(10 * TASK_AFTER_S)
        assert sheet.answers == []


def test_a_call_waits_where_no_task_has_room(desk: Desk) -> None:
    for _ in range(MAX_TASKS):
        submit(desk)
    sheet = long_call(desk)
    assert sheet.answers == []
    desk.finish(MAX_TASKS + 1, "Hello.")
    assert sheet.text == "Hello."


def test_a_task_is_cancelled_by_its_method(desk: Desk) -> None:
    id_ = long_call(desk).result["taskId"]
    desk.take()
    for _ in range(2):
        acknowledged = desk.ask("tasks/cancel", {"taskId": id_}, **TASKS_META).result
        assert set(acknowledged) == {"resultType", "_meta"}
    assert [frame["method"] for frame in desk.take()] == ["notifications/cancelled"]
    cancelled = get_task(desk, id_)
    assert cancelled["status"] == "cancelled"
    assert "result" not in cancelled


def test_a_task_needs_no_input(desk: Desk) -> None:
    id_ = long_call(desk).result["taskId"]
    params = {"taskId": id_, "inputResponses": {}}
    assert desk.ask("tasks/update", params, **TASKS_META).result["resultType"] == "complete"
    assert get_task(desk, id_)["status"] == "working"


@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
def test_an_unknown_task_is_an_error(desk: Desk, method: str) -> None:
    sheet = desk.ask(method, {"taskId": "nope"}, **TASKS_META)
    assert sheet.error["code"] == messages.INVALID_PARAMS
    assert sheet.statuses == [400]


def test_all_tasks_end_with_their_client(desk: Desk) -> None:
    submit(desk)
    submit(desk)
    desk.take()
    desk.tools.tasks.cancel_all()
    assert len(desk.take()) == 2
    assert not desk.tools.is_busy
    assert len(desk.tools.tasks) == 2
