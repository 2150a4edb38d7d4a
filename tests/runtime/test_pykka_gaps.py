"""What pykka's ThreadingActor lacks: each fault shown on it first, then its absence here."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import sys
import threading
from collections import deque
from typing import Any

import pykka
import pytest
from pykka import ActorDeadError, ActorRegistry, ThreadingActor, ThreadingFuture, Timeout

from exai_actors.runtime import (
    ActorSystem,
    DeadLetterReason,
    Exit,
    ExitReason,
    LoopFuture,
    Offer,
    PathRef,
    WouldBlockLoop,
)
from tests.runtime.probes import Doing, ManualSystem, Recorder


class Plain(ThreadingActor):
    """As Recorder, on a thread."""

    use_daemon_thread = True

    def __init__(self, raising_hook: str = "") -> None:
        super().__init__()
        self.seen: list[Any] = []
        self.hooks: list[str] = []
        self._raising_hook = raising_hook

    def on_start(self) -> None:
        if self._raising_hook == "on_start":
            raise ValueError("on_start")

    def on_stop(self) -> None:
        if self._raising_hook == "on_stop":
            raise ValueError("on_stop")

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.hooks.append("failure")

    def on_receive(self, message: Any) -> Any:
        self.seen.append(message)
        if isinstance(message, BaseException):
            raise message
        if callable(message):
            return message()
        return message


def start_plain(actor_class: type[Plain] = Plain, raising_hook: str = "") -> tuple[Any, Plain]:
    ref = actor_class.start(raising_hook)
    actor = ref._actor_weakref()
    assert actor is not None
    return ref, actor


def thread_of(actor_class: type[ThreadingActor]) -> threading.Thread:
    """The thread of the only actor of a class."""
    (thread,) = (
        thread
        for thread in threading.enumerate()
        if thread.name.startswith(f"{actor_class.__name__}-")
    )
    return thread


def error_of(answer: pykka.Future[Any]) -> ValueError:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - callers look at it themselves
        answer.get(timeout=5)
    return caught.value


class TestGap1HooksThatRaise:
    @pytest.mark.parametrize("hook", ["on_start", "on_stop"])
    def test_in_pykka_nobody_hears_of_it(self, hook: str) -> None:
        ref, actor = start_plain(raising_hook=hook)
        ref.tell(pykka.messages._ActorStop())
        assert ref.actor_stopped.wait(5)
        assert actor.hooks == []

    def test_here_on_failure_and_the_supervisor_hear_of_a_failed_start(
        self, system: ManualSystem
    ) -> None:
        boss_ref, boss = system.recorder("/boss")
        heard: list[str] = []

        def refuse_to_start(actor: Doing) -> None:
            raise ValueError("no")

        system.spawn(
            Doing,
            on_start=refuse_to_start,
            on_failure=lambda actor: heard.append("failure"),
            path="/child",
            supervisor=boss_ref,
        )
        system.run()
        (told,) = boss.seen
        assert isinstance(told, Exit)
        assert (told.path, told.reason) == ("/child", ExitReason.START_FAILED)
        assert heard == ["failure"]

    def test_here_on_failure_and_the_supervisor_hear_of_a_failed_stop(
        self, system: ManualSystem
    ) -> None:
        boss_ref, boss = system.recorder("/boss")
        heard: list[str] = []

        def refuse_to_stop(actor: Doing) -> None:
            raise ValueError("no")

        ref = system.spawn(
            Doing,
            on_stop=refuse_to_stop,
            on_failure=lambda actor: heard.append("failure"),
            path="/child",
            supervisor=boss_ref,
        )
        stopped = ref.stop(block=False)
        system.run()
        assert stopped.get() is True
        assert [(told.reason, str(told.error)) for told in boss.seen] == [
            (ExitReason.STOP_FAILED, "no")
        ]
        assert heard == ["failure"]


class TestGap2AskedOrTold:
    def test_in_pykka_an_asked_actor_lives_on_and_a_told_one_dies(self) -> None:
        asked, _ = start_plain()
        with pytest.raises(ValueError, match="half done"):
            asked.ask(ValueError("half done"))
        told, _ = start_plain()
        told.tell(ValueError("half done"))
        assert told.actor_stopped.wait(5)
        assert asked.ask("still there?") == "still there?"

    @pytest.mark.parametrize("verb", ["ask", "tell"])
    def test_here_both_end_the_incarnation_and_reach_the_supervisor_once(
        self, system: ManualSystem, verb: str
    ) -> None:
        boss_ref, boss = system.recorder("/boss")
        ref, child = system.recorder("/child", supervisor=boss_ref)
        error = ValueError("half done")
        if verb == "ask":
            answer = ref.ask(error, block=False)
            system.run()
            with pytest.raises(ValueError, match="half done"):
                answer.get()
        else:
            ref.tell(error)
            system.run()
        assert not ref.is_alive()
        assert boss.seen == [boss.seen[0]]
        assert boss.seen[0].error is error
        assert boss.seen[0].message_type == "ValueError"
        assert child.hooks == ["start", "failure ValueError"]


class TestGap3OneActorsSystemExit:
    def test_in_pykka_it_stops_every_actor_and_leaves_its_asker_unanswered(self) -> None:
        class Exiting(Plain):
            pass

        bystander, _ = start_plain()
        ref, _ = start_plain(Exiting)
        thread = thread_of(Exiting)
        answer = ref.ask(SystemExit(3), block=False)
        thread.join(5)
        assert not bystander.is_alive()
        with pytest.raises(Timeout):
            answer.get(timeout=0)

    @pytest.mark.parametrize("kind", [SystemExit, asyncio.CancelledError, GeneratorExit])
    def test_here_it_ends_that_actor_alone_and_answers_its_asker(
        self, system: ManualSystem, kind: type[BaseException]
    ) -> None:
        bystander, _ = system.recorder("/bystander")
        ref, _ = system.recorder("/exiting")
        answer = ref.ask(kind("gone"), block=False)
        system.run()
        assert not ref.is_alive()
        assert bystander.is_alive()
        with pytest.raises(kind, match="gone"):
            answer.get()


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
        ref, _ = system.recorder("/target")
        lane = ref.actor_inbox.user_lane = GatedLane()  # type: ignore[attr-defined]
        answers: list[Any] = []
        asker = threading.Thread(target=lambda: answers.append(ref.ask("late", block=False)))
        asker.start()
        lane.reached.wait()
        ref.stop(block=False)
        system.run()
        lane.gate.set()
        asker.join(5)
        with pytest.raises(ActorDeadError):
            answers[0].get(timeout=0)

    def test_here_a_tell_in_the_same_place_is_a_dead_letter(self, system: ManualSystem) -> None:
        ref, _ = system.recorder("/target")
        lane = ref.actor_inbox.user_lane = GatedLane()  # type: ignore[attr-defined]
        sender = threading.Thread(target=lambda: ref.tell("late"))
        sender.start()
        lane.reached.wait()
        ref.stop(block=False)
        system.run()
        lane.gate.set()
        sender.join(5)
        assert [letter.path for letter in system.dead_letters.recent()] == ["/target"]


class TestGap5ToldBehindAStop:
    def test_in_pykka_it_vanishes(self) -> None:
        ref, actor = start_plain()
        gate = threading.Event()
        ref.tell(gate.wait)
        stopped = ref.stop(block=False)
        ref.tell("behind the stop")
        gate.set()
        stopped.get(timeout=5)
        assert "behind the stop" not in actor.seen
        assert actor.hooks == []

    def test_here_it_is_a_dead_letter(self, system: ManualSystem) -> None:
        ref, _ = system.recorder("/target")
        ref.stop(block=False)
        ref.tell("behind the stop")
        system.run()
        (letter,) = system.dead_letters.recent()
        assert (letter.path, letter.message_type) == ("/target", "str")
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
        ref, actor = system.recorder("/target")
        for number in range(3):
            ref.tell(number)
        ref.stop(block=False)
        system.run()
        assert actor.seen == []
        assert system.dead_letters.counts[DeadLetterReason.STOPPED_BEHIND] == 3

    def test_here_a_full_mailbox_refuses_told_messages_and_takes_system_messages(
        self, system: ManualSystem
    ) -> None:
        ref, actor = system.recorder("/target", mailbox_limit=1)
        ref.tell("first")
        assert ref.offer("second") is Offer.FULL
        ref.tell_system("released")
        system.run()
        assert actor.seen == ["released", "first"]


class TestGap7TellingTheDead:
    def test_in_pykka_it_kills_the_sender(self) -> None:
        dead, _ = start_plain()
        dead.stop()
        sender, _ = start_plain()
        sender.tell(lambda: dead.tell("a reply"))
        assert sender.actor_stopped.wait(5)

    def test_here_the_sender_lives_and_the_reply_is_a_dead_letter(
        self, system: ManualSystem
    ) -> None:
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

    async def test_here_the_loop_goes_on_while_a_task_awaits(self) -> None:
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

    async def test_here_a_blocking_get_on_the_loops_thread_raises_at_once(
        self, live_system: ActorSystem
    ) -> None:
        ref = live_system.spawn(Recorder, path="/target")
        unanswered = ref.ask("hello", block=False)
        with pytest.raises(WouldBlockLoop):
            unanswered.get()
        with pytest.raises(WouldBlockLoop):
            ref.ask("never sent")
        with pytest.raises(WouldBlockLoop):
            ref.stop()
        assert await unanswered == "hello"


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
        _, second_actor = system.recorder("/providers/kimi")
        stable.tell("are you back?")
        system.run()
        assert second_actor.seen == ["are you back?"]
        assert second_actor.incarnation == stable.incarnation == 2


class TestGap10SharedErrorsBroadcastsAndExit:
    def test_in_pykka_readers_of_one_failure_share_the_exception(self) -> None:
        ref, _ = start_plain()
        answer = ref.ask(ValueError("shared"), block=False)
        caught = [error_of(answer) for _ in range(2)]
        assert caught[0] is caught[1]

    def test_here_each_gets_a_copy(self, system: ManualSystem) -> None:
        ref, _ = system.recorder("/target")
        answer = ref.ask(ValueError("mine"), block=False)
        system.run()
        caught = [error_of(answer) for _ in range(2)]
        assert caught[0] is not caught[1]
        assert [error.args for error in caught] == [("mine",), ("mine",)]

    def test_in_pykka_a_broadcast_ends_at_the_first_dead_actor(self) -> None:
        dead, _ = start_plain()
        dead.stop()
        ActorRegistry.register(dead)
        living, actor = start_plain()
        with pytest.raises(ActorDeadError):
            ActorRegistry.broadcast("news", Plain)
        living.stop()
        assert actor.seen == []

    def test_here_it_reaches_the_others(self, system: ManualSystem) -> None:
        dead, _ = system.recorder("/dead")
        dead.stop(block=False)
        system.run()
        ActorRegistry.register(dead)
        _, actor = system.recorder("/living")
        ActorRegistry.broadcast("news", Recorder)
        system.run()
        assert actor.seen == ["news"]

    def test_in_pykka_a_forgotten_actor_holds_the_process(self) -> None:
        class Forgotten(ThreadingActor):
            pass

        ref = Forgotten.start()
        assert not thread_of(Forgotten).daemon
        ref.stop()

    def test_here_a_process_ends_with_actors_on_its_loop(self) -> None:
        script = """if True:
            import asyncio
            from exai_actors.runtime import ActorSystem, AsyncioDriver, LoopActor

            async def main():
                system = ActorSystem(AsyncioDriver(asyncio.get_running_loop()))
                ref = system.spawn(LoopActor, path="/forgotten")
                ref.ask("never answered", block=False)

            asyncio.run(main())
            print("over")
        """
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
        )
        assert done.stdout == "over\n"
