"""Equal requests that run or wait at the same time share one call, if that is configured."""

from __future__ import annotations

from typing import Any

import pytest

from exai_actors.core.authentication import Identity
from exai_actors.core.calls import FailureKind
from exai_actors.core.capacity.settings import CapacitySettings
from exai_actors.ids import TenantName
from exai_actors.testing.tree import ManualTree


def last(frames: list[dict[str, Any]]) -> dict[str, Any]:
    return frames[-1]


def test_equal_requests_share_one_call() -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=3, coalesce=True))
    clients = [tree.client() for _ in range(3)]
    for number, client in enumerate(clients):
        client.call(f"r{number}", "the same")
    assert len(tree.upstream.calls) == 1
    tree.upstream.calls[0].complete("for all")
    assert [last(client.received())["text"] for client in clients] == ["for all"] * 3
    assert tree.statistics().shared == 2
    clients[0].call("again", "the same")
    assert len(tree.upstream.calls) == 2, "an answer is shared, not kept"


def test_requests_that_differ_are_not_coalesced() -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=3, coalesce=True))
    client = tree.client()
    client.call("a", "one")
    client.call("b", "two")
    client.call("c", "one", arguments={"max_tokens": 5})
    assert len(tree.upstream.calls) == 3


@pytest.mark.parametrize("leaver", [0, 1])
@pytest.mark.parametrize("running", [True, False])
def test_one_of_two_coalesced_requests_can_be_cancelled(leaver: int, running: bool) -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=1, coalesce=True))
    other = tree.client()
    if not running:
        other.call("occupies", "something else")
    clients = [tree.client(), tree.client()]
    for client in clients:
        client.call("mine", "the same")
    clients[leaver].send({"op": "cancel", "request_id": "mine"})
    if not running:
        tree.upstream.calls[0].complete()
        tree.settle()
    shared = tree.upstream.calls[-1]
    assert shared.prompt == "the same"
    assert not shared.abort_asked
    shared.complete("still here")
    assert last(clients[1 - leaver].received())["text"] == "still here"


def test_a_coalesced_call_is_aborted_with_its_last_request() -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=1, coalesce=True))
    clients = [tree.client(), tree.client()]
    for client in clients:
        client.call("mine", "the same")
    clients[0].vanish()
    assert not tree.upstream.calls[0].abort_asked
    clients[1].vanish()
    assert tree.upstream.calls[0].abort_asked


def test_a_queued_coalesced_call_is_removed_with_its_last_request() -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=1, coalesce=True))
    tree.client().call("occupies", "something else")
    clients = [tree.client(), tree.client()]
    for client in clients:
        client.call("mine", "the same")
    for client in reversed(clients):
        client.send({"op": "cancel", "request_id": "mine"})
    assert tree.statistics().queued == 0
    tree.upstream.calls[0].complete()
    tree.settle()
    assert len(tree.upstream.calls) == 1


def test_if_busy_refuse_joins_no_queued_call() -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=1, coalesce=True))
    other, first, second = tree.client(), tree.client(), tree.client()
    other.call("o", "something else")
    first.call("a", "the same")
    (refused,) = second.call("b", "the same", if_busy="refuse")
    assert refused["error"]["code"] == "OVER_CAPACITY"
    tree.upstream.calls[0].complete()
    tree.settle()
    second.call("c", "the same", if_busy="refuse")
    tree.upstream.calls[1].complete("shared")
    assert last(second.received())["text"] == "shared"


@pytest.mark.parametrize("when", ["waiting", "running", "between tries"])
def test_a_coalesced_call_outlives_its_first_session(when: str) -> None:
    tokens = tuple(
        (f"the token of tenant {name}", Identity(TenantName(name))) for name in ("one", "two")
    )
    tree = ManualTree(
        capacity=CapacitySettings(limit=1, coalesce=True), resume_s=0.1, tokens=tokens
    )
    first, second = (tree.client(token=token) for token, _ in tokens)
    if when == "waiting":
        second.call("other", "something else")
    first.call("a", "the same")
    second.call("b", "the same")
    if when == "between tries":
        tree.upstream.calls[0].fail(FailureKind.SERVER_ERROR)
    tree.settle()
    first.vanish()
    tree.advance(0.2)
    assert tree.board.statistics().sessions == 1
    if when == "waiting":
        tree.upstream.calls[0].complete()
    elif when == "running":
        tree.upstream.calls[0].fail(FailureKind.SERVER_ERROR)
        second.call("other", "something else")
        tree.advance(1.0)
        assert tree.statistics().queued == 1
        tree.upstream.calls[1].complete()
    tree.advance(1.0)
    tree.upstream.running[0].complete("still here")
    assert last(second.received())["text"] == "still here"
    assert tree.statistics().incarnation == 1


def test_a_coalesced_call_is_retried_if_any_of_its_requests_has_time() -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=1, coalesce=True))
    hurried, patient = tree.client(), tree.client()
    hurried.call("a", "the same", deadline_ms=5000)
    patient.call("b", "the same")
    tree.upstream.calls[0].fail(FailureKind.RATE_LIMITED, "slow down", retry_after=10.0)
    tree.settle()
    assert patient.received() == []
    tree.advance(12.0)
    assert last(hurried.received())["error"]["code"] == "TIMEOUT"
    tree.upstream.calls[1].complete("in time")
    assert last(patient.received())["text"] == "in time"


def test_a_stream_cannot_be_joined_after_its_first_chunk() -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=2, coalesce=True))
    first, second = tree.client(), tree.client()
    first.call("a", "the same", stream=True)
    tree.upstream.calls[0].chunk("be")
    tree.settle()
    second.call("b", "the same", stream=True)
    assert len(tree.upstream.calls) == 2


def test_a_coalesced_stream_reaches_all_its_requests() -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=2, coalesce=True))
    clients = [tree.client(), tree.client()]
    for client in clients:
        client.call("a", "the same", stream=True)
    for piece in ("one ", "two"):
        tree.upstream.calls[0].chunk(piece)
    tree.upstream.calls[0].complete("one two")
    for client in clients:
        frames = client.received()
        chunks = [frame["chunk"] for frame in frames if frame["op"] == "stream_chunk"]
        assert "".join(chunks) == "one two"
        assert last(frames)["text"] == "one two"
