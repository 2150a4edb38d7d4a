"""The narrowest gaps between threads, each held open by hand so that it is met every time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from tests.runtime.probes import ManualSystem


class LastLook(deque[Any]):
    """Is found empty; before whoever looked gets to the next line, another thread does its work."""

    def __init__(self, looks: int, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self._looks = looks
        self._meanwhile = meanwhile
        self._loop_thread = threading.get_ident()

    def __len__(self) -> int:
        length = super().__len__()
        if not length and threading.get_ident() == self._loop_thread and self._looks:
            self._looks -= 1
            if not self._looks:
                thread = threading.Thread(target=self._meanwhile)
                thread.start()
                thread.join()
        return length


class GatedForOthers(deque[Any]):
    """Other threads are held before they append."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.gate = threading.Event()
        self._loop_thread = threading.get_ident()

    def append(self, item: Any, /) -> None:
        if threading.get_ident() != self._loop_thread:
            self.reached.set()
            self.gate.wait()
        super().append(item)


def test_a_message_put_while_its_mailbox_is_found_empty_is_handled(system: ManualSystem) -> None:
    ref, actor = system.recorder("/a")
    mailbox: Any = ref.actor_inbox
    # The first look is for company of the message, the second after it was handled.
    mailbox.user_lane = LastLook(2, lambda: ref.tell("just then"))
    ref.tell("first")
    system.run()
    assert actor.seen == ["first", "just then"]


def test_a_message_put_while_a_longer_slice_finds_nothing_more_is_handled(
    system: ManualSystem,
) -> None:
    ref, actor = system.recorder("/a")
    mailbox: Any = ref.actor_inbox
    mailbox.quota = range(8)
    # After the two messages: to go on with the slice, to queue again, and behind the flag.
    mailbox.user_lane = LastLook(3, lambda: ref.tell("just then"))
    ref.tell("first")
    ref.tell("second")
    system.run()
    assert actor.seen == ["first", "second", "just then"]


def test_an_actor_queued_twice_by_threads_at_once_handles_each_message_once(
    system: ManualSystem,
) -> None:
    ref, actor = system.recorder("/a")
    ref.tell("first")
    system.scheduler.ready.append(ref._mailbox)
    system.run()
    ref.tell("second")
    system.run()
    assert actor.seen == ["first", "second"]


def test_an_actor_made_ready_while_the_turn_finds_nothing_more_to_do_runs(
    system: ManualSystem,
) -> None:
    ref, actor = system.recorder("/a")
    other, other_actor = system.recorder("/other")
    system.scheduler.ready = LastLook(2, lambda: other.tell("just then"))
    ref.tell("first")
    system.run()
    assert actor.seen == ["first"]
    assert other_actor.seen == ["just then"]


def test_an_actor_made_ready_by_a_thread_just_after_the_turn_has_ended_runs(
    system: ManualSystem,
) -> None:
    ref, _ = system.recorder("/a")
    other, other_actor = system.recorder("/other")
    ready = GatedForOthers()
    system.scheduler.ready = ready
    sender = threading.Thread(target=lambda: other.tell("just after"))

    def begin_to_send() -> None:
        sender.start()
        ready.reached.wait()

    ref.tell(begin_to_send)
    system.run()
    ready.gate.set()
    sender.join()
    system.run()
    assert other_actor.seen == ["just after"]


def test_ctrl_c_between_two_lines_of_the_scheduler_leaves_every_actor_running(
    system: ManualSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref, actor = system.recorder("/a")
    other, other_actor = system.recorder("/other")
    looks = count(1)

    def interrupted_clock() -> float:
        if next(looks) == 2:
            raise KeyboardInterrupt
        return 1.0

    ref.tell("first")
    other.tell("first")
    monkeypatch.setattr(system.scheduler, "_now", interrupted_clock)
    with pytest.raises(KeyboardInterrupt):
        system.run()
    ref.tell("second")
    system.run()
    assert actor.seen == ["first", "second"]
    assert other_actor.seen == ["first"]
    assert system.statistics()[0].current_message is None
