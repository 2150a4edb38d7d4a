"""Gaps of pykka's ThreadingActor in sending: each shown on it first, then absent here.

Gaps 4 to 9 of the ten that ADR 1 lists. What closes gap 4 at every point is in
``tests/runtime/kernel/test_interleavings.py``, the system lane of gap 6 in ``test_sending.py``.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from typing import Any

import pytest
from pykka import ActorDeadError, ThreadingFuture, Timeout

from exai_actors.runtime import ActorSystem, LoopFuture, PathRef, WouldBlockLoop
from exai_actors.runtime.kernel.events import DeadLetterReason
from tests.runtime.pykka_api.probes import (
    ManualSystem,
    Plain,
    Recorder,
    actor_of,
    start_plain,
    thread_of,
)


class GatedQueue(queue.Queue[Any]):
    """A queue in which one sender can be held just before its message is put."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.gate = threading.Event()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        if item.message == "late":
            self.reached.set()
            self.gate.wait()
        super().put(item)


class GatedLane(deque[Any]):
    """A mailbox lane in which every sender is held just before its message is put."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.gate = threading.Event()

    def append(self, message: Any, /) -> None:
        self.reached.set()
        self.gate.wait()
        super().append(message)


class TestGap4TheStopRace:
    def test_in_pykka_an_ask_put_behind_the_teardown_is_never_answered(self) -> None:
        class Gated(Plain):
            @staticmethod
            def _create_actor_inbox() -> GatedQueue:
                return GatedQueue()

        ref, _ = start_plain(Gated)
        inbox = ref.actor_inbox
        assert isinstance(inbox, GatedQueue)
        answers: list[Any] = []
        asker = threading.Thread(target=lambda: answers.append(ref.ask("late", block=False)))
        asker.start()
        inbox.reached.wait()
        thread = thread_of(Gated)
        ref.stop()
        thread.join(5)
        inbox.gate.set()
        asker.join(5)
        with pytest.raises(Timeout):
            answers[0].get(timeout=0)

    def test_here_it_is_answered_that_the_actor_is_dead(self, system: ManualSystem) -> None:
        ref, _ = system.recorder("/a")
        lane = ref._cell.mailbox.user = GatedLane()
        answers: list[Any] = []
        asker = threading.Thread(target=lambda: answers.append(ref.ask("late", block=False)))
        asker.start()
        lane.reached.wait()
        ref.stop(block=False)
        system.run()
        lane.gate.set()
        asker.join(5)
        with pytest.raises(ActorDeadError, match="/a stopped before it handled the message"):
            answers[0].get(timeout=0)


class TestGap5MessagesBehindAStop:
    def test_in_pykka_they_vanish(self) -> None:
        ref, actor = start_plain()
        gate = threading.Event()
        ref.tell(gate.wait)
        stopped = ref.stop(block=False)
        ref.tell("behind the stop")
        gate.set()
        stopped.get(timeout=5)
        assert "behind the stop" not in actor.seen
        assert actor.hooks == ["start", "stop"]

    def test_here_they_are_dead_letters(self, system: ManualSystem) -> None:
        ref, _ = system.recorder("/a")
        ref.stop(block=False)
        ref.tell("behind the stop")
        system.run()
        (letter,) = system.dead_letters.recent()
        assert (letter.path, letter.message_type) == ("/a", "str")
        assert letter.reason is DeadLetterReason.STOPPED_BEHIND


class TestGap6StopBehindABacklog:
    def test_in_pykka_the_whole_backlog_goes_first(self) -> None:
        ref, actor = start_plain()
        gate = threading.Event()
        ref.tell(gate.wait)
        for number in range(3):
            ref.tell(number)
        stopped = ref.stop(block=False)
        gate.set()
        stopped.get(timeout=5)
        assert actor.seen[1:] == [0, 1, 2]

    def test_here_the_stop_goes_first(self, system: ManualSystem) -> None:
        ref, actor = system.recorder("/a")
        for number in range(3):
            ref.tell(number)
        ref.stop(block=False)
        system.run()
        assert actor.seen == []
        assert system.dead_letters.counts[DeadLetterReason.STOPPED_BEHIND] == 3


class TestGap7TellingADeadActor:
    def test_in_pykka_it_kills_the_sender(self) -> None:
        dead, _ = start_plain()
        dead.stop()
        sender, _ = start_plain()
        sender.tell(lambda: dead.tell("a reply"))
        assert sender.actor_stopped.wait(5)

    def test_here_the_reply_is_a_dead_letter(self, system: ManualSystem) -> None:
        dead, _ = system.recorder("/dead")
        dead.stop(block=False)
        system.run()
        sender, actor = system.recorder("/sender")
        sender.tell(lambda: dead.tell("a reply"))
        sender.tell("next")
        system.run()
        assert actor.seen[1:] == ["next"]
        assert system.dead_letters.counts[DeadLetterReason.DEAD] == 1


class TestGap8AwaitingAFuture:
    async def test_in_pykka_await_waits_on_the_event_loops_thread(self) -> None:
        class Caught(Exception):
            pass

        class Watched(ThreadingFuture[Any]):
            def get(self, *, timeout: float | None = None) -> Any:
                assert asyncio.get_running_loop() is not None
                assert self._result is None
                raise Caught

        with pytest.raises(Caught):
            await Watched()

    async def test_here_the_loop_runs_while_a_task_awaits(self) -> None:
        future: LoopFuture[str] = LoopFuture()
        ticks: list[int] = []

        def tick(number: int) -> None:
            ticks.append(number)
            if number == 5:
                future.set("done")
            else:
                asyncio.get_running_loop().call_soon(tick, number + 1)

        asyncio.get_running_loop().call_soon(tick, 1)
        assert await future == "done"
        assert ticks == [1, 2, 3, 4, 5]

    async def test_here_waiting_on_the_loops_thread_raises_before_anything_is_sent(
        self, live_system: ActorSystem
    ) -> None:
        ref = live_system.spawn(Recorder, path="/a")
        unanswered = ref.ask("hello", block=False)
        with pytest.raises(WouldBlockLoop):
            unanswered.get()
        with pytest.raises(WouldBlockLoop, match=r"ask\(block=True\).*/a; use block=False"):
            ref.ask("never sent")
        with pytest.raises(WouldBlockLoop, match=r"stop\(block=True\)"):
            ref.stop()
        assert await unanswered == "hello"
        assert actor_of(ref).seen == ["hello"]
        with pytest.raises(WouldBlockLoop):
            ref.stop(block=False).get()


class TestGap9ReferencesAndRestarts:
    def test_in_pykka_a_reference_stays_dead(self) -> None:
        ref, _ = start_plain()
        ref.stop()
        start_plain()
        with pytest.raises(ActorDeadError):
            ref.tell("are you back?")

    def test_here_a_path_leads_to_the_present_incarnation(self, system: ManualSystem) -> None:
        first, _ = system.recorder("/providers/kimi")
        stable = PathRef(system, "/providers/kimi")
        first.tell(ValueError("crash"))
        system.run()
        assert stable.resolve() is None
        second, actor = system.recorder("/providers/kimi")
        assert stable.resolve() is second
        stable.tell_system("are you back?")
        system.run()
        assert actor.seen == ["are you back?"]
        assert actor.incarnation == second.incarnation == 2
