"""What pykka's ThreadingActor lacks when something fails: shown on it first, then absent here.

Gaps 1, 2, 3 and 10 of the design.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pykka
import pytest
from pykka import ActorDeadError, ActorRegistry, ThreadingActor, Timeout

from exai_actors.runtime import (
    Exit,
    ExitReason,
)
from tests.runtime.plain_actor import Plain, start_plain, thread_of
from tests.runtime.probes import Doing, ManualSystem, Recorder


def error_of(answer: pykka.Future[Any]) -> ValueError:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - callers look at it themselves
        answer.get(timeout=5)
    return caught.value


class TestGap1HooksThatRaise:
    @pytest.mark.parametrize("hook", ["on_start", "on_stop"])
    def test_in_pykka_nobody_hears_of_it(self, hook: str) -> None:
        ref, actor = start_plain(raising_hook=hook)
        if hook == "on_stop":
            ref.stop(block=False)
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
