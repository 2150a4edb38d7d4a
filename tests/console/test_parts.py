"""The tables of the broker, its clients and their requests: rows of a real tree of actors."""

from __future__ import annotations

from typing import Any

import pytest

from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.authentication import Identity
from exai_actors.core.calls import FailureKind
from exai_actors.core.capacity.settings import CapacitySettings, GateSettings, RetrySettings
from exai_actors.core.operators import Role
from exai_actors.ids import TenantName
from exai_actors.ports import Peer
from tests.console.operator_desk import OperatorDesk

TENANTS = (("t-a", Identity(TenantName("alice"))), ("t-b", Identity(TenantName("bob"))))


def rows(desk: OperatorDesk, table: str, **query: Any) -> list[dict[str, Any]]:
    return desk.console(Role.VIEWER).rows(table, **query)


def test_requests_appear_in_the_order_of_service_with_their_reasons() -> None:
    desk = OperatorDesk(limit=1, session=SessionSettings(window=2), tokens=TENANTS)
    alice, bob = desk.tree.client("s-alice", "t-a"), desk.tree.client("s-bob", "t-b")
    for name in ("a1", "a2", "a3"):
        alice.call(name)
    bob.call("b1")
    found = rows(desk, "requests")
    assert [(row["request_id"], row["state"], row["reason"]) for row in found] == [
        ("a1", "running", ""),
        ("b1", "queued", "permit"),
        ("a2", "queued", "tenant_share"),
        ("a3", "waiting", "session_window"),
    ]
    assert [row["position"] for row in found] == [None, 1, 2, None]
    assert [row["request"] for row in found] == ["1/1", "2/1", "1/2", "1/3"]
    assert {row["connection"] for row in found} == {"conn-1", "conn-2"}
    assert {row["session"] for row in found} == {"s-alice", "s-bob"}
    assert found[0]["provider"] == "kimi"
    assert found[0]["model"] == "moon"


def test_waiting_and_running_times_are_told_apart() -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    client.call("first")
    desk.tree.advance(4.0)
    client.call("second")
    desk.tree.advance(3.0)
    running, queued = rows(desk, "requests")
    assert (running["waited_s"], running["running_s"]) == (0.0, pytest.approx(7.0, abs=1.0))
    assert (queued["waited_s"], queued["running_s"]) == (pytest.approx(3.0, abs=1.0), None)
    desk.tree.upstream.calls[0].complete()
    desk.tree.settle()
    (second,) = rows(desk, "requests")
    assert second["waited_s"] == pytest.approx(3.0, abs=1.0)


def test_a_failed_attempt_waits_for_the_next_one() -> None:
    retry = RetrySettings(attempts=3, base_s=30.0)
    desk = OperatorDesk(capacity=CapacitySettings(limit=1, retry=retry))
    desk.tree.client().call("again")
    desk.tree.upstream.calls[0].fail(FailureKind.SERVER_ERROR)
    desk.tree.advance(5.0)
    (row,) = rows(desk, "requests")
    assert (row["state"], row["reason"], row["attempt"]) == ("retrying", "retry", 1)
    assert (row["waited_s"], row["running_s"]) == (pytest.approx(5.0, abs=0.5), None)
    assert row["starts_in_s"] == pytest.approx(10.0, abs=0.5), "15 s after the failure"


def test_no_table_has_a_prompt_a_token_or_a_whole_name_of_a_session() -> None:
    desk = OperatorDesk(limit=1, tokens=(("token-of-alice", Identity(TenantName("alice"))),))
    name = "a-name-that-nobody-else-should-learn"
    client = desk.tree.client(name, "token-of-alice")
    for request in ("a", "b"):
        client.call(request, "my secret prompt")
    console = desk.console(Role.VIEWER)
    for table in console.greeting["tables"]:
        text = str(console.rows(table))
        for secret in ("secret prompt", "token-of-alice", name):
            assert secret not in text, f"{table} shows {secret}"


def test_connections_show_their_sessions_once_they_are_admitted() -> None:
    desk = OperatorDesk(tokens=TENANTS)
    desk.tree.client("mine", "t-a").call("a")
    desk.tree.connect(Peer("192.0.2.7", user_agent="curl"))
    desk.tree.advance(5.0)
    admitted, stranger = rows(desk, "connections")
    assert (admitted["session"], admitted["tenant"], admitted["calls"]) == ("mine", "alice", 1)
    assert (stranger["session"], stranger["tenant"], stranger["calls"]) == ("", "", 0)
    assert (admitted["agent"], admitted["protocol"]) == ("", "websocket")
    assert admitted["open_s"] == pytest.approx(5.0, abs=1.0)
    assert (stranger["address"], stranger["agent"]) == ("192.0.2.7", "curl")


def test_sessions_show_their_windows() -> None:
    desk = OperatorDesk(limit=1, session=SessionSettings(window=2))
    client = desk.tree.client("mine")
    for name in "abc":
        client.call(name)
    desk.tree.client("idle")
    mine, idle = rows(desk, "sessions")
    assert (mine["at_providers"], mine["waiting"], mine["full"]) == (2, 1, 1.0)
    assert (idle["connections"], idle["at_providers"]) == (1, 0)
    assert mine["path"] == "/sessions/1"


def test_tenants_show_what_they_have_and_what_they_may_have() -> None:
    desk = OperatorDesk(limit=2, tokens=TENANTS)
    alice, bob = desk.tree.client("s", "t-a"), desk.tree.client("s", "t-b")
    for name in "abc":
        alice.call(name)
    bob.call("d")
    found = {row["tenant"]: row for row in rows(desk, "tenants")}
    assert found["alice"]["share_entitled"] == found["bob"]["share_entitled"] == 0.5
    assert (found["alice"]["queued"], found["bob"]["queued"]) == (1, 1)


