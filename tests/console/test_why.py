"""Why a request waits, who is ahead, and its way so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.authentication import Identity
from exai_actors.core.calls import FailureKind
from exai_actors.core.capacity.ahead import MAX_AHEAD, MAX_WALK
from exai_actors.core.capacity.changes import Pause
from exai_actors.core.capacity.settings import (
    CapacitySettings,
    CircuitSettings,
    GateSettings,
    RetrySettings,
)
from exai_actors.core.operators import Role
from exai_actors.core.routing import RouteSettings
from exai_actors.core.wait_reasons import WaitCode
from exai_actors.ids import TenantName
from tests.console.operator_desk import OperatorDesk

TENANTS = (("t-a", Identity(TenantName("alice"))), ("t-b", Identity(TenantName("bob"))))


def ask(desk: OperatorDesk, question: str, of: str) -> dict[str, Any]:
    frame = {"op": "ask", "id": 1, "question": question, "of": of}
    (answer,) = desk.console(Role.VIEWER).send(frame)
    return answer["answer"] if answer["op"] == "answer" else answer


def permit() -> OperatorDesk:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    client.call("running")
    client.call("it")
    return desk


def tenant_share() -> OperatorDesk:
    desk = OperatorDesk(limit=2, tokens=TENANTS)
    alice, bob = desk.tree.client("s", "t-a"), desk.tree.client("s", "t-b")
    for name in ("a1", "a2", "it"):
        alice.call(name)
    bob.call("b1")
    return desk


def gate(**limits: int) -> Callable[[], OperatorDesk]:
    def make() -> OperatorDesk:
        gates = GateSettings(margin_s=0.0, **limits)
        desk = OperatorDesk(capacity=CapacitySettings(limit=9, gates=gates))
        client = desk.tree.client()
        client.call("first")
        client.call("it", if_busy="wait")
        return desk

    return make


def turn() -> OperatorDesk:
    gates = GateSettings(tokens_per_minute=10_000, margin_s=0.0)
    desk = OperatorDesk(capacity=CapacitySettings(limit=9, gates=gates))
    client = desk.tree.client()
    client.call("first", "word " * 6_000)
    client.call("large", "word " * 6_000)
    client.call("it")
    return desk


def hold() -> OperatorDesk:
    desk = OperatorDesk(capacity=CapacitySettings(limit=1, retry=RetrySettings(attempts=1)))
    client = desk.tree.client()
    client.call("first")
    desk.tree.upstream.calls[0].fail(FailureKind.QUOTA, "out of credit", retry_after=90.0)
    client.call("it")
    return desk


def circuit() -> OperatorDesk:
    settings = CapacitySettings(
        limit=1,
        retry=RetrySettings(attempts=1),
        circuit=CircuitSettings(failures_in_a_row=1, open_s=30.0),
    )
    desk = OperatorDesk(capacity=settings)
    client = desk.tree.client()
    client.call("first")
    desk.tree.upstream.calls[0].fail(FailureKind.SERVER_ERROR)
    client.call("it")
    return desk


def paused() -> OperatorDesk:
    desk = OperatorDesk(limit=1)
    assert desk.tree.change(Pause()) is None
    desk.tree.client().call("it")
    return desk


def retry() -> OperatorDesk:
    desk = OperatorDesk(capacity=CapacitySettings(limit=1, retry=RetrySettings(attempts=3)))
    desk.tree.client().call("it")
    desk.tree.upstream.calls[0].fail(FailureKind.SERVER_ERROR)
    desk.tree.settle()
    return desk


def conversation() -> OperatorDesk:
    desk = OperatorDesk(limit=9)
    client = desk.tree.client()
    client.call("first")
    desk.tree.upstream.calls[0].complete()
    talk = client.received()[-1]["continuation_id"]
    client.call("second", arguments={"continuation_id": talk})
    client.call("it", arguments={"continuation_id": talk})
    return desk


def session_window() -> OperatorDesk:
    desk = OperatorDesk(limit=9, session=SessionSettings(window=1))
    client = desk.tree.client()
    client.call("first")
    client.call("it")
    return desk


def operator() -> OperatorDesk:
    desk = permit()
    console = desk.console()
    (row,) = console.rows("requests", filter="request_id:it")
    console.act("request.hold", row["request"])
    return desk


WAITS: dict[WaitCode, Callable[[], OperatorDesk]] = {
    WaitCode.PERMIT: permit,
    WaitCode.TENANT_SHARE: tenant_share,
    WaitCode.TURN: turn,
    WaitCode.REQUESTS_PER_MINUTE: gate(requests_per_minute=1),
    WaitCode.TOKENS_PER_MINUTE: gate(tokens_per_minute=1),
    WaitCode.REQUESTS_PER_DAY: gate(requests_per_day=1),
    WaitCode.TOKENS_PER_DAY: gate(tokens_per_day=1),
    WaitCode.HOLD: hold,
    WaitCode.CIRCUIT: circuit,
    WaitCode.PAUSED: paused,
    WaitCode.OPERATOR: operator,
    WaitCode.RETRY: retry,
    WaitCode.CONVERSATION: conversation,
    WaitCode.SESSION_WINDOW: session_window,
}


@pytest.mark.parametrize("code", list(WaitCode))
def test_each_reason_is_named_with_its_figures(code: WaitCode) -> None:
    answer = ask(WAITS[code](), "why", "it")
    assert (answer["request_id"], answer["reason"]) == ("it", code.value)
    assert answer["text"]
    assert answer["figures"] or code is WaitCode.RETRY


@pytest.mark.parametrize("code", list(WaitCode))
def test_the_table_and_the_answer_name_the_same_reason(code: WaitCode) -> None:
    desk = WAITS[code]()
    (row,) = desk.console(Role.VIEWER).rows("requests", filter="request_id:it")
    assert row["reason"] == code.value
    assert row["request"] == ask(desk, "why", "it")["request"]


def test_those_ahead_are_named_with_the_rule_that_put_them_there() -> None:
    desk = OperatorDesk(limit=1, tokens=TENANTS)
    alice, bob = desk.tree.client("s-alice", "t-a"), desk.tree.client("s-bob", "t-b")
    second = desk.tree.client("s-other", "t-a")
    alice.call("running")
    alice.call("earlier")
    alice.call("it")
    alice.call("urgent", priority=5)
    second.call("of the other session")
    bob.call("of the other tenant")
    answer = ask(desk, "why", "it")
    numbers = {
        row["request"]: row["request_id"] for row in desk.console(Role.VIEWER).rows("requests")
    }
    ahead = {numbers[each["request"]]: each["code"] for each in answer["ahead"]}
    assert ahead == {
        "of the other tenant": "tenant_share",
        "of the other session": "session_share",
        "urgent": "priority",
        "earlier": "earlier",
    }
    assert answer["position"] == 5
    assert [numbers[each["request"]] for each in answer["running"]] == ["running"]
    assert all(each["because"] and each["session"] for each in answer["ahead"])


def test_other_limits_of_the_same_request_are_named_too() -> None:
    settings = CapacitySettings(
        limit=1,
        retry=RetrySettings(attempts=1),
        gates=GateSettings(requests_per_minute=1, margin_s=0.0),
    )
    desk = OperatorDesk(capacity=settings)
    client = desk.tree.client()
    client.call("first")
    desk.tree.upstream.calls[0].fail(FailureKind.QUOTA, retry_after=300.0)
    client.call("it")
    answer = ask(desk, "why", "it")
    assert answer["reason"] == "hold"
    assert "requests_per_minute" in [each["code"] for each in answer["also"]]


def test_a_request_that_runs_waits_for_nothing() -> None:
    answer = ask(permit(), "why", "running")
    assert (answer["state"], answer["reason"]) == ("running", "")
    assert answer["text"] == "it runs at kimi, attempt 1"


@pytest.mark.parametrize("at", [0.1, 0.3, 0.7, 1.1, 12.3])
def test_a_request_that_has_just_come_has_not_waited_less_than_nothing(at: float) -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    desk.tree.advance(at)
    for name in ("runs", "waits"):
        client.call(name, name)
    desk_console = desk.console(Role.VIEWER)
    waited = [ask(desk, "why", name)["waited_s"] for name in ("runs", "waits")]
    waited += [row["waited_s"] for row in desk_console.rows("requests")]
    assert not any("-" in str(each) for each in waited)


def test_the_requests_ahead_in_a_session_are_named() -> None:
    desk = session_window()
    (ahead,) = ask(desk, "why", "it")["ahead"]
    assert ahead["request"] == "1/1"
    desk = conversation()
    answer = ask(desk, "why", "it")
    (ahead,) = answer["ahead"]
    assert ahead["request"] == "1/2"
    assert (answer["also"], answer["running"]) == ([], [])


@pytest.mark.parametrize("question", ["why", "request"])
@pytest.mark.parametrize("of", ["", "nothing", "9/9", "1/9", "x/y", "1/"])
def test_an_unknown_request_is_an_error(question: str, of: str) -> None:
    error = ask(permit(), question, of)
    assert (error["op"], error["code"]) == ("error", "unknown")
    assert error["message"] == f"there is no request '{of}' without an outcome"


def test_an_id_that_several_sessions_use_needs_a_number() -> None:
    desk = OperatorDesk(limit=1)
    for session in ("one", "two", "three"):
        desk.tree.client(session).call("r-1")
    error = ask(desk, "why", "r-1")
    assert error["message"] == (
        "3 requests have the id 'r-1'; choose one by its number: 1/1, 2/1, 3/1"
    )
    assert ask(desk, "why", "2/1")["session"] == "two"


@pytest.mark.parametrize("identity", [7, "seven"])
def test_a_request_is_found_by_the_id_of_a_json_rpc_frame(identity: int | str) -> None:
    desk = OperatorDesk(limit=1)
    call = {"name": "chat", "arguments": {"prompt": "hi"}}
    client = desk.tree.connect()
    client.send({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}})
    client.send({"jsonrpc": "2.0", "id": identity, "method": "tools/call", "params": call})
    row = desk.console(Role.VIEWER).rows("requests")[0]
    assert ask(desk, "why", row["request"])["state"] == "running"


def way(desk: OperatorDesk, of: str) -> list[tuple[float, str, str, str]]:
    """The timeline of a request, with its instants rounded to seconds."""
    return [
        (float(round(each["at_s"])), each["where"], each["event"], each["detail"])
        for each in ask(desk, "request", of)["timeline"]
    ]


def test_the_way_of_a_request_is_told_in_order() -> None:
    desk = OperatorDesk(limit=1, session=SessionSettings(window=2))
    client = desk.tree.client()
    client.call("running", stream=True)
    client.call("queued")
    client.call("waiting")
    desk.tree.advance(3.0)
    desk.tree.upstream.calls[0].chunk("piece")
    desk.tree.settle()
    came = [
        (0.0, "connection", "received", "by conn-1"),
        (0.0, "session", "accepted", "in /sessions/1, may take 900 s"),
    ]
    admitted = (0.0, "provider", "admitted", "kimi")
    ends = (900.0, "session", "deadline", "it ends now at the latest")
    assert way(desk, "running") == [
        *came,
        admitted,
        (0.0, "provider", "granted", "attempt 1"),
        (0.0, "service", "started", "model moon"),
        (3.0, "service", "answering", "1 piece so far"),
        ends,
    ]
    waits = (3.0, "provider", "waits", "kimi: 1 of 1 calls in flight")
    assert way(desk, "queued") == [*came, admitted, waits, ends]
    waits = (3.0, "session", "waits", "this session: 2 of 2 requests with providers")
    assert way(desk, "waiting") == [*came, waits, ends]


def test_failed_attempts_are_part_of_the_way() -> None:
    routes = (RouteSettings("best", ("kimi/moon", "glm/star"), ("server_error",)),)
    retry = RetrySettings(attempts=2, base_s=30.0)
    desk = OperatorDesk(capacity=CapacitySettings(1, retry=retry), routes=routes)
    client = desk.tree.client()
    client.call("leaves", arguments={"model": "best"})
    desk.tree.advance(2.0)
    desk.tree.upstream.calls[0].fail(FailureKind.SERVER_ERROR)
    desk.tree.settle()
    assert way(desk, "leaves")[2:6] == [
        (0.0, "provider", "left", "kimi: PROVIDER_ERROR"),
        (2.0, "provider", "admitted", "glm"),
        (2.0, "provider", "granted", "attempt 1"),
        (2.0, "service", "started", "model star"),
    ]
    client.call("again")
    desk.tree.advance(1.0)
    desk.tree.upstream.calls[1].fail(FailureKind.SERVER_ERROR)
    desk.tree.settle()
    assert ask(desk, "why", "again")["state"] == "retrying"
    retried = (1.0, "provider", "waits to try again", "kimi: the last attempt failed, next in 15 s")
    assert way(desk, "again")[2:5] == [
        (0.0, "provider", "admitted", "kimi"),
        retried,
        (16.0, "service", "starts", "predicted"),
    ]


def test_a_predicted_start_is_part_of_the_way() -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    client.call("first")
    desk.tree.advance(10.0)
    desk.tree.upstream.calls[0].complete()
    client.call("second")
    client.call("it")
    answer = ask(desk, "why", "it")
    assert answer["starts_in_s"] == pytest.approx(10.0, abs=1.0)
    (starts,) = [
        each for each in ask(desk, "request", "it")["timeline"] if each["event"] == "starts"
    ]
    assert (starts["where"], starts["detail"]) == ("service", "predicted")
    assert starts["at_s"] == pytest.approx(10.0, abs=1.0)


def test_the_place_of_a_request_far_behind_is_an_estimate() -> None:
    requests = 3 * MAX_WALK
    desk = OperatorDesk(
        capacity=CapacitySettings(limit=1, queue=requests, session_queue=requests),
        session=SessionSettings(window=requests, queue=0),
    )
    client = desk.tree.client()
    for number in range(requests):
        client.call(str(number))
    near, far = ask(desk, "why", "100"), ask(desk, "why", str(requests - 1))
    assert (near["position"], near["position_is_estimate"]) == (100, False)
    assert far["position_is_estimate"]
    assert far["position"] == pytest.approx(requests, rel=0.05)
    assert len(near["ahead"]) == len(far["ahead"]) == MAX_AHEAD
