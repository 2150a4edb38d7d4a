"""The memory of a session: what it reports, and how it shrinks and is restrained."""

from __future__ import annotations

from exai_actors.actors.memory_board import SessionMemory
from exai_actors.testing.tree import ManualTree


def memory_of(tree: ManualTree) -> SessionMemory:
    (memory,) = tree.memory_board.sessions
    return memory


def test_a_session_short_of_memory_accepts_requests_one_at_a_time() -> None:
    tree = ManualTree()
    client = tree.client().begin_session()
    memory = memory_of(tree)
    assert memory.held_bytes() == 0
    client.call("running", prompt="x" * 1000)
    assert memory.held_bytes() == 1000
    memory.restrain()
    tree.settle()
    refused = client.call("second")[-1]
    assert refused["error"]["code"] == "OVER_CAPACITY"
    assert "short of memory" in refused["error"]["message"]
    tree.upstream.calls[0].complete("done")
    client.received()
    client.call("third")
    assert len(tree.upstream.calls) == 2
    memory.release()
    tree.settle()
    client.call("fourth")
    assert memory.held_bytes() == 4


def test_a_session_drops_its_oldest_outcomes_first_and_then_conversations() -> None:
    tree = ManualTree()
    client = tree.client().begin_session()
    memory = memory_of(tree)
    for number in range(4):
        client.call(f"r-{number}", prompt="x" * 5000)
        tree.upstream.calls[number].complete("y" * 5000)
        client.received()
    kept = memory.kept_bytes()
    assert kept > 40_000
    memory.shrink(kept - 1)
    tree.settle()
    client.call("r-3", prompt="x" * 5000)
    assert len(tree.upstream.calls) == 4
    client.call("r-0", prompt="x" * 5000)
    assert len(tree.upstream.calls) == 5
    memory.shrink(12_000)
    tree.settle()
    assert 0 < memory.kept_bytes() <= 12_000
    memory.shrink(0)
    tree.settle()
    assert memory.kept_bytes() == 0


def test_the_memory_of_an_ended_session_is_forgotten() -> None:
    tree = ManualTree(resume_s=10)
    client = tree.client().begin_session()
    assert memory_of(tree).kept_bytes() == 0
    client.vanish()
    tree.advance(11)
    assert not tree.memory_board.sessions
