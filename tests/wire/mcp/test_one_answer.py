"""Whatever happens, and in whatever order, each request of a client gets exactly one answer."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from exai_actors.wire.mcp import messages
from exai_actors.wire.mcp.broker_tools import MAX_POLL_S, unavailable
from exai_actors.wire.mcp.link import MAX_SENDS
from tests.wire.mcp.desk import STATELESS_META, TASKS_META, Desk, Sheet

METAS: tuple[dict[str, Any], ...] = ({}, {"progressToken": "p"}, STATELESS_META, TASKS_META)
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["chat", "ask", "list_models", "why", "submit"]),
            st.integers(0, len(METAS) - 1),
        ),
        st.tuples(st.sampled_from(["poll", "cancel poll", "cancel", "task"]), st.integers(0, 5)),
        st.tuples(st.sampled_from(["finish", "fail", "queue"]), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.integers(1, 60)),
        st.tuples(st.sampled_from(["lose", "connect", "leave", "give up"]), st.just(0)),
    ),
    max_size=40,
)


class Story:
    """A client, its requests, and the broker."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.sheets: list[Sheet] = []
        self.tasks: list[str] = []
        self.is_connected = False

    def take(self, step: str, number: int) -> None:
        if step in {"lose", "connect", "finish", "fail", "queue"}:
            self._broker(step, number)
            return
        desk = self.desk
        match step:
            case "chat" | "ask" | "list_models" | "why" | "submit":
                arguments = {"prompt": "Hi?", "model": "k2"}
                self._ask("tools/call", {"name": step, "arguments": arguments}, METAS[number])
            case "poll" | "cancel poll" if self.tasks:
                id_ = self.tasks[number % len(self.tasks)]
                poll: dict[str, Any] = {"id": id_, "cancel": step == "cancel poll"}
                self._ask("tools/call", {"name": "poll", "arguments": poll}, {})
            case "task" if self.tasks:
                method = ("tasks/get", "tasks/cancel")[number % 2]
                self._ask(method, {"taskId": self.tasks[number % len(self.tasks)]}, TASKS_META)
            case "cancel":
                desk.notify("notifications/cancelled", {"requestId": number})
            case "wait":
                desk.wait(number)
            case "leave":
                desk.server.cancel_all()
            case "give up":
                for call in desk.link.calls:
                    desk.link.fail(call, unavailable("gone"))

    def _broker(self, step: str, number: int) -> None:
        desk = self.desk
        calls = desk.link.calls
        match step:
            case "finish" if calls and desk.link.is_ready:
                desk.finish(calls[number % len(calls)].key, continuation_id="c-1")
            case "fail" if calls and desk.link.is_ready:
                error = {"code": -32003, "message": "no", "data": {"code": "OVER_CAPACITY"}}
                key = calls[number % len(calls)].key
                desk.from_broker({"jsonrpc": "2.0", "id": key, "error": error})
            case "queue" if calls and desk.link.is_ready:
                desk.queue(number + 1, 2.5, key=calls[number % len(calls)].key)
            case "lose" if self.is_connected:
                self.is_connected = False
                desk.link.lost()
            case "connect" if not self.is_connected:
                self.is_connected = True
                desk.link.opened()
                desk.from_broker({"op": "hello_ack", "ok": True})

    def _ask(self, method: str, params: dict[str, Any], meta: dict[str, Any]) -> None:
        sheet = self.desk.ask(method, params, id_=len(self.sheets), **meta)
        self.sheets.append(sheet)
        if sheet.answers and "result" in sheet.answer:
            result = sheet.result
            if "taskId" in result:
                self.tasks.append(result["taskId"])
            elif '"next"' in json.dumps(result):
                self.tasks.append(json.loads(sheet.text)["id"])

    def check(self) -> None:
        for number, sheet in enumerate(self.sheets):
            assert len(sheet.answers) <= 1
            assert not sheet.answers or sheet.answer["id"] == number
        sent = [frame["id"] for frame in self.desk.sent if frame.get("method") == "tools/call"]
        assert all(sent.count(key) <= MAX_SENDS for key in set(sent))


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_each_request_has_exactly_one_answer(steps: list[tuple[str, int]]) -> None:
    story = Story()
    for step, number in steps:
        story.take(step, number)
        story.check()
    story.take("connect", 0)
    while story.desk.link.calls:
        story.take("finish", 0)
    story.desk.wait(int(MAX_POLL_S) + 1)
    story.check()
    assert all(sheet.answers for sheet in story.sheets)
    assert len(story.desk.server) == 0
    assert not story.desk.tools.is_busy


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=50).map(str.encode))
def test_no_bytes_make_the_server_fail(data: bytes) -> None:
    sheet = Sheet()
    Desk().server.receive(messages.read(data), sheet)
    assert len(sheet.answers) <= 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["initialize", "tools/call", "tools/list", "tasks/get", "server/discover"]),
    st.dictionaries(
        st.sampled_from(["name", "arguments", "_meta", "protocolVersion", "taskId"]), JSON
    ),
    st.sampled_from(METAS),
)
def test_no_parameters_make_the_server_fail(
    method: str, params: dict[str, Any], meta: dict[str, Any]
) -> None:
    desk = Desk()
    if meta:
        params["_meta"] = meta
    sheet = desk.ask(method, params)
    desk.connect()
    for call in desk.link.calls:
        desk.finish(call.key)
    desk.wait(60)
    assert len(sheet.answers) == 1
