"""Every error ends one incarnation, calls on_failure once and sends one Exit."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pykka import ActorDeadError

from exai_actors.runtime import (
    ActorFailed,
    ActorStarted,
    ActorStopped,
    Down,
    Exit,
    ExitReason,
    LoopActor,
    PathRef,
)
from exai_actors.runtime.events import DeadLetter, DeadLetterReason
from tests.runtime.probes import Doing, ManualSystem, Recorder


def test_a_normal_stop_sends_one_exit(system: ManualSystem) -> None:
    boss_ref, boss = system.recorder("/boss")
    ref, child = system.recorder("/child", supervisor=boss_ref)
    ref.stop(block=False)
    ref.stop(block=False)
    system.run()
    (told,) = boss.seen
    assert (told.path, told.incarnation, told.reason) == ("/child", 1, ExitReason.NORMAL)
    assert (told.error, told.message_type) == (None, None)
    assert child.hooks == ["start", "stop"]


def test_an_exit_goes_before_what_the_supervisor_was_told(system: ManualSystem) -> None:
    boss_ref, boss = system.recorder("/boss")
    ref, _ = system.recorder("/child", supervisor=boss_ref)
    ref.tell(lambda: boss_ref.tell("told"))
    ref.tell(ValueError("crash"))
    system.run()
    assert [type(message) for message in boss.seen] == [str, Exit]
    # Quick by now, the child handles two messages in one slice: the boss finds both.
    again, _ = system.recorder("/child", supervisor=boss_ref)
    for _ in range(3):
        again.tell("warm up")
    system.run()
    boss.seen.clear()
    again.tell(lambda: boss_ref.tell("told"))
    again.tell(ValueError("crash"))
    system.run()
    assert [type(message) for message in boss.seen] == [Exit, str]


def test_stop_from_within_ends_after_the_present_message(system: ManualSystem) -> None:
    done: list[Any] = []

    def handle(actor: Doing, message: Any) -> None:
        actor.stop()
        done.append(message)

    ref = system.spawn(Doing, on_receive=handle, path="/target")
    ref.tell("first")
    ref.tell("second")
    system.run()
    assert done == ["first"]
    assert not ref.is_alive()


def test_who_gets_the_error_of_an_ask_finds_the_actor_dead(system: ManualSystem) -> None:
    ref, _ = system.recorder("/target")
    answer = ref.ask(ValueError("crash"), block=False)
    alive: list[bool] = []
    answer.add_done_callback(lambda _: alive.append(ref.is_alive()))
    system.run()
    assert alive == [False]
    with pytest.raises(ValueError, match="crash"):
        answer.get()


def test_the_backlog_of_a_failed_actor_is_answered_and_buried(system: ManualSystem) -> None:
    ref, _ = system.recorder("/target")
    ref.tell(ValueError("crash"))
    ref.tell("buried")
    answer = ref.ask("answered", block=False)
    system.run()
    with pytest.raises(ActorDeadError):
        answer.get()
    assert [letter.reason for letter in system.dead_letters.recent()] == [
        DeadLetterReason.STOPPED_BEHIND
    ]


def test_messages_told_before_a_failed_start_are_buried(system: ManualSystem) -> None:
    def refuse_to_start(actor: Doing) -> None:
        raise ValueError("no")

    ref = system.spawn(Doing, on_start=refuse_to_start, path="/target")
    ref.tell("too early")
    answer = ref.ask("too early", block=False)
    system.run()
    with pytest.raises(ActorDeadError):
        answer.get()
    assert len(system.dead_letters) == 1


def test_on_failure_that_raises_as_well_hurts_nobody(system: ManualSystem) -> None:
    def fail_again(actor: Doing) -> None:
        raise SystemExit("again")

    def crash(actor: Doing, message: Any) -> None:
        raise ValueError("first")

    boss_ref, boss = system.recorder("/boss")
    ref = system.spawn(
        Doing, on_receive=crash, on_failure=fail_again, path="/child", supervisor=boss_ref
    )
    ref.tell("go")
    system.run()
    assert [str(told.error) for told in boss.seen] == ["first"]


class Unspeakable(Exception):
    """Its text cannot be asked for."""

    def __str__(self) -> str:
        raise SystemExit(self.args[0])


def test_an_error_whose_text_cannot_be_told_is_an_error_like_any_other(
    system: ManualSystem,
) -> None:
    boss_ref, boss = system.recorder("/boss")
    _, watcher = system.recorder("/watcher")
    ref, child = system.recorder("/child", supervisor=boss_ref)
    watcher.watch(ref)
    error = Unspeakable(3)
    answer = ref.ask(error, block=False)
    system.run()
    with pytest.raises(Unspeakable):
        answer.get()
    assert child.hooks == ["start", "failure Unspeakable"]
    assert [told.error for told in boss.seen] == [error]
    assert watcher.seen == [Down("/child", 1, ExitReason.FAILED)]
    (failed,) = system.events_of(ActorFailed)
    assert failed.error == "Unspeakable: (its text is unavailable)"


def test_a_log_that_fails_keeps_nobody_from_hearing_of_an_end(
    system: ManualSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            raise RecursionError

    monkeypatch.setattr(logging.getLogger("exai_actors.runtime"), "handlers", [Broken()])
    boss_ref, boss = system.recorder("/boss")
    ref, child = system.recorder("/child", supervisor=boss_ref)
    ref.tell(ValueError("crash"))
    system.run()
    assert child.hooks == ["start", "failure ValueError"]
    assert [type(told) for told in boss.seen] == [Exit]


def test_on_stop_is_not_called_after_a_failure(system: ManualSystem) -> None:
    ref, actor = system.recorder("/target")
    ref.tell_system(ValueError("crash"))
    ref.stop(block=False)
    system.run()
    assert actor.hooks == ["start", "failure ValueError"]


def test_ctrl_c_in_the_main_thread_ends_the_actor_and_reaches_the_loop(
    system: ManualSystem,
) -> None:
    boss_ref, boss = system.recorder("/boss")
    ref, _ = system.recorder("/child", supervisor=boss_ref)
    other, other_actor = system.recorder("/other")
    ref.tell(KeyboardInterrupt())
    other.tell("still handled")
    with pytest.raises(KeyboardInterrupt):
        system.run()
    system.run()
    assert not ref.is_alive()
    assert [type(told) for told in boss.seen] == [Exit]
    assert other_actor.seen == ["still handled"]


def test_a_supervisor_can_be_named_by_its_path(system: ManualSystem) -> None:
    stable = PathRef(system, "/boss")
    ref, _ = system.recorder("/child", supervisor=stable)
    _, boss = system.recorder("/boss")
    ref.stop(block=False)
    system.run()
    assert [type(told) for told in boss.seen] == [Exit]


def test_an_exit_nobody_can_receive_is_a_dead_letter(system: ManualSystem) -> None:
    boss_ref, _ = system.recorder("/boss")
    ref, _ = system.recorder("/child", supervisor=boss_ref)
    boss_ref.stop(block=False)
    system.run()
    ref.stop(block=False)
    system.run()
    assert [letter.message_type for letter in system.dead_letters.recent()] == ["Exit"]


def test_a_supervisor_may_start_the_next_incarnation_while_it_handles_the_exit(
    system: ManualSystem,
) -> None:
    started: list[int] = []

    class Boss(LoopActor):
        def on_start(self) -> None:
            self._start_child()

        def on_receive(self, message: Any) -> None:
            assert isinstance(message, Exit)
            if message.incarnation < 3:
                self._start_child()

        def _start_child(self) -> None:
            child = self.system.spawn(Recorder, path="/child", supervisor=self.actor_ref)
            started.append(child.incarnation)
            child.tell(ValueError("crash"))

    system.spawn(Boss, path="/boss")
    system.run()
    assert started == [1, 2, 3]
    assert [event.incarnation for event in system.events_of(ActorFailed)] == [1, 2, 3]


def test_an_error_in_the_constructor_goes_to_the_caller_and_frees_the_path(
    system: ManualSystem,
) -> None:
    seen: list[Any] = []

    class Broken(Recorder):
        def __init__(self) -> None:
            super().__init__()
            watcher.tell(lambda ref=self.actor_ref: actor.watch(ref))
            system.run()
            raise ValueError("constructor")

    watcher, actor = system.recorder("/watcher")
    with pytest.raises(ValueError, match="constructor"):
        system.spawn(Broken, path="/target")
    system.run()
    assert system.paths() == ["/watcher"]
    seen = [message for message in actor.seen if isinstance(message, Down)]
    assert [down.reason for down in seen] == [ExitReason.START_FAILED]
    system.recorder("/target")


def test_events_tell_the_story_of_an_actor(system: ManualSystem) -> None:
    ref, _ = system.recorder("/target")
    ref.tell(ValueError("crash\nand a second line"))
    system.run()
    again, _ = system.recorder("/target")
    again.stop(block=False)
    system.run()
    story = [
        event for event in system.told_events if isinstance(event, ActorStarted | ActorFailed)
    ] + system.events_of(ActorStopped)
    assert [(type(event).__name__, event.incarnation) for event in story] == [
        ("ActorStarted", 1),
        ("ActorFailed", 1),
        ("ActorStarted", 2),
        ("ActorStopped", 2),
    ]
    failed = system.events_of(ActorFailed)[0]
    assert failed.reason is ExitReason.FAILED
    assert failed.message_type == "ValueError"
    assert failed.error == "ValueError: crash and a second line"


def test_an_async_handler_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match=r"Waiting\.on_receive must not be async"):

        class Waiting(LoopActor):
            async def on_receive(self, message: Any) -> None:
                """Never runs."""


def test_an_unexpected_message_is_logged_without_its_content(
    system: ManualSystem, caplog: pytest.LogCaptureFixture
) -> None:
    ref = system.spawn(LoopActor, path="/silent")
    with caplog.at_level(logging.WARNING):
        ref.tell("a secret")
        system.run()
    assert "does not expect str" in caplog.text
    assert "secret" not in caplog.text
    assert not system.events_of(DeadLetter)
