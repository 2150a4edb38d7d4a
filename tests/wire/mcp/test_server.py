from __future__ import annotations

from typing import Any

import pytest

from exai_actors import __version__
from exai_actors.wire.mcp import messages
from exai_actors.wire.mcp.messages import Request, Response
from exai_actors.wire.mcp.server import MAX_OPEN, Answer, McpServer
from tests.wire.mcp.desk import STATELESS_META, TASKS_META, Desk, Sheet


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2025-03-26", "2025-03-26"),
        ("2024-11-05", "2024-11-05"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
        (None, "2025-11-25"),
        (7, "2025-11-25"),
    ],
)
def test_initialize_agrees_on_a_version_with_a_handshake(
    desk: Desk, asked: Any, given: str
) -> None:
    result = desk.ask("initialize", {"protocolVersion": asked}).result
    assert result["protocolVersion"] == given
    assert result["capabilities"] == {"tools": {}}
    assert result["serverInfo"] == {"name": "exai", "version": __version__}


def test_discover_names_the_versions_without_a_handshake(desk: Desk) -> None:
    result = desk.ask("server/discover", **STATELESS_META).result
    assert result["supportedVersions"] == ["2026-07-28"]
    assert result["capabilities"] == {"tools": {}, "extensions": {messages.TASKS: {}}}
    assert result["_meta"] == {messages.SERVER_KEY: {"name": "exai", "version": __version__}}
    assert result["resultType"] == "complete"
    assert result["ttlMs"] > 0
    assert result["cacheScope"] == "private"


def test_tools_are_listed_in_both_eras(desk: Desk) -> None:
    stateful = desk.ask("tools/list").result
    assert set(stateful) == {"tools"}
    stateless = desk.ask("tools/list", **STATELESS_META).result
    assert stateless["tools"] == stateful["tools"]
    assert stateless["cacheScope"] == "private"
    assert [tool["name"] for tool in stateful["tools"]] == [
        "chat",
        "ask",
        "list_models",
        "usage",
        "why",
        "submit",
        "poll",
    ]


def test_ping_belongs_to_the_era_with_a_handshake(desk: Desk) -> None:
    assert desk.ask("ping").result == {}
    assert desk.ask("ping", **STATELESS_META).error["code"] == messages.METHOD_NOT_FOUND


@pytest.mark.parametrize(
    ("method", "meta"),
    [
        ("initialize", STATELESS_META),
        ("logging/setLevel", STATELESS_META),
        ("resources/subscribe", STATELESS_META),
        ("no/such", STATELESS_META),
        ("subscriptions/listen", STATELESS_META),
        ("tasks/list", TASKS_META),
        ("server/discover", {}),
        ("tasks/get", {}),
        ("prompts/list", {}),
    ],
)
def test_a_method_that_is_not_there_is_not_found(
    desk: Desk, method: str, meta: dict[str, Any]
) -> None:
    sheet = desk.ask(method, {"taskId": "x"}, **meta)
    assert sheet.error["code"] == messages.METHOD_NOT_FOUND
    assert method in sheet.error["message"]
    assert sheet.statuses == [404 if meta else 200]


@pytest.mark.parametrize(
    ("meta", "code"),
    [
        ({messages.VERSION_KEY: "2026-07-28"}, messages.INVALID_PARAMS),
        ({messages.CAPABILITIES_KEY: {}}, messages.INVALID_PARAMS),
        ({**STATELESS_META, messages.CAPABILITIES_KEY: []}, messages.INVALID_PARAMS),
        ({**STATELESS_META, messages.VERSION_KEY: 1}, messages.INVALID_PARAMS),
        ({**STATELESS_META, messages.VERSION_KEY: "v999"}, messages.UNSUPPORTED_VERSION),
        ({**STATELESS_META, messages.VERSION_KEY: "2025-11-25"}, messages.UNSUPPORTED_VERSION),
    ],
)
def test_a_stateless_request_has_to_say_what_it_speaks(
    desk: Desk, meta: dict[str, Any], code: int
) -> None:
    sheet = desk.ask("tools/list", id_="x", **meta)
    assert sheet.error["code"] == code
    assert sheet.statuses == [400]
    assert sheet.answer["id"] == "x"
    if code == messages.UNSUPPORTED_VERSION:
        assert sheet.error["data"]["supported"] == ["2026-07-28"]
        assert sheet.error["data"]["requested"] == meta[messages.VERSION_KEY]


def test_task_methods_are_for_clients_that_know_tasks(desk: Desk) -> None:
    for method in ("tasks/get", "tasks/update", "tasks/cancel"):
        sheet = desk.ask(method, {"taskId": "x"}, **STATELESS_META)
        assert sheet.error["code"] == messages.MISSING_CAPABILITY
        required = sheet.error["data"]["requiredCapabilities"]
        assert required == {"extensions": {messages.TASKS: {}}}
        assert sheet.statuses == [400]


