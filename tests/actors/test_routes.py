"""Routes: the order of their targets, the reasons to go on, and the errors for the client."""

from __future__ import annotations

import json
from typing import Any

import pytest

from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.calls import FailureKind
from exai_actors.core.capacity.changes import DrainProvider, Pause
from exai_actors.core.capacity.settings import CapacitySettings, RetrySettings
from exai_actors.core.routing import RouteSettings
from exai_actors.ids import ProviderName
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


@pytest.mark.parametrize("kind", [FailureKind.TIMEOUT, FailureKind.UNAUTHORIZED])
def test_a_reason_outside_the_route_ends_the_request(kind: FailureKind) -> None:
    tree = routed_tree()
    client = tree.client()
    ask(client)
    tree.upstream.calls[0].fail(kind, "no")
    (answer,) = client.received()
    assert answer["error"]["details"]["kind"] == kind.value
    assert not tree.upstreams[ProviderName("glm")].calls


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
    tree.advance(299.0)
    assert not tree.upstream.calls[0].abort_asked
    tree.advance(2.0)
    assert tree.upstream.calls[0].abort_asked
