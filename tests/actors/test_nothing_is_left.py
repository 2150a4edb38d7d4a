"""What has ended is freed by reference counting: the daemon runs its collector rarely."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from exai_actors.core.calls import FailureKind
from exai_actors.core.capacity.settings import CapacitySettings, RetrySettings
from exai_actors.messages.connection import OutboxHigh, OutboxLow
from exai_actors.testing.tree import ManualClient, ManualTree
from tests.garbage import only_found_by_the_collector


def completes(tree: ManualTree, client: ManualClient) -> None:
    client.call("a")
    tree.upstream.calls[-1].complete()


def streams(tree: ManualTree, client: ManualClient) -> None:
    client.call("a", stream=True)
    tree.upstream.calls[-1].chunk("one")
    client.event(OutboxHigh())
    tree.upstream.calls[-1].chunk("two")
    client.event(OutboxLow())
    tree.settle()
    tree.upstream.calls[-1].complete("onetwo")


def fails(tree: ManualTree, client: ManualClient) -> None:
    client.call("a")
    tree.upstream.calls[-1].fail(FailureKind.SERVER_ERROR)


def converses(tree: ManualTree, client: ManualClient) -> None:
    client.call("a")
    tree.upstream.calls[-1].complete("one")
    (answer,) = client.received()
    client.call("b", "more", continuation_id=answer["continuation_id"])
    tree.upstream.calls[-1].complete("two")


def cancels(tree: ManualTree, client: ManualClient) -> None:
    client.call("a")
    client.send({"op": "cancel", "request_id": "a"})
    tree.upstream.calls[-1].close()


def vanishes(tree: ManualTree, client: ManualClient) -> None:
    client.call("a")
    client.call("waits")
    client.vanish()
    tree.settle()
    tree.upstream.calls[-1].close()


def waits(tree: ManualTree, client: ManualClient) -> None:
    client.call("a")
    client.call("waits")
    tree.advance(10.0)
    tree.upstream.calls[-1].complete()
    tree.settle()
    tree.upstream.calls[-1].complete()


def expires(tree: ManualTree, client: ManualClient) -> None:
    client.call("a")
    client.call("late", deadline_ms=1000)
    tree.advance(2.0)
    tree.upstream.calls[-1].complete()


def is_refused(tree: ManualTree, client: ManualClient) -> None:
    client.call("a", model="unknown")


def sends_nonsense(tree: ManualTree, client: ManualClient) -> None:
    client.send(b"{")
    client.send({"op": "nothing"})


@pytest.mark.parametrize(
    "live",
    [
        completes,
        streams,
        fails,
        converses,
        cancels,
        vanishes,
        waits,
        expires,
        is_refused,
        sends_nonsense,
    ],
)
def test_an_ended_session_leaves_nothing_to_the_collector(
    live: Callable[[ManualTree, ManualClient], None],
) -> None:
    settings = CapacitySettings(1, retry=RetrySettings(attempts=1))
    tree = ManualTree(capacity=settings, resume_s=5.0)

    def round_of_life() -> None:
        client = tree.client()
        live(tree, client)
        client.received()
        client.vanish()
        tree.settle()
        tree.upstream.calls.clear()
        tree.advance(60.0)
        assert tree.system.resolve("/sessions/1") is None

    # Whatever is made once, for the first session, lasts.
    round_of_life()
    with only_found_by_the_collector() as found:
        round_of_life()
        gc.collect()
        assert [type(each).__name__ for each in found] == []
