"""The provider's capacity as clients meet it: real actors, a manual upstream, a manual clock."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import Any

import pytest
import structlog

from exai_actors.core.authentication import Identity
from exai_actors.core.calls import FailureKind, LimitHolder
from exai_actors.core.capacity.changes import (
    DrainProvider,
    Pause,
    Reopen,
    SetGates,
    SetLimit,
    SetReserve,
    SetWeight,
)
from exai_actors.core.capacity.settings import CapacitySettings, GateSettings, RetrySettings
from exai_actors.core.routing import RouteSettings
from exai_actors.ids import DEFAULT_TENANT, TenantName
from exai_actors.testing.tree import ManualTree


def last(frames: list[dict[str, Any]]) -> dict[str, Any]:
    return frames[-1]


def test_a_rate_limited_call_is_retried_and_the_client_sees_only_the_answer() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a")
    tree.upstream.calls[0].fail(FailureKind.RATE_LIMITED, "slow down", retry_after=10.0)
    assert client.received() == []
    tree.advance(9.5)
    assert len(tree.upstream.calls) == 1
    tree.advance(2.0)
    tree.upstream.calls[1].complete("at last")
    assert last(client.received())["text"] == "at last"
    assert tree.statistics().retried == 1


def test_a_call_before_its_retry_holds_no_permit_and_can_be_cancelled() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a")
    tree.upstream.calls[0].fail(FailureKind.CONNECT, "nobody there")
    tree.settle()
    assert (tree.statistics().in_flight, tree.statistics().queued) == (0, 1)
    frames = client.send({"op": "cancel", "request_id": "a"})
    assert any(frame.get("error", {}).get("code") == "CANCELLED" for frame in frames)
    tree.advance(60)
    assert len(tree.upstream.calls) == 1
    assert tree.statistics().queued == 0


def test_the_limit_of_one_model_leaves_the_other_models_of_its_provider_alone() -> None:
    tree = ManualTree(
        models=("big", "small"), capacity=CapacitySettings(2, retry=RetrySettings(attempts=1))
    )
    client = tree.client()
    client.call("a", arguments={"model": "big"})
    tree.upstream.calls[0].fail(
        FailureKind.QUOTA, "day is over", retry_after=3600.0, holder=LimitHolder.MODEL
    )
    client.received()
    refused = last(client.call("b", arguments={"model": "big"}, deadline_ms=5000))["error"]
    assert refused["details"]["reason"] == "quota"
    assert refused["details"]["estimated_wait_s"] >= 3600.0
    client.call("c", arguments={"model": "small"}, deadline_ms=5000)
    tree.upstream.calls[1].complete("small answers")
    assert last(client.received())["text"] == "small answers"
    (held,) = tree.statistics().model_holds
    assert (held.model, held.because) == ("big", "quota")
    assert tree.statistics().held_for_s == 0.0


def test_a_held_model_is_re_routed_to_another_model_of_its_provider() -> None:
    routes = (RouteSettings("any", ("kimi/big", "kimi/small"), ("quota",)),)
    tree = ManualTree(models=("big", "small"), routes=routes)
    client = tree.client()
    for name in ("a", "b"):
        client.call(name, arguments={"model": "any"})
        if name == "a":
            tree.upstream.calls[0].fail(
                FailureKind.QUOTA, "day is over", retry_after=3600.0, holder=LimitHolder.MODEL
            )
            tree.settle()
        call = tree.upstream.calls[-1]
        assert call.call.model == "small"
        call.complete("small answers")
        assert last(client.received())["text"] == "small answers"


def test_unrecognised_refusals_are_logged_once_a_minute_for_each_status() -> None:
    tree = ManualTree(capacity=CapacitySettings(1, retry=RetrySettings(attempts=1)))
    client = tree.client()
    tree.advance(1000.0)
    with structlog.testing.capture_logs() as logs:
        for number, (status, wait_s) in enumerate([(429, 1), (429, 1), (403, 58), (429, 1)]):
            client.call(f"r{number}")
            tree.upstream.calls[-1].fail(
                FailureKind.REJECTED, "a tired hamster", status=status, recognised=False
            )
            tree.advance(wait_s)
    noted = [entry for entry in logs if entry["event"] == "provider.refusal_unrecognised"]
    assert [entry["status"] for entry in noted] == [429, 403, 429]
    assert noted[0]["excerpt"] == "a tired hamster"
    assert (noted[0]["provider"], noted[0]["treated_as"]) == ("kimi", "rejected")


def test_no_call_is_retried_after_its_first_chunk() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a", stream=True)
    tree.upstream.calls[0].chunk("half")
    tree.upstream.calls[0].fail(FailureKind.SERVER_ERROR, "broke", text_sent=True)
    assert last(client.received())["error"]["code"] == "PROVIDER_ERROR"
    tree.advance(60)
    assert len(tree.upstream.calls) == 1


def test_a_hold_in_the_headers_of_an_answer_is_kept() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a")
    tree.upstream.calls[0].complete(hold_s=5.0)
    client.received()
    client.call("b")
    assert len(tree.upstream.calls) == 1
    (held,) = tree.statistics().model_holds
    assert (held.because, held.held_for_s) == ("rate_limited", 5.0)
    tree.advance(5.0)
    assert len(tree.upstream.calls) == 2


def test_a_hold_in_the_headers_of_an_answer_refuses_the_calls_that_it_outlasts() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a")
    client.call("hurried", deadline_ms=20_000)
    client.call("patient")
    tree.upstream.calls[0].complete(hold_s=100.0)
    answer, refused = (frame for frame in client.received() if frame["op"] == "call_tool_res")
    assert answer["request_id"] == "a"
    assert refused["request_id"] == "hurried"
    assert refused["error"]["details"]["retry_after"] >= 100.0
    tree.advance(100.0)
    assert len(tree.upstream.calls) == 2


def test_a_gate_opens_when_its_window_has_moved_on() -> None:
    gates = GateSettings(requests_per_minute=2, margin_s=0.0)
    tree = ManualTree(capacity=CapacitySettings(limit=10, gates=gates))
    client = tree.client()
    for name in "abc":
        client.call(name)
    assert len(tree.upstream.calls) == 2
    tree.advance(60.5)
    assert len(tree.upstream.calls) == 3


def test_the_tokens_of_a_prompt_are_estimated_by_those_that_earlier_ones_took() -> None:
    gates = GateSettings(tokens_per_minute=10_000, margin_s=0.0)
    tree = ManualTree(capacity=CapacitySettings(limit=1, gates=gates))
    client = tree.client()

    def estimated() -> float:
        client.call(f"{len(tree.upstream.calls)}", "x" * 400)
        (gate,) = tree.statistics().gates
        return gate.used

    first = estimated()
    # The service counts one token for the whole prompt, and as many for the answer as estimated.
    tree.upstream.calls[0].complete("word " * 256)
    tree.advance(100.0)
    assert estimated() < first


@pytest.mark.parametrize("leaves", ["cancels", "vanishes"])
def test_a_small_call_starts_when_the_large_one_before_it_leaves_the_gate(leaves: str) -> None:
    gates = GateSettings(tokens_per_minute=500, margin_s=0.0)
    tree = ManualTree(capacity=CapacitySettings(limit=10, gates=gates))
    first, big, small = tree.client(), tree.client(), tree.client()
    first.call("a", "first")
    big.call("b", "big")
    small.call("c", "small", arguments={"max_tokens": 10})
    assert [call.prompt for call in tree.upstream.calls] == ["first"]
    if leaves == "cancels":
        big.send({"op": "cancel", "request_id": "b"})
    else:
        big.vanish()
    assert [call.prompt for call in tree.upstream.calls] == ["first", "small"]


def test_a_restarted_provider_keeps_its_gates_and_changes() -> None:
    gates = GateSettings(requests_per_minute=2, margin_s=0.0)
    tree = ManualTree(capacity=CapacitySettings(limit=10, gates=gates))
    client = tree.client()
    client.call("a")
    client.call("b")
    assert tree.change(SetLimit(7)) is None
    tree.actor("/providers/kimi").tell("not a message of a provider")
    tree.settle()
    assert tree.statistics().incarnation > 1
    assert tree.statistics().limit == 7
    client.call("c")
    assert len(tree.upstream.calls) == 2
    tree.advance(61)
    assert len(tree.upstream.calls) == 3


def test_a_higher_limit_grants_queued_calls_and_a_lower_one_revokes_nothing() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    for name in "abc":
        client.call(name)
    assert tree.change(SetLimit(3)) is None
    assert len(tree.upstream.running) == 3
    assert tree.change(SetLimit(1)) is None
    assert len(tree.upstream.running) == 3
    assert tree.statistics().over == 2
    event = tree.statistics().events[-1]
    assert (event.what, event.cause) == ("limit 3 -> 1", "the test")


def test_a_paused_provider_queues_calls_until_it_is_reopened() -> None:
    tree = ManualTree(limit=2)
    client = tree.client()
    assert tree.change(Pause()) is None
    client.call("a")
    assert tree.upstream.calls == []
    assert tree.statistics().mode == "paused"
    assert tree.change(Reopen()) is None
    assert len(tree.upstream.calls) == 1


def test_a_draining_provider_refuses_new_requests_and_finishes_the_others() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    client.call("runs")
    client.call("waits")
    assert tree.change(DrainProvider()) is None
    refused = last(client.call("new"))
    assert refused["error"]["code"] == "SERVICE_UNAVAILABLE"
    assert "operator" in refused["error"]["message"]
    tree.upstream.calls[0].complete()
    tree.settle()
    tree.upstream.calls[1].complete()
    assert [f["request_id"] for f in client.received() if f["op"] == "call_tool_res"] == [
        "runs",
        "waits",
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (SetLimit(-1), "a limit is 0 to"),
        (SetLimit(1, "unheard-of"), "has no limit of its own"),
        (SetLimit(True), "a limit is 0 to"),
        (SetWeight(DEFAULT_TENANT, 0.0), "a weight is 0.001 to 1000"),
        (SetWeight(DEFAULT_TENANT, 5e-324), "a weight is 0.001 to 1000"),
        (SetWeight(DEFAULT_TENANT, float("nan")), "a weight is 0.001 to 1000"),
        (SetWeight(TenantName("nobody"), 2.0), "no tenant 'nobody'"),
        (SetGates(GateSettings(tokens_per_day=10**13)), "tokens_per_day is at least 1"),
        (SetGates(GateSettings(requests_per_minute=9, margin_s=-1)), "margin_s is 0 to"),
        (SetReserve(-1), "0 to 1000000 permits"),
        (SetGates(GateSettings(requests_per_minute=0)), "requests_per_minute is at least 1"),
    ],
)
def test_an_invalid_change_is_refused_and_changes_nothing(
    change: SetLimit | SetWeight | SetGates | SetReserve, problem: str
) -> None:
    tree = ManualTree(limit=2)
    before = tree.statistics()
    said = tree.change(change)
    assert said is not None
    assert problem in said
    assert tree.statistics() == before


def test_the_event_of_a_gate_change_names_its_figures() -> None:
    tree = ManualTree(limit=2)
    assert tree.change(SetGates(GateSettings(requests_per_minute=60))) is None
    assert tree.change(SetGates(GateSettings(requests_per_minute=30, tokens_per_day=9))) is None
    assert [event.what for event in tree.statistics().events] == [
        "requests_per_minute unlimited -> 60",
        "requests_per_minute 60 -> 30, tokens_per_day unlimited -> 9",
    ]


def test_a_limit_of_zero_grants_nothing_until_it_is_raised() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    for name in ("runs", "waits"):
        client.call(name)
    assert tree.change(SetLimit(0)) is None
    tree.upstream.calls[0].complete()
    tree.advance(60.0)
    client.call("comes")
    assert len(tree.upstream.calls) == 1
    assert tree.change(SetLimit(2)) is None
    assert len(tree.upstream.running) == 2


def test_if_busy_refuse_is_refused_by_a_paused_provider_with_the_reason() -> None:
    tree = ManualTree(limit=1)
    tree.change(Pause())
    refused = last(tree.client().call("a", if_busy="refuse"))
    assert "paused by its operator; this request does not wait" in refused["error"]["message"]


def test_a_call_queued_at_a_paused_provider_can_be_cancelled() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    tree.change(Pause())
    client.call("a")
    assert last(client.send({"op": "cancel", "request_id": "a"}))["error"]["code"] == "CANCELLED"
    assert tree.statistics().queued == 0
    tree.change(Reopen())
    assert tree.upstream.calls == []


def test_a_failing_service_is_left_alone_and_then_probed_with_one_call() -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=5, retry=RetrySettings(attempts=1)))
    client = tree.client()
    for number in range(5):
        client.call(f"r{number}")
    for call in tuple(tree.upstream.calls):
        call.fail(FailureKind.SERVER_ERROR)
    client.received()
    assert tree.statistics().circuit == "open"
    for number in range(3):
        client.call(f"w{number}")
    assert len(tree.upstream.calls) == 5
    tree.advance(5.0)
    assert len(tree.upstream.calls) == 6
    tree.upstream.calls[5].complete()
    tree.settle()
    assert len(tree.upstream.calls) == 8
    assert tree.statistics().circuit == "closed"
    opened, closed = tree.statistics().events
    assert (opened.kind, closed.kind) == ("circuit_opened", "circuit_closed")
    assert closed.at - opened.at == pytest.approx(5.0)


def test_a_provider_finds_a_permit_that_is_not_returned() -> None:
    tree = ManualTree(limit=2, longest_call_s=100.0)
    client = tree.client()
    client.call("ends")
    client.call("whose upstream never tells its end", deadline_ms=1000)
    tree.upstream.calls[0].complete()
    tree.advance(91.0)
    assert tree.statistics().violations == 0
    tree.advance(30.0)
    assert tree.statistics().violations == 1


def answers_of(frames: list[dict[str, Any]]) -> dict[str, str]:
    """The code of each outcome by its request id; empty for an answer."""
    return {
        frame["request_id"]: (frame.get("error") or {}).get("code", "")
        for frame in frames
        if frame["op"] == "call_tool_res"
    }


def tree_with_tenants(**capacity: Any) -> ManualTree:
    return ManualTree(
        capacity=CapacitySettings(limit=1, **capacity),
        tokens=(
            ("token-of-a-tenant-a", Identity(TenantName("a"))),
            ("token-of-a-tenant-b", Identity(TenantName("b"))),
        ),
    )


def test_a_small_tenant_is_served_while_another_keeps_the_queue_full() -> None:
    tree = tree_with_tenants(queue=5)
    greedy = [tree.client(f"g{number}", "token-of-a-tenant-b") for number in range(3)]
    small = tree.client("s", "token-of-a-tenant-a")
    names = count()
    called: Counter[str] = Counter()
    ended: Counter[str] = Counter()

    def ask_again() -> None:
        for client in greedy:
            for _ in range(2):
                name = f"g{next(names)}"
                called[name] += 1
                ended.update(list(answers_of(client.call(name))))
            ended.update(list(answers_of(client.received())))

    for number in range(10):
        ask_again()
        frames = small.call(f"s{number}")
        while not answers_of(frames):
            ask_again()
            tree.upstream.running[0].complete()
            frames += small.received()
        assert answers_of(frames) == {f"s{number}": ""}
    for client in greedy:
        ended.update(list(answers_of(client.received())))
    while tree.upstream.running:
        tree.upstream.running[0].complete()
        for client in greedy:
            ended.update(list(answers_of(client.received())))
    assert tree.statistics().displaced > 0
    assert ended == called


def test_a_displaced_request_is_told_why_and_when_to_retry() -> None:
    tree = tree_with_tenants(queue=2)
    greedy = tree.client("g", "token-of-a-tenant-b")
    for number in range(3):
        greedy.call(f"g{number}")
    tree.client("s", "token-of-a-tenant-a").call("s0")
    (answer,) = [frame for frame in greedy.received() if frame["op"] == "call_tool_res"]
    assert (answer["request_id"], answer["error"]["code"]) == ("g2", "OVER_CAPACITY")
    assert "gave its place to one of others" in answer["error"]["message"]
    assert answer["error"]["details"]["retry_after"] > 0
    assert answer["error"]["details"]["reason"] == "busy"


def test_requests_that_joined_a_displaced_call_claim_a_place_of_their_own() -> None:
    tree = tree_with_tenants(queue=4, coalesce=True)
    greedy = tree.client("g", "token-of-a-tenant-b")
    joins, small = (tree.client(name, "token-of-a-tenant-a") for name in ("j", "s"))
    for number in range(5):
        greedy.call(f"g{number}", f"prompt {number}")
    joins.call("joins", "prompt 4")
    assert tree.statistics().queued == 4
    small.call("s0", "other")
    refused = {"g4": "OVER_CAPACITY", "g3": "OVER_CAPACITY"}
    assert answers_of(greedy.received()) == refused
    assert tree.statistics().displaced == len(refused)
    while tree.upstream.running:
        tree.upstream.running[0].complete()
        tree.settle()
    assert answers_of(joins.received()) == {"joins": ""}
    assert answers_of(small.received()) == {"s0": ""}
    assert answers_of(greedy.received()) == {"g0": "", "g1": "", "g2": ""}


@pytest.mark.parametrize("named_s", [604_800.0, 615_387.0, 86_400.0, 31_536_000.0])
@pytest.mark.parametrize("how", ["refused", "beside a good answer"])
def test_no_word_of_a_service_closes_an_account_until_a_restart(named_s: float, how: str) -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=1, retry=RetrySettings(attempts=1)))
    client = tree.client()
    client.call("first")
    if how == "refused":
        tree.upstream.calls[0].fail(FailureKind.RATE_LIMITED, "later", retry_after=named_s)
    else:
        tree.upstream.calls[0].complete(hold_s=named_s)
    tree.settle()
    waits: dict[str, Any] = {"if_busy": "wait", "deadline_ms": 10_000_000.0}
    client.call("probe", **waits)
    client.call("waits", **waits)
    tree.advance(899.0)
    assert len(tree.upstream.calls) == 1
    tree.advance(1.0)
    assert [call.prompt for call in tree.upstream.running] == ["hi"], "one call is tried"
    tree.upstream.calls[1].complete("open again")
    tree.settle()
    assert len(tree.upstream.calls) == 3
    tree.upstream.calls[2].complete("served")
    client.received()
    assert tree.statistics().held_for_s == 0.0
    assert tree.statistics().model_holds == ()
