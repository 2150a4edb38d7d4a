"""MCP over HTTP: sessions, streams, and the ends of requests."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest

from exai_actors.core.authentication import Identity
from exai_actors.core.observe.request_ends import RequestEnd
from exai_actors.edges.mcp.client import MAX_WAITING
from exai_actors.ids import TenantName
from exai_actors.messages.connection import Disconnect, SocketEvent
from exai_actors.testing.tree import ManualTree
from exai_actors.wire.mcp import messages
from tests.edges.mcp.mcp_desk import McpDesk

TOKEN = "a-token-of-sixteen-or-more"
OTHER = "another-token-of-sixteen"


@pytest.fixture
def desk() -> McpDesk:
    return McpDesk()


def guarded() -> McpDesk:
    tokens = tuple((each, Identity(TenantName(each[:7]))) for each in (TOKEN, OTHER))
    return McpDesk(ManualTree(tokens=tokens))


def bearer(token: str) -> dict[str, Any]:
    return {"Authorization": f"Bearer {token}"}


def test_a_session_lists_tools_and_answers_a_question(desk: McpDesk) -> None:
    session = desk.initialize()
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    accepted = desk.send("POST", note, Mcp_Session_Id=session)
    assert (accepted.status, accepted.body) == (202, b"")
    listed = desk.ask("tools/list", Mcp_Session_Id=session)
    assert "chat" in [tool["name"] for tool in listed.result["tools"]]
    chat = desk.chat(session, "What is a permit?")
    assert chat.status is None
    (call,) = desk.calls
    assert call.prompt == "What is a permit?"
    call.complete("The right to one call.")
    desk.settle()
    assert not chat.is_stream
    assert chat.text == "The right to one call."
    assert chat.result["_meta"]["model_used"] == "moon"
    assert [each.protocol for each in desk.tree.overview.connections()] == ["mcp"]


def test_a_stateless_request_needs_no_session(desk: McpDesk) -> None:
    discovered = desk.ask_stateless("server/discover")
    assert discovered.status == 200
    assert discovered.field("Mcp-Session-Id") is None
    chat = desk.ask_stateless("tools/call", {"name": "chat", "arguments": {"prompt": "Hi?"}})
    desk.calls[0].complete("Hello.")
    desk.settle()
    assert chat.text == "Hello."
    assert chat.result["resultType"] == "complete"


@pytest.mark.parametrize("stateless", [False, True])
def test_conversations_go_on_in_both_eras(desk: McpDesk, stateless: bool) -> None:
    session = "" if stateless else desk.initialize()

    def ask(**arguments: Any) -> Any:
        params = {"name": "chat", "arguments": arguments}
        if stateless:
            return desk.ask_stateless("tools/call", params)
        return desk.ask("tools/call", params, Mcp_Session_Id=session)

    first = ask(prompt="one")
    desk.calls[-1].complete("1")
    desk.settle()
    ask(prompt="two", continuation_id=first.result["_meta"]["continuation_id"])
    assert [each.content for each in desk.calls[-1].call.messages] == ["one", "1", "two"]


def test_clients_of_the_stateless_era_are_told_apart(desk: McpDesk) -> None:
    def ask(arguments: dict[str, Any], **fields: Any) -> Any:
        return desk.ask_stateless("tools/call", {"name": "chat", "arguments": arguments}, **fields)

    first = ask({"prompt": "one"}, User_Agent="desk/1.0")
    desk.calls[-1].complete("1")
    desk.settle()
    more = {"prompt": "two", "continuation_id": first.result["_meta"]["continuation_id"]}
    for fields in ({"User-Agent": "other/1"}, {"User-Agent": "desk/1", "x-exai-session": "mine"}):
        assert ask(more, **fields).result["isError"] is True
    ask(more, User_Agent="desk/2.0")
    assert len(desk.calls[-1].call.messages) == 3


def test_progress_makes_the_answer_a_stream(desk: McpDesk) -> None:
    session = desk.initialize()
    first = desk.chat(session, id_=1)
    second = desk.chat(session, id_=2, progressToken="p")
    desk.wait(2)
    assert first.status is None
    assert second.status == 200
    assert second.is_stream
    assert second.field("Cache-Control") == "no-cache"
    assert second.reports[0].startswith("waiting at position 1")
    desk.calls[0].complete("one")
    desk.settle()
    desk.calls[1].complete("two")
    desk.settle()
    assert second.text == "two"
    assert [frame["params"]["progress"] for frame in second.frames[:-1]] == list(
        range(1, len(second.frames))
    )


def test_progress_comes_every_few_seconds(desk: McpDesk) -> None:
    session = desk.initialize()
    chat = desk.chat(session, progressToken="p")
    desk.wait(13)
    assert len(chat.reports) >= 3
    assert not chat.is_over


def test_silence_is_kept_alive_with_comments(desk: McpDesk) -> None:
    session = desk.initialize()
    chat = desk.chat(session)
    desk.wait(9)
    assert chat.status is None
    desk.wait(1)
    assert chat.is_stream
    desk.wait(20)
    assert chat.comments == 3
    desk.calls[0].complete("Hello.")
    desk.settle()
    assert chat.text == "Hello."


def test_a_client_that_takes_no_stream_gets_json(desk: McpDesk) -> None:
    session = desk.initialize()
    params = {"name": "chat", "arguments": {"prompt": "Hi?"}, "_meta": {"progressToken": 1}}
    chat = desk.ask("tools/call", params, Mcp_Session_Id=session, Accept="application/json")
    desk.wait(30)
    assert chat.status is None
    desk.calls[0].complete("Hello.")
    desk.settle()
    assert not chat.is_stream
    assert chat.text == "Hello."


def test_a_client_that_leaves_cancels_its_request(desk: McpDesk) -> None:
    session = desk.initialize()
    running, waiting = desk.chat(session, id_=1), desk.chat(session, id_=2)
    waiting.leave()
    running.leave()
    assert desk.calls[0].abort_asked
    desk.calls[0].close()
    desk.settle()
    statistics = desk.tree.statistics()
    assert (statistics.in_flight, statistics.queued) == (0, 0)
    assert len(desk.calls) == 1


def test_a_client_that_leaves_while_it_gets_a_stream_cancels_its_request(desk: McpDesk) -> None:
    chat = desk.ask_stateless(
        "tools/call", {"name": "chat", "arguments": {"prompt": "Hi?"}}, {"progressToken": 1}
    )
    desk.wait(5)
    assert chat.is_stream
    chat.leave()
    assert desk.calls[0].abort_asked


def test_a_notification_cancels_a_request(desk: McpDesk) -> None:
    session = desk.initialize()
    chat = desk.chat(session, id_="mine")
    params = {"requestId": "mine", "reason": "enough"}
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
    assert desk.send("POST", note, Mcp_Session_Id=session).status == 202
    assert desk.calls[0].abort_asked
    assert chat.answer["error"]["code"] == messages.CANCELLED


def test_a_submitted_question_survives_its_request(desk: McpDesk) -> None:
    session = desk.initialize()

    def call(tool: str, **arguments: Any) -> Any:
        params = {"name": tool, "arguments": arguments}
        return desk.ask("tools/call", params, Mcp_Session_Id=session)

    exchange = call("submit", prompt="Hi?")
    id_ = json.loads(exchange.text)["id"]
    exchange.leave()
    poll = call("poll", id=id_, wait_s=5)
    desk.wait(5)
    assert '"status":"working"' in poll.text
    desk.calls[0].complete("Hello.")
    desk.settle()
    assert call("poll", id=id_).text == "Hello."


def test_a_long_call_becomes_a_task(desk: McpDesk) -> None:
    capabilities: dict[str, Any] = {messages.CAPABILITIES_KEY: {"extensions": {messages.TASKS: {}}}}
    params = {"name": "chat", "arguments": {"prompt": "Hi?"}}
    chat = desk.ask_stateless("tools/call", params, capabilities)
    desk.wait(3)
    assert chat.result["resultType"] == "task"
    task = {"taskId": chat.result["taskId"]}
    assert desk.ask_stateless("tasks/get", task, capabilities).result["status"] == "working"
    desk.calls[0].complete("Hello.")
    desk.settle()
    done = desk.ask_stateless("tasks/get", task, capabilities).result
    assert done["result"]["content"][0]["text"] == "Hello."


@pytest.mark.parametrize(
    ("method", "fields", "status"),
    [
        ("POST", {}, 400),
        ("POST", {"Mcp-Session-Id": "nope"}, 404),
        ("GET", {}, 405),
        ("GET", {"Mcp-Session-Id": "nope"}, 404),
        ("DELETE", {}, 405),
        ("DELETE", {"Mcp-Session-Id": "nope"}, 404),
        ("PUT", {}, 405),
        ("POST", {"Content-Type": "text/plain"}, 415),
        ("POST", {"Accept": "text/html"}, 406),
        ("GET", {"Mcp-Session-Id": "nope", "Accept": "application/json"}, 406),
        ("POST", {"MCP-Protocol-Version": "2024-01-01"}, 400),
        ("POST", {"Origin": "https://evil.example"}, 403),
    ],
)
def test_requests_that_belong_to_nothing_are_refused(
    desk: McpDesk, method: str, fields: dict[str, str], status: int
) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"} if method == "POST" else None
    exchange = desk.send(method, body, **fields)
    assert exchange.status == status
    assert exchange.is_over


@pytest.mark.parametrize("body", [b"{", b"[]", b"", b'{"jsonrpc":"2.0","id":1}', b"\xff"])
def test_a_body_that_is_no_message_is_refused(desk: McpDesk, body: bytes) -> None:
    for fields in ({}, {"MCP_Protocol_Version": "2026-07-28"}):
        exchange = desk.send("POST", body, Content_Type="application/json", **fields)
        assert exchange.status == 400
        assert exchange.answer["error"]["code"] in {messages.PARSE_ERROR, messages.INVALID_REQUEST}


def test_a_body_that_is_too_large_is_refused_as_json() -> None:
    desk = McpDesk(body_bytes=100)
    exchange = desk.send("POST", {"jsonrpc": "2.0", "id": 1, "method": "x" * 200})
    assert exchange.status == 413
    assert exchange.frames[0]["error"]["code"] == messages.INVALID_REQUEST


def test_a_head_that_contradicts_its_body_is_refused(desk: McpDesk) -> None:
    exchange = desk.ask_stateless("tools/list", Mcp_Method="prompts/list")
    assert exchange.status == 400
    assert exchange.answer["error"]["code"] == messages.HEADER_MISMATCH
    exchange = desk.ask_stateless("no/such")
    assert exchange.status == 404
    assert exchange.answer["error"]["code"] == messages.METHOD_NOT_FOUND


def test_a_deleted_session_is_gone_with_its_requests(desk: McpDesk) -> None:
    session = desk.initialize()
    chat = desk.chat(session)
    stream = desk.send("GET", Mcp_Session_Id=session)
    assert desk.send("DELETE", Mcp_Session_Id=session).status == 204
    assert desk.calls[0].abort_asked
    assert chat.answer["error"]["code"] == messages.CANCELLED
    assert stream.is_over
    assert desk.chat(session).status == 404
    desk.calls[0].close()
    desk.settle()
    assert desk.tree.connections() == {}


def test_the_stream_of_a_session_stays_open_and_is_kept_alive(desk: McpDesk) -> None:
    session = desk.initialize()
    stream = desk.send("GET", Mcp_Session_Id=session)
    assert (stream.status, stream.is_stream, stream.is_over) == (200, True, False)
    desk.wait(20)
    assert stream.comments == 2
    second = desk.send("GET", Mcp_Session_Id=session)
    assert stream.is_over
    assert not second.is_over
    second.leave()
    desk.wait(20)


def test_a_session_without_use_is_forgotten() -> None:
    desk = McpDesk(idle_s=60.0)
    used, unused = desk.initialize(), desk.initialize()
    stream = desk.initialize()
    desk.send("GET", Mcp_Session_Id=stream)
    desk.wait(40)
    desk.ask("ping", Mcp_Session_Id=used)
    desk.wait(30)
    assert desk.ask("ping", Mcp_Session_Id=used).status == 200
    assert desk.ask("ping", Mcp_Session_Id=stream).status == 200
    assert desk.ask("ping", Mcp_Session_Id=unused).status == 404


def test_of_too_many_clients_the_one_without_use_gives_way() -> None:
    desk = McpDesk(max_clients=2)
    first = desk.initialize()
    desk.wait(1)
    second = desk.initialize()
    desk.chat(second)
    third = desk.initialize()
    assert desk.ask("ping", Mcp_Session_Id=first).status == 404
    desk.chat(third)
    refused = desk.ask("initialize")
    assert refused.status == 503
    assert refused.field("Retry-After") == "5"
    assert desk.ask("ping", id_=2, Mcp_Session_Id=second).status == 200


def test_a_token_is_needed_where_the_broker_needs_one() -> None:
    desk = guarded()
    for ask in (desk.ask, desk.ask_stateless):
        method = "initialize" if ask == desk.ask else "tools/list"
        cases: tuple[dict[str, Any], ...] = (
            {},
            bearer("wrong-token-wrong-token"),
            {"Authorization": "Basic x"},
        )
        for fields in cases:
            exchange = ask(method, **fields)
            desk.wait(2)
            assert exchange.status == 401
            assert exchange.field("WWW-Authenticate") == "Bearer"
            assert exchange.field("Mcp-Session-Id") is None
    assert desk.tree.connections() == {}
    assert desk.initialize(**bearer(TOKEN))
    assert desk.initialize(x_api_key=OTHER)


def test_a_session_is_for_its_own_token() -> None:
    desk = guarded()
    session = desk.initialize(**bearer(TOKEN))
    for fields in ({}, bearer(OTHER)):
        for method, body in (("POST", {"jsonrpc": "2.0", "id": 1, "method": "ping"}),
                             ("GET", None), ("DELETE", None)):  # fmt: skip
            exchange = desk.send(method, body, Mcp_Session_Id=session, **fields)
            assert exchange.status == 404
    assert desk.ask("ping", Mcp_Session_Id=session, **bearer(TOKEN)).result == {}


def test_requests_count_for_the_tenant_of_the_token() -> None:
    desk = guarded()
    desk.ask_stateless(
        "tools/call", {"name": "chat", "arguments": {"prompt": "Hi?"}}, **bearer(TOKEN)
    )
    (tenant,) = [each for each in desk.tree.board.tenants() if each.in_flight]
    assert tenant.name == TOKEN[:7]


def test_a_draining_broker_finishes_what_runs_and_refuses_the_rest(desk: McpDesk) -> None:
    session = desk.initialize()
    chat = desk.chat(session, id_=1)
    stream = desk.send("GET", Mcp_Session_Id=session)
    desk.tree.drain()
    desk.settle()
    refused = desk.chat(session, id_=2)
    assert refused.result["isError"] is True
    assert "DRAINING" in refused.text
    desk.calls[0].complete("Hello.")
    desk.settle()
    assert chat.text == "Hello."
    assert stream.is_over
    assert desk.ask("ping", Mcp_Session_Id=session).status == 404
    again = desk.ask("initialize")
    assert (again.status, again.answer["id"]) == (503, 1)


def test_its_requests_are_named_as_such_where_all_are_listed() -> None:
    tree = ManualTree(limit=1)
    ends: list[RequestEnd] = []
    tree.request_board.observers = (ends.append,)
    desk = McpDesk(tree)
    session = desk.initialize()
    desk.chat(session, id_=1)
    desk.calls[0].complete("Hello.")
    desk.settle()
    desk.ask("tools/call", {"name": "list_models", "arguments": {}}, Mcp_Session_Id=session)
    unknown = {"name": "ask", "arguments": {"prompt": "Hi?", "model": "sun"}}
    desk.ask("tools/call", unknown, Mcp_Session_Id=session)
    desk.settle()
    assert [(end.outcome, end.api) for end in ends] == [
        ("completed", "mcp"),
        ("completed", "mcp"),
        ("refused", "mcp"),
    ]
    tree.client().call("plain")
    tree.upstream.calls[1].complete("Hello.")
    tree.settle()
    assert ends[-1].api == ""


def test_a_broker_that_gives_up_answers_what_runs(desk: McpDesk) -> None:
    session = desk.initialize()
    chat = desk.chat(session)
    desk.tree.drain(immediately=True)
    desk.settle()
    assert chat.result["isError"] is True


def test_an_operator_can_end_the_connection(desk: McpDesk) -> None:
    session = desk.initialize()
    chat = desk.chat(session)
    for ref in desk.tree.connections().values():
        ref.tell(Disconnect())
    desk.settle()
    assert chat.is_over
    assert chat.result["isError"] is True
    assert desk.chat(session).status == 404


def test_a_client_that_leaves_before_it_is_admitted_leaves_nothing(desk: McpDesk) -> None:
    desk.actors_run = False
    params = {"name": "chat", "arguments": {"prompt": "Hi?"}}
    early, other = (desk.ask_stateless("tools/call", params) for _ in range(2))
    early.leave()
    desk.settle()
    assert len(desk.calls) == 1
    assert other.status is None


def test_clients_that_are_not_admitted_yet_are_answered_at_the_end(desk: McpDesk) -> None:
    desk.actors_run = False
    exchange = desk.ask("initialize")
    assert not exchange.is_over
    desk.endpoint.close()
    desk.settle()
    assert (exchange.status, exchange.answer["id"]) == (503, 1)
    assert desk.tree.connections() == {}


def test_clients_without_a_valid_token_give_way_to_each_other_only() -> None:
    tokens = ((TOKEN, Identity(TenantName("desk"))),)
    desk = McpDesk(ManualTree(tokens=tokens), max_strangers=3)
    session = desk.initialize(**bearer(TOKEN))
    chat = desk.ask("tools/call", {"name": "chat", "arguments": {"prompt": "Hi?"}},
                    Mcp_Session_Id=session, **bearer(TOKEN))  # fmt: skip
    desk.actors_run = False
    wrong = [desk.ask("initialize", **bearer(f"wrong-wrong-wrong-{n}")) for n in range(5)]
    assert [each.status for each in wrong] == [503, 503, None, None, None]
    desk.actors_run = True
    desk.wait(3)
    assert [each.status for each in wrong[2:]] == [401, 401, 401]
    assert chat.status is None
    desk.calls[0].complete("Hello.")
    desk.settle()
    assert chat.text == "Hello."


def test_requests_that_wait_for_an_admission_are_limited(desk: McpDesk) -> None:
    desk.actors_run = False
    asked = [desk.ask_stateless("tools/list") for _ in range(MAX_WAITING + 1)]
    assert [each.status for each in asked] == [None] * MAX_WAITING + [503]
    desk.settle()
    assert {each.status for each in asked[:MAX_WAITING]} == {200}


def test_the_end_of_the_process_ends_all_clients(desk: McpDesk) -> None:
    session = desk.initialize()
    chat = desk.chat(session)
    desk.endpoint.close()
    desk.settle()
    assert chat.is_over
    assert desk.calls[0].abort_asked
    assert desk.tree.connections() == {}


def test_a_slow_consumer_gets_its_answer_and_no_reports_meanwhile(desk: McpDesk) -> None:
    session = desk.initialize()
    chat = desk.chat(session, progressToken="p")
    desk.wait(5)
    before = len(chat.reports)
    chat.stall()
    desk.wait(30)
    assert len(chat.reports) == before
    chat.catch_up()
    desk.wait(5)
    assert len(chat.reports) > before


class _FullRef:
    """The mailbox of a connection that takes no messages."""

    def tell(self, message: SocketEvent, /) -> None: ...

    def offer(self, message: SocketEvent, /) -> Literal["full"]:
        return "full"

    def tell_system(self, message: SocketEvent, /) -> None: ...


@pytest.mark.parametrize("stateless", [False, True])
def test_a_client_whose_connection_takes_no_message_is_refused(
    monkeypatch: pytest.MonkeyPatch, stateless: bool
) -> None:
    tree = ManualTree()
    opened, is_full = tree.open_connection, True
    monkeypatch.setattr(
        tree, "open_connection", lambda *given: _FullRef() if is_full else opened(*given)
    )
    desk = McpDesk(tree)

    def ask() -> int | None:
        if stateless:
            return desk.ask_stateless("server/discover").status
        return desk.ask("initialize", {"protocolVersion": "2025-11-25"}).status

    assert ask() == 503
    is_full = False
    assert ask() == 200
