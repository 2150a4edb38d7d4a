"""Each request that gets an answer is counted and reported once, whichever part ended it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from exai_actors.actors.nurseries import RestartSettings
from exai_actors.actors.session.actor import SessionActor
from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.authentication import Identity
from exai_actors.core.calls import FailureKind
from exai_actors.core.capacity.settings import CapacitySettings, RetrySettings
from exai_actors.core.observe.request_ends import RequestEnd
from exai_actors.core.places import PlaceLimits
from exai_actors.ids import ProviderName, TenantName
from exai_actors.messages.connection import TextReceived
from exai_actors.messages.session_requests import Submit
from exai_actors.testing.tree import ManualTree
from tests.actors.test_deaths import ask, fails_to_estimate, outcomes
from tests.actors.test_restarts import crash, fails_at

TOKEN = "f" * 16
BAD_ARGUMENTS = {"op": "call_tool", "request_id": "bad", "name": "chat", "arguments": {"prompt": 1}}


def observed(**more: Any) -> tuple[ManualTree, list[RequestEnd]]:
    tree = ManualTree(tokens=((TOKEN, Identity(TenantName("ann"))),), **more)
    ends: list[RequestEnd] = []
    tree.request_board.observers = (ends.append,)
    return tree, ends


def as_text(frame: dict[str, Any]) -> TextReceived:
    return TextReceived(json.dumps(frame).encode())


def counted(tree: ManualTree) -> Counter[tuple[str, str, str]]:
    """The requests by provider, outcome and code."""
    found: Counter[tuple[str, str, str]] = Counter()
    for (tenant, provider, _, kind, code), tally in tree.request_board.figures.series.items():
        assert tenant == "ann"
        found[provider, kind, "" if code is None else code.value] += tally.requests
    return found


def check(tree: ManualTree, ends: list[RequestEnd], *expected: str) -> None:
    """Compare the reported ends, as words, with ``expected`` and with what was counted."""
    found = [" ".join(filter(None, (e.request, e.provider, e.outcome, e.code))) for e in ends]
    assert sorted(found) == sorted(expected)
    assert counted(tree) == Counter((end.provider, end.outcome, end.code) for end in ends)
    assert all(end.tenant == "ann" for end in ends)


def test_a_call_with_bad_arguments_is_refused_and_counted() -> None:
    tree, ends = observed()
    client = tree.client("my-session", TOKEN)
    client.send(BAD_ARGUMENTS)
    client.send({"op": "call_tool", "request_id": "tool", "name": "no-such-tool"})
    client.send({"op": "call_tool", "request_id": "m", "arguments": {}})
    params = {"name": "chat", "arguments": {"prompt": []}}
    client.send({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params})
    client.send({"jsonrpc": "2.0", "id": 8, "method": "tools/call", "params": 3})
    assert [(end.request, end.outcome) for end in ends] == [
        ("bad", "refused"),
        ("tool", "refused"),
        ("m", "refused"),
        ("7", "refused"),
        ("", "refused"),
    ]
    assert {end.session for end in ends} == {"my-session"}
    assert counted(tree).total() == 5
    assert (tree.overview.counts().refused, tree.overview.counts().accepted) == (5, 0)


def test_frames_that_ask_for_no_tool_are_no_requests() -> None:
    tree, ends = observed()
    client = tree.client(token=TOKEN)
    for frame in (b"{", {"op": "nonsense"}, {"op": "ping"}, {"jsonrpc": "2.0", "id": 1}):
        client.send(frame)
    assert (ends, tree.request_board.figures.series) == ([], {})


def test_a_draining_broker_counts_what_it_refuses() -> None:
    tree, ends = observed()
    client = tree.client(token=TOKEN)
    ask(client, "runs")
    tree.drain()
    assert outcomes(client) == {}
    ask(client, "late")
    assert outcomes(client) == {"late": "DRAINING"}
    check(tree, ends, "late refused DRAINING")
    tree.upstream.calls[0].complete()
    tree.settle()
    check(tree, ends, "late refused DRAINING", "runs kimi completed")


def test_a_full_mailbox_of_the_session_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    tree, ends = observed()
    client = tree.client(token=TOKEN).begin_session()
    session = type(tree.actor("/sessions/1"))

    def full(_: object, message: object) -> str:
        assert isinstance(message, Submit)
        return "full"

    with monkeypatch.context() as patch:
        patch.setattr(session, "offer", full)
        ask(client, "a")
        assert outcomes(client) == {"a": "OVER_CAPACITY"}
    check(tree, ends, "a refused OVER_CAPACITY")


def test_another_call_with_the_id_of_one_in_flight_is_a_refusal_and_its_repeat_is_none() -> None:
    tree, ends = observed()
    first, second = tree.client("shared", TOKEN), tree.client("shared", TOKEN)
    ask(first, "a")
    ask(first, "a")
    ask(first, "a", "something else")
    ask(second, "a")
    ask(second, "other", "something else", idempotency_key="k")
    ask(second, "b", "again something else", idempotency_key="k")
    check(tree, ends, "a refused DUPLICATE", "b refused DUPLICATE")


@pytest.mark.parametrize("limit", ["places", "sessions"])
def test_requests_behind_a_hello_for_which_there_is_no_place_are_refused(limit: str) -> None:
    tree, ends = (
        observed(places=PlaceLimits(connections=1)) if limit == "places" else observed(sessions=1)
    )
    first = tree.client(token=TOKEN)
    ask(first, "keeps the session")
    late = tree.connect()
    for frame in ({"op": "hello", "token": TOKEN}, BAD_ARGUMENTS, {"op": "ping"}):
        late.ref.tell(as_text(frame))
    tree.settle()
    check(tree, ends, "bad refused OVER_CAPACITY")


def test_requests_behind_a_hello_whose_session_cannot_be_made_are_counted_as_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(SessionActor, "__init__", failing)
    tree, ends = observed()
    client = tree.connect()
    for frame in ({"op": "hello", "token": TOKEN}, BAD_ARGUMENTS):
        client.ref.tell(as_text(frame))
    tree.settle()
    check(tree, ends, "bad refused INTERNAL_ERROR")


def test_an_attempt_before_the_deadline_is_counted_though_the_next_one_never_came() -> None:
    retry = RetrySettings(attempts=3, base_s=2.0)
    tree, ends = observed(capacity=CapacitySettings(1, retry=retry))
    client = tree.client(token=TOKEN)
    ask(client, "late", deadline_ms=5_000)
    ask(client, "has the permit then")
    tree.advance(1.0)
    tree.upstream.calls[0].fail(FailureKind.SERVER_ERROR)
    tree.advance(6.0)
    (end,) = ends
    assert (end.request, end.outcome) == ("late", "expired")
    assert (end.attempts, end.waited_s, end.service_s) == (1, 5.0, 0.0)


def test_strangers_are_not_counted() -> None:
    tree, ends = observed()
    stranger = tree.connect()
    for frame in ({"op": "hello", "token": "wrong"}, BAD_ARGUMENTS):
        stranger.ref.tell(as_text(frame))
    tree.advance(10.0)
    assert stranger.outbox.closed is not None
    assert (ends, tree.request_board.figures.series) == ([], {})


def test_local_tools_are_counted_under_their_names_without_a_provider() -> None:
    tree, ends = observed()
    client = tree.client(token=TOKEN)
    for name in ("status", "version"):
        client.send({"op": "call_tool", "request_id": name, "name": name, "arguments": {}})
    assert [(end.request, end.model, end.outcome) for end in ends] == [
        ("status", "status", "completed"),
        ("version", "version", "completed"),
    ]
    check(tree, ends, "status completed", "version completed")
    assert (tree.overview.counts().accepted, tree.overview.counts().completed) == (2, 2)


def test_poison_is_counted_where_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tree, ends = observed(limit=5)
    with monkeypatch.context() as patch:
        fails_at(patch, "fatal")
        client = tree.client(token=TOKEN)
        ask(client, "x", "fatal")
        tree.advance(1.0)
    check(tree, ends, "x refused INTERNAL_ERROR")
    ask(client, "y", "fatal")
    check(tree, ends, "x refused INTERNAL_ERROR", "y refused INTERNAL_ERROR")


def test_poison_of_a_provider_is_among_its_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    tree, ends = observed(limit=5)
    fails_to_estimate(monkeypatch)
    client = tree.client(token=TOKEN)
    ask(client, "x", "poison")
    tree.advance(1.0)
    ask(client, "y", "poison")
    check(tree, ends, "x kimi failed INTERNAL_ERROR", "y kimi refused INTERNAL_ERROR")
    figures = tree.board.call_figures[ProviderName("kimi")]
    assert figures.refusals["poison"] == tree.statistics().refused == 1


def test_a_session_that_is_given_up_counts_what_ran_and_what_was_returned() -> None:
    tree, ends = observed(limit=5, session=SessionSettings(window=1))
    client = tree.client(token=TOKEN)
    ask(client, "runs")
    ask(client, "waits")
    for _ in range(4):
        tree.advance(1.0)
        crash(tree, "/sessions/1")
    assert client.outbox.closed is not None
    # The next incarnation sent "waits", and failed while it ran.
    assert sorted(end.request for end in ends) == ["runs", "waits"]
    assert {(end.outcome, end.code) for end in ends} == {("failed", "INTERNAL_ERROR")}
    assert counted(tree).total() == 2


def test_a_request_that_is_with_no_session_when_the_broker_ends_is_counted() -> None:
    tree, ends = observed(limit=5, session=SessionSettings(window=1))
    client = tree.client(token=TOKEN).begin_session()
    crash(tree, "/sessions/1")
    ask(client, "runs")
    ask(client, "returned")
    crash(tree, "/sessions/1")
    assert tree.system.resolve("/sessions/1") is None
    ask(client, "kept")
    assert [end.request for end in ends] == ["runs"]
    tree.stop()
    tree.settle()
    assert outcomes(client) == {"runs": "INTERNAL_ERROR", "returned": "DRAINING"}
    check(
        tree,
        ends,
        "runs kimi failed INTERNAL_ERROR",
        "returned failed DRAINING",
        "kept refused DRAINING",
    )


def test_a_session_that_an_operator_stops_counts_what_its_clients_lose() -> None:
    tree, ends = observed()
    client = tree.client(token=TOKEN)
    ask(client, "a")
    ask(client, "b")
    tree.actor("/sessions/1").stop(block=False)
    tree.settle()
    assert outcomes(client) == {"a": "INTERNAL_ERROR", "b": "INTERNAL_ERROR"}
    check(tree, ends, "a kimi failed INTERNAL_ERROR", "b kimi failed INTERNAL_ERROR")


@pytest.mark.parametrize("how", ["drain", "stop"])
def test_a_request_that_is_cut_off_at_shutdown_has_failed_for_its_client_and_in_the_log(
    how: str,
) -> None:
    tree, ends = observed()
    client = tree.client(token=TOKEN)
    ask(client, "runs")
    ask(client, "waits")
    if how == "drain":
        tree.drain(immediately=True)
    else:
        tree.stop()
    tree.settle()
    assert outcomes(client) == {"runs": "DRAINING", "waits": "DRAINING"}
    check(tree, ends, "runs kimi failed DRAINING", "waits kimi failed DRAINING")
    # The answer of the service comes while the client has not closed its socket yet.
    tree.upstream.calls[0].complete()
    tree.settle()

    tree.stop()
    tree.settle()
    assert len(ends) == counted(tree).total() == 2


def test_a_request_that_outlives_its_client_is_counted_when_the_broker_ends() -> None:
    tree, ends = observed(finish_on_disconnect=("kimi",))
    client = tree.client(token=TOKEN)
    ask(client, "a")
    client.vanish()
    assert ends == []
    tree.stop()
    tree.settle()
    check(tree, ends, "a kimi failed DRAINING")


def test_a_guardian_that_fails_too_often_ends_the_requests_for_client_and_log_alike() -> None:
    tree, ends = observed(restarts=RestartSettings(root_intensity=0))
    client = tree.client(token=TOKEN)
    ask(client, "a")
    crash(tree, "/broker")
    tree.advance(5.0)
    assert tree.gave_up
    assert outcomes(client) == {"a": "INTERNAL_ERROR"}
    tree.stop()
    tree.settle()
    check(tree, ends, "a kimi failed INTERNAL_ERROR")
