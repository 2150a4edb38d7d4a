"""Traced actors report their messages, and others do nothing for it."""

from __future__ import annotations

from typing import Any

from tests.runtime.kernel.probes import ManualSystem


def test_each_trace_gets_the_next_messages_until_it_wants_no_more(system: ManualSystem) -> None:
    actor = system.recorder("/a")
    first: list[Any] = []
    second: list[Any] = []

    def note(seen: list[Any], limit: int) -> Any:
        def noted(message: Any, began: float, took: float) -> bool:
            assert (began >= 0.0, took >= 0.0) == (True, True)
            seen.append(message)
            return len(seen) < limit

        return noted

    plain = actor.cell.receive
    system.trace("/a", note(first, 2))
    end = system.trace("/a", note(second, 9))
    for number in range(3):
        actor.ref.tell(number)
    system.run()
    assert (first, second, actor.seen) == ([0, 1], [0, 1, 2], [0, 1, 2])
    assert end is not None
    end()
    end()
    assert actor.cell.receive == plain
    actor.ref.tell(3)
    system.run()
    assert (second, actor.seen) == ([0, 1, 2], [0, 1, 2, 3])


def test_a_message_that_ends_its_actor_is_reported(system: ManualSystem) -> None:
    actor = system.recorder("/a")
    seen: list[Any] = []

    def note(message: Any, _began: float, _took: float) -> bool:
        seen.append(message)
        return True

    system.trace("/a", note)
    error = ValueError("planted")
    actor.ref.tell(error)
    system.run()
    assert seen == [error]
    assert not actor.ref.is_alive()


def test_nothing_is_traced_where_no_actor_lives(system: ManualSystem) -> None:
    assert system.trace("/nowhere", lambda *_: True) is None