def test_an_unreadable_message_gets_an_error_without_effect(desk: Desk) -> None:
    sheet = Sheet()
    desk.server.receive(messages.read(b"{"), sheet)
    assert sheet.answer == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32700, "message": "this is not JSON in UTF-8"},
    }
    assert sheet.statuses == [400]


class Held:
    """A server with a method that a test ends itself."""

    def __init__(self, *, names_requests: bool = True) -> None:
        self.answers: list[Answer] = []
        self.responses: list[Response] = []
        self.cancelled = 0
        self.server = McpServer(
            {"wait": self._wait},
            {},
            instructions="Be brief.",
            names_requests=names_requests,
            on_response=self.responses.append,
        )

    def ask(self, id_: bytes = b"1", token: Any = None) -> Sheet:
        sheet = Sheet()
        meta = {} if token is None else {"progressToken": token}
        self.server.receive(Request(id_, "wait", {}, meta), sheet)
        return sheet

    def cancel(self, id_: Any) -> None:
        note = messages.Notification("notifications/cancelled", {"requestId": id_})
        self.server.receive(note, Sheet())

    def _wait(self, _: Request, answer: Answer) -> None:
        def cancelled() -> None:
            self.cancelled += 1

        answer.on_cancel = cancelled
        self.answers.append(answer)


def test_instructions_are_passed_on() -> None:
    sheet = Sheet()
    Held().server.receive(Request(b"1", "initialize", {}, {}), sheet)
    assert sheet.result["instructions"] == "Be brief."


def test_a_request_has_one_answer() -> None:
    held = Held()
    sheet = held.ask()
    (answer,) = held.answers
    assert len(held.server) == 1
    answer.result({"a": 1})
    answer.result({"a": 2})
    answer.error(-1, "too late")
    answer.progress("too late")
    answer.cancel()
    assert sheet.result == {"a": 1}
    assert sheet.before == []
    assert held.cancelled == 0
    assert len(held.server) == 0


def test_progress_counts_and_needs_a_token() -> None:
    held = Held()
    silent, wanted = held.ask(b"1"), held.ask(b"2", token="p")
    for answer in held.answers:
        answer.progress("one")
        answer.progress("two", {"position": 3})
    assert silent.before == []
    assert [frame["params"] for frame in wanted.before] == [
        {"progressToken": "p", "progress": 1, "message": "one"},
        {"progressToken": "p", "progress": 2, "message": "two", "_meta": {"position": 3}},
    ]


@pytest.mark.parametrize(("named", "id_"), [(1, b"1"), ("1", b'"1"'), ("é", '"é"'.encode())])
def test_a_cancelled_request_ends_with_one_error(named: Any, id_: bytes) -> None:
    held = Held()
    sheet, other = held.ask(id_), held.ask(b'"other"')
    held.cancel(named)
    held.cancel(named)
    assert held.cancelled == 1
    assert sheet.error["code"] == messages.CANCELLED
    assert other.answers == []


@pytest.mark.parametrize("named", [2, "1", None, [], 1.0])
def test_a_cancel_for_another_request_has_no_effect(named: Any) -> None:
    held = Held()
    held.ask()
    held.cancel(named)
    assert held.cancelled == 0


def test_where_ids_name_nothing_they_may_repeat_and_cancel_nothing() -> None:
    held = Held(names_requests=False)
    sheets = [held.ask(), held.ask()]
    held.cancel(1)
    assert [sheet.answers for sheet in sheets] == [[], []]


def test_an_id_in_use_is_refused() -> None:
    held = Held()
    first, second = held.ask(), held.ask()
    assert first.answers == []
    assert second.error["code"] == messages.INVALID_REQUEST
    held.answers[0].result({})
    assert held.ask().answers == []


def test_requests_without_an_answer_are_limited() -> None:
    held = Held()
    for number in range(MAX_OPEN):
        assert held.ask(b"%d" % number).answers == []
    assert held.ask(b"1000").error["code"] == messages.BUSY
    held.answers[0].result({})
    assert held.ask(b"1001").answers == []


def test_a_client_that_leaves_cancels_all() -> None:
    held = Held()
    held.ask(b"1")
    held.ask(b"2")
    held.server.cancel_all()
    assert held.cancelled == 2
    assert len(held.server) == 0


def test_answers_of_the_client_are_passed_on() -> None:
    held = Held()
    response = Response(b"5", {"ok": True})
    held.server.receive(response, Sheet())
    held.server.receive(messages.Notification("notifications/initialized", {}), Sheet())
    assert held.responses == [response]
