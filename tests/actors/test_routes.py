"""Routes: the order of their targets, the reasons to go on, and the errors for the client."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.calls import FailureKind, LimitHolder, UpstreamFailure
from exai_actors.core.capacity.changes import DrainProvider, Pause
from exai_actors.core.capacity.settings import (
    CapacitySettings,
    CircuitSettings,
    GateSettings,
    RetrySettings,
)
from exai_actors.core.routing import RouteSettings
from exai_actors.ids import ProviderName
from exai_actors.messages.provider import ModelsListed, ModelsUnavailable
from exai_actors.testing.tree import ManualClient, ManualTree

REASONS = ("rate_limited", "overloaded", "quota", "unreachable", "server_error", "circuit_open")
ANY = {"model": "any"}


def routed_tree(*on: str, **more: Any) -> ManualTree:
    routes = (RouteSettings("any", ("kimi/moon", "glm/star"), on or REASONS),)
    return ManualTree(routes=routes, **more)


def ask(client: ManualClient, name: str = "a", **more: Any) -> list[dict[str, Any]]:
    return client.call(name, arguments=ANY, **more)


@pytest.mark.parametrize(
    "kind",
    [
        FailureKind.RATE_LIMITED,
        FailureKind.OVERLOADED,
        FailureKind.QUOTA,
        FailureKind.CONNECT,
        FailureKind.SERVER_ERROR,
    ],
)
def test_the_next_model_answers_when_the_first_fails(kind: FailureKind) -> None:
    tree = routed_tree()
    client = tree.client()
    ask(client)
    tree.upstream.calls[0].fail(kind)
    tree.settle()
    (call,) = tree.upstreams[ProviderName("glm")].calls
    assert call.call.model == "star"
    call.complete("from the other")
    (answer,) = client.received()
    assert answer["text"] == "from the other"
    assert (answer["metadata"]["model_used"], answer["metadata"]["provider_used"]) == (
        "star",
        "glm",
    )


@pytest.mark.parametrize(
    "kind", [FailureKind.TIMEOUT, FailureKind.UNAUTHORIZED, FailureKind.NOT_FOUND]
)
def test_a_reason_outside_the_route_ends_the_request(kind: FailureKind) -> None:
    tree = routed_tree()
    client = tree.client()
    ask(client)
    tree.upstream.calls[0].fail(kind, "no")
    (answer,) = client.received()
    assert answer["error"]["details"]["kind"] == kind.value
    assert not tree.upstreams[ProviderName("glm")].calls


def glm_calls(tree: ManualTree) -> int:
    return len(tree.upstreams[ProviderName("glm")].calls)


def block_by_permit(tree: ManualTree) -> None:
    tree.client().call("holder")


def block_by_gate(tree: ManualTree) -> None:
    block_by_permit(tree)
    tree.upstream.calls[0].complete()


def block_by_hold(tree: ManualTree) -> None:
    block_by_permit(tree)
    tree.upstream.calls[0].fail(FailureKind.QUOTA, "account is suspended", retry_after=60.0)


def block_by_model_hold(tree: ManualTree) -> None:
    block_by_permit(tree)
    tree.upstream.calls[0].fail(
        FailureKind.RATE_LIMITED, retry_after=60.0, holder=LimitHolder.MODEL
    )


def block_by_rate_headers(tree: ManualTree) -> None:
    block_by_permit(tree)
    tree.upstream.calls[0].complete(hold_s=30.0)


def block_by_circuit(tree: ManualTree) -> None:
    block_by_permit(tree)
    tree.upstream.calls[0].fail(FailureKind.SERVER_ERROR)


def block_by_pause(tree: ManualTree) -> None:
    tree.change(Pause())


ONE_CALL = CapacitySettings(
    1,
    gates=GateSettings(requests_per_minute=1),
    retry=RetrySettings(attempts=1),
    circuit=CircuitSettings(failures_in_a_row=1),
)
NO_GATE = replace(ONE_CALL, gates=GateSettings())
BLOCKS = [
    (block_by_permit, NO_GATE),
    (block_by_gate, ONE_CALL),
    (block_by_hold, NO_GATE),
    (block_by_model_hold, NO_GATE),
    (block_by_rate_headers, NO_GATE),
    (block_by_circuit, NO_GATE),
    (block_by_pause, NO_GATE),
]


@pytest.mark.parametrize(("block", "capacity"), BLOCKS)
def test_with_busy_alone_a_request_leaves_whatever_it_would_wait_for(
    block: Callable[[ManualTree], None], capacity: CapacitySettings
) -> None:
    tree = routed_tree("busy", capacity=capacity)
    block(tree)
    tree.settle()
    ask(tree.client())
    assert glm_calls(tree) == 1


@pytest.mark.parametrize(("block", "capacity"), BLOCKS)
def test_without_busy_and_the_reason_it_waits(
    block: Callable[[ManualTree], None], capacity: CapacitySettings
) -> None:
    tree = routed_tree("timeout", capacity=capacity)
    block(tree)
    tree.settle()
    ask(tree.client())
    assert glm_calls(tree) == 0
    assert tree.statistics().queued == 1


@pytest.mark.parametrize(
    "end", [block_by_hold, block_by_model_hold, block_by_rate_headers, block_by_circuit]
)
def test_with_busy_a_waiting_request_leaves_when_a_block_begins(
    end: Callable[[ManualTree], None],
) -> None:
    tree = routed_tree("busy", "quota", capacity=replace(NO_GATE, limit=2))
    end(tree)
    tree.settle()
    client = tree.client()
    ask(client)
    client.call("stays")
    assert (glm_calls(tree), tree.statistics().queued) == (1, 1)


@pytest.mark.parametrize(
    "kind", [FailureKind.SERVER_ERROR, FailureKind.QUOTA, FailureKind.OVERLOADED]
)
def test_with_busy_a_failed_request_does_not_wait_for_its_next_attempt(kind: FailureKind) -> None:
    circuit = CircuitSettings(failures_in_a_row=1)
    tree = routed_tree("busy", capacity=CapacitySettings(1, circuit=circuit))
    ask(tree.client())
    tree.upstream.calls[0].fail(kind, "no")
    tree.settle()
    assert (glm_calls(tree), tree.statistics().queued) == (1, 0)


def test_with_busy_a_request_between_two_attempts_leaves_when_the_circuit_opens() -> None:
    capacity = CapacitySettings(2, circuit=CircuitSettings(failures_in_a_row=2))
    tree = routed_tree("busy", capacity=capacity)
    client = tree.client()
    ask(client)
    client.call("other")
    tree.upstream.calls[0].fail(FailureKind.SERVER_ERROR)
    tree.settle()
    assert (glm_calls(tree), tree.statistics().queued) == (0, 1)
    tree.upstream.calls[1].fail(FailureKind.SERVER_ERROR)
    tree.settle()
    assert glm_calls(tree) == 1


@pytest.mark.parametrize("kind", [FailureKind.UNAUTHORIZED, FailureKind.REJECTED])
def test_with_busy_a_final_failure_is_not_hidden(kind: FailureKind) -> None:
    tree = routed_tree("busy", *REASONS)
    client = tree.client()
    ask(client)
    tree.upstream.calls[0].fail(kind, "HTTP 401: invalid key")
    (answer,) = client.received()
    assert "HTTP 401: invalid key" in answer["error"]["message"]
    assert glm_calls(tree) == 0


def unlisted_tree(*on: str) -> tuple[ManualTree, ManualClient]:
    """Kimi does not list its models, because its key is refused; glm does."""
    tree = routed_tree(*on, models=())
    refused = UpstreamFailure(FailureKind.UNAUTHORIZED, "HTTP 401: invalid key", status=401)
    tree.upstream.models_asked[0].tell(ModelsUnavailable(refused))
    tree.settle()
    return tree, tree.client()


@pytest.mark.parametrize("model", ["any", "kimi/moon", "kimi/other"])
def test_a_refused_key_is_seen_although_another_provider_could_answer(model: str) -> None:
    tree, client = unlisted_tree()
    client.call("a", arguments={"model": model})
    tree.upstream.calls[0].fail(FailureKind.UNAUTHORIZED, "HTTP 401: invalid key")
    (answer,) = client.received()
    assert "HTTP 401: invalid key" in answer["error"]["message"]
    assert glm_calls(tree) == 0


def test_a_refused_key_is_seen_without_a_model() -> None:
    tree, client = unlisted_tree()
    (answer,) = client.call("a")
    assert "HTTP 401: invalid key" in answer["error"]["message"]
    assert answer["error"]["details"]["provider"] == "kimi"
    assert "star" in answer["error"]["message"]
    assert glm_calls(tree) == 0


def test_a_provider_that_has_not_answered_yet_is_worth_another_try() -> None:
    tree = ManualTree(models=())
    (answer,) = tree.client().call("a")
    assert answer["error"]["message"].startswith("provider 'kimi' has not listed its models yet")
    assert answer["error"]["details"]["retry_after"] == 1


def test_a_route_may_hide_a_refused_key_by_its_own_word() -> None:
    tree, client = unlisted_tree("unauthorized")
    ask(client)
    tree.upstream.calls[0].fail(FailureKind.UNAUTHORIZED, "HTTP 401: invalid key")
    tree.settle()
    assert glm_calls(tree) == 1


def test_a_provider_that_lists_no_models_leaves_the_default_to_the_next() -> None:
    tree, client = unlisted_tree()
    tree.upstream.models_asked[0].tell(ModelsListed(()))
    tree.settle()
    client.call("a")
    assert glm_calls(tree) == 1


def test_a_model_that_the_service_does_not_know_is_looked_for_elsewhere() -> None:
    tree = routed_tree("model_not_found")
    ask(tree.client())
    tree.upstream.calls[0].fail(FailureKind.MODEL_NOT_FOUND, "no such model")
    tree.settle()
    assert glm_calls(tree) == 1


def test_when_all_targets_fail_each_failure_is_listed() -> None:
    retry = RetrySettings(attempts=1)
    tree = routed_tree(capacity=CapacitySettings(1, retry=retry))
    client = tree.client()
    ask(client)
    tree.upstream.calls[0].fail(FailureKind.OVERLOADED, "too many")
    tree.settle()
    tree.upstreams[ProviderName("glm")].calls[0].fail(FailureKind.SERVER_ERROR, "kaput")
    (answer,) = client.received()
    assert "kaput" in answer["error"]["message"]
    tried = answer["error"]["details"]["tried"]
    assert [(each["provider"], each["model"]) for each in tried] == [
        ("kimi", "moon"),
        ("glm", "star"),
    ]
    assert "too many" in tried[0]["message"]


def test_a_draining_provider_is_passed_over() -> None:
    tree = routed_tree()
    tree.change(DrainProvider())
    ask(tree.client())
    assert not tree.upstream.calls
    assert len(tree.upstreams[ProviderName("glm")].calls) == 1


def test_requests_that_may_wait_go_elsewhere_when_the_provider_is_paused() -> None:
    tree = routed_tree()
    client = tree.client()
    ask(client, "runs")
    ask(client, "waits")
    client.call("stays")
    assert not tree.upstreams[ProviderName("glm")].calls
    tree.change(Pause())
    assert len(tree.upstreams[ProviderName("glm")].calls) == 1
    assert tree.statistics().queued == 1


def test_the_deadline_counts_from_the_beginning() -> None:
    tree = routed_tree()
    client = tree.client()
    ask(client, deadline_ms=5000)
    tree.advance(4.0)
    tree.upstream.calls[0].fail(FailureKind.OVERLOADED)
    tree.settle()
    client.received()
    tree.advance(1.5)
    (answer,) = (frame for frame in client.received() if frame["op"] == "call_tool_res")
    assert answer["error"]["code"] == "TIMEOUT"
    assert tree.upstreams[ProviderName("glm")].calls[0].abort_asked


def test_a_request_keeps_its_place_in_the_window_on_its_way() -> None:
    tree = routed_tree(session=SessionSettings(window=1))
    client = tree.client()
    ask(client, "a")
    ask(client, "b")
    tree.upstream.calls[0].fail(FailureKind.OVERLOADED)
    tree.settle()
    glm = tree.upstreams[ProviderName("glm")]
    assert (len(tree.upstream.calls), len(glm.calls)) == (1, 1)
    glm.calls[0].complete()
    tree.settle()
    assert len(tree.upstream.calls) + len(glm.calls) == 3


def test_a_late_reply_of_the_first_target_is_ignored() -> None:
    tree = routed_tree()
    client = tree.client()
    ask(client)
    tree.upstream.calls[0].fail(FailureKind.OVERLOADED)
    tree.settle()
    tree.upstream.calls[0].end_again()
    tree.upstreams[ProviderName("glm")].calls[0].complete("once")
    (answer,) = client.received()
    assert answer["text"] == "once"


def test_a_route_is_listed_with_its_targets() -> None:
    tree = routed_tree()
    client = tree.client()
    frames = client.send({"op": "tool_call", "request_id": "m", "name": "list_models"})
    told = json.loads(frames[-1]["text"])
    assert {"model": "any", "provider": "kimi", "route": ["kimi/moon", "glm/star"]} in told[
        "models"
    ]
    chat = next(tool for tool in tree.directory.tools if tool.name == "chat")
    assert "any" in json.dumps(chat.input_schema)


def test_a_call_without_a_client_can_be_cancelled_after_a_resume() -> None:
    tree = ManualTree(finish_on_disconnect=("kimi",))
    client = tree.client("mine-alone")
    client.call("a")
    client.vanish()
    tree.settle()
    assert not tree.upstream.calls[0].abort_asked
    tree.client("mine-alone").send({"op": "cancel", "request_id": "a"})
    assert tree.upstream.calls[0].abort_asked


def test_a_call_without_a_client_ends_at_its_deadline() -> None:
    tree = ManualTree(finish_on_disconnect=("kimi",), resume_s=10.0)
    client = tree.client("mine-alone")
    client.call("a")
    client.vanish()
    tree.settle()
    tree.advance(899.0)
    assert not tree.upstream.calls[0].abort_asked
    tree.advance(2.0)
    assert tree.upstream.calls[0].abort_asked