def test_the_broker_counts_each_request_once() -> None:
    desk = OperatorDesk(
        capacity=CapacitySettings(limit=1, queue=1, retry=RetrySettings(attempts=1))
    )
    client = desk.tree.client()
    for name in ("done", "queued", "refused"):
        client.call(name)
    desk.tree.upstream.calls[0].complete()
    desk.tree.settle()
    (broker,) = rows(desk, "broker")
    assert (broker["requests"], broker["completed"], broker["refused"]) == (3, 1, 1)
    desk.tree.upstream.calls[1].fail(FailureKind.SERVER_ERROR)
    desk.tree.settle()
    (broker,) = rows(desk, "broker")
    assert (broker["requests"], broker["failed"], broker["in_flight"]) == (3, 1, 0)
    assert broker["health"] == "ok"


def test_the_requests_of_a_client_that_vanished_are_counted_as_ended() -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    client.call("a")
    client.call("b")
    client.vanish()
    (broker,) = rows(desk, "broker")
    assert (broker["requests"], broker["queued"]) == (2, 0)
    assert rows(desk, "requests") == []


def test_a_broker_with_a_held_provider_is_degraded() -> None:
    desk = OperatorDesk(capacity=CapacitySettings(limit=1, retry=RetrySettings(attempts=1)))
    desk.tree.client().call("a")
    desk.tree.upstream.calls[0].fail(FailureKind.QUOTA, retry_after=90.0)
    desk.tree.settle()
    (broker,) = rows(desk, "broker")
    assert broker["health"].startswith("degraded: kimi is held for")


def test_usage_is_told_apart_by_tenant_and_model_and_grows_old() -> None:
    desk = OperatorDesk(limit=2, tokens=TENANTS, models=("moon", "sun"))
    alice, bob = desk.tree.client("s-alice", "t-a"), desk.tree.client("s-bob", "t-b")
    alice.call("a", arguments={"model": "moon"})
    bob.call("b", arguments={"model": "sun"})
    desk.tree.upstream.calls[0].complete("one two three")
    desk.tree.settle()
    console = desk.console(Role.VIEWER)
    first, second = console.rows("usage")
    assert (first["tenant"], first["session"], first["model"]) == ("alice", "s-alice", "moon")
    assert (first["calls_now"], first["calls_hour"], first["tokens_hour"]) == (0, 1, 4)
    assert (second["tenant"], second["calls_now"], second["calls_hour"]) == ("bob", 1, 0)
    tenants = {row["tenant"]: row["share_received"] for row in console.rows("tenants")}
    assert tenants["bob"] == 0.0
    desk.tree.advance(2 * 3600.0)
    (old,) = [row for row in console.rows("usage") if row["tenant"] == "alice"]
    assert (old["calls_hour"], old["calls_day"], old["tokens_day"]) == (0, 1, 4)


def test_the_usage_of_sessions_that_look_the_same_is_added_up() -> None:
    desk = OperatorDesk(limit=9)
    name = "a-name-that-is-longer-than-consoles-show"
    clients = [desk.tree.client(f"{name}-{number}") for number in range(2)]
    for client in clients:
        for request in "abc":
            client.call(request)
    for call in desk.tree.upstream.calls[::2]:
        call.complete("one two three")
    desk.tree.settle()
    (used,) = rows(desk, "usage")
    figures = ("calls_now", "calls_hour", "tokens_hour", "calls_day", "tokens_day")
    assert [used[each] for each in figures] == [3, 3, 12, 3, 12]
    assert name.startswith(used["session"].removesuffix("..."))


def test_gates_show_what_remains_and_when_they_open() -> None:
    gates = GateSettings(requests_per_minute=2, margin_s=0.0)
    desk = OperatorDesk(capacity=CapacitySettings(limit=5, gates=gates))
    client = desk.tree.client()
    for name in "abc":
        client.call(name)
    gate = next(row for row in rows(desk, "gates") if row["provider"] == "kimi")
    assert (gate["gate"], gate["used"], gate["limit"]) == ("requests_per_minute", 2, 2)
    assert (gate["remains"], gate["full"]) == (0, 1.0)
    assert gate["opens_in_s"] == pytest.approx(60.0, abs=1.0)


def test_holds_show_the_words_of_the_service() -> None:
    desk = OperatorDesk(capacity=CapacitySettings(limit=1, retry=RetrySettings(attempts=1)))
    desk.tree.client().call("a")
    desk.tree.upstream.calls[0].fail(FailureKind.QUOTA, "out of credit", retry_after=90.0)
    desk.tree.settle()
    (hold,) = rows(desk, "holds")
    assert (hold["provider"], hold["model"], hold["kind"]) == ("kimi", "", "quota")
    assert hold["until_s"] == pytest.approx(90.0, abs=4.0)
    assert "out of credit" in hold["cause"]


def test_percentiles_are_those_of_the_last_minutes() -> None:
    desk = OperatorDesk(limit=1)
    client, console = desk.tree.client(), desk.console(Role.VIEWER)
    client.call("slow")
    client.call("waits")
    desk.tree.advance(20.0)
    desk.tree.upstream.calls[0].complete()
    desk.tree.advance(4.0)
    desk.tree.upstream.calls[1].complete()
    desk.tree.settle()
    kimi = console.rows("providers")[0]
    assert 10.0 <= kimi["service_p99_s"] <= 30.0
    assert 10.0 <= kimi["wait_p99_s"] <= 30.0
    for _ in range(12):
        desk.tree.advance(31.0)
        console.rows("providers")
    kimi = console.rows("providers")[0]
    assert (kimi["wait_p50_s"], kimi["service_p99_s"]) == (None, None)
