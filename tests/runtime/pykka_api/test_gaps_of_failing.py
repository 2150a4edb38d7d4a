"""Gaps of pykka's ThreadingActor when something fails: shown on it first, then absent here.

Gaps 1, 2, 3 and 10 of the ten that ADR 1 lists.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pykka
import pytest
from pykka import ActorDeadError, ActorRegistry, ThreadingActor, Timeout

from exai_actors.runtime import ExitReason
from tests.runtime.pykka_api.probes import (
    ManualSystem,
    Plain,
    Recorder,
    actor_of,
    start_plain,
    thread_of,
)


def error_of(answer: pykka.Future[Any]) -> ValueError:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - callers look at it themselves
        answer.get(timeout=5)
    return caught.value


class TestGap1HooksThatRaise:
    @pytest.mark.parametrize("hook", ["on_start", "on_stop"])
    def test_pykka_calls_no_other_hook(self, hook: str) -> None:
        ref, actor = start_plain(raising_hook=hook)
        if hook == "on_stop":
            ref.stop(block=False)
        assert ref.actor_stopped.wait(5)
        assert "failure ValueError" not in actor.hooks

    @pytest.mark.parametrize(
        ("hook", "reason"),
        [("on_start", ExitReason.START_FAILED), ("on_stop", ExitReason.STOP_FAILED)],
    )
    def test_here_on_failure_runs_and_the_supervisor_gets_an_exit(
        self, system: ManualSystem, hook: str, reason: ExitReason
    ) -> None:
        boss_ref, boss = system.recorder("/boss")
        ref = system.spawn(Recorder, hook, path="/child", supervisor=boss_ref)
        child = actor_of(ref)
        stopped = ref.stop(block=False)
        system.run()
        assert stopped.get() is True
        assert child.hooks[-1] == "failure ValueError"
        assert [(exit_.path, exit_.reason) for exit_ in boss.seen] == [("/child", reason)]


class TestGap2ErrorsUnderAskAndTell:
    def test_in_pykka_the_actor_survives_one_under_ask_and_dies_of_one_under_tell(self) -> None:
        asked, _ = start_plain()
        with pytest.raises(ValueError, match="half done"):
            asked.ask(ValueError("half done"))
        told, _ = start_plain()
        told.tell(ValueError("half done"))
        assert told.actor_stopped.wait(5)
        assert asked.ask("still there?") == "still there?"

    @pytest.mark.parametrize("verb", ["ask", "tell"])
    def test_here_both_end_the_incarnation_and_send_one_exit(
        self, system: ManualSystem, verb: str
    ) -> None:
        boss_ref, boss = system.recorder("/boss")
        ref, child = system.recorder("/child", supervisor=boss_ref)
        error = ValueError("half done")
        if verb == "ask":
            answer = ref.ask(error, block=False)
            system.run()
            assert error_of(answer).args == ("half done",)
        else:
            ref.tell(error)
            system.run()
        assert not ref.is_alive()
        (exit_,) = boss.seen
        assert (exit_.error, exit_.message_type) == (error, "ValueError")
        assert child.hooks == ["start", "failure ValueError"]


class TestGap3SystemExitInOneActor:
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
    def test_here_it_ends_only_that_actor_and_answers_its_asker(
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
        assert error_of(answer) is error_of(answer)

    def test_here_each_gets_a_copy(self, system: ManualSystem) -> None:
        ref, _ = system.recorder("/a")
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
