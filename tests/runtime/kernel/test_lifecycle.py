"""Every error ends one incarnation, calls on_failure once and sends one Exit."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from exai_actors.runtime.kernel.cell import ActorCell
from exai_actors.runtime.kernel.events import (
    ActorFailed,
    ActorStarted,
    ActorStopped,
    DeadLetterReason,
)
from exai_actors.runtime.kernel.path_ref import PathRef
from exai_actors.runtime.kernel.requests import request_stop
from exai_actors.runtime.kernel.signals import Down, Exit, ExitReason, Started
from tests.runtime.kernel.probes import Doing, ManualSystem, Recorder, ask


def raising(error: BaseException) -> Callable[..., object]:
    def hook(*_: object) -> None:
        raise error

    return hook


def exits(supervisor: Recorder) -> list[tuple[str, ExitReason, BaseException | None]]:
    assert all(isinstance(message, Exit) for message in supervisor.seen)
    return [(exit_.path, exit_.reason, exit_.error) for exit_ in supervisor.seen]


def test_a_normal_stop_sends_one_exit(system: ManualSystem) -> None:
    boss = system.recorder("/boss")
    child = system.recorder("/child", supervisor=boss.ref)
    request_stop(child.cell)
    request_stop(child.cell)
    system.run()
    assert exits(boss) == [("/child", ExitReason.NORMAL, None)]
    assert child.hooks == ["start", "stop"]
    assert child.ref.path in repr(child.ref)


def test_an_exit_goes_before_other_messages_to_the_supervisor(system: ManualSystem) -> None:
    boss = system.recorder("/boss")
    child = system.recorder("/child", supervisor=boss.ref)
    for _ in range(3):
        child.ref.tell("grow the quota")
    system.run()
    child.ref.tell(lambda: boss.ref.tell("told"))
    child.ref.tell(ValueError("crash"))
    system.run()
    assert [type(message) for message in boss.seen] == [Exit, str]


def test_the_reader_of_a_requests_error_finds_the_actor_ended(system: ManualSystem) -> None:
    actor = system.recorder("/a")
    error = ValueError("crash")
    answer = ask(actor.ref, error)
    alive: list[bool] = []
    answer.when_settled = lambda: alive.append(actor.ref.is_alive())
    system.run()
    assert (answer.kind, answer.content, alive) == ("error", error, [False])
    assert actor.failure == (ValueError, error, error.__traceback__)
    assert error.__traceback__ is not None


def test_the_backlog_of_a_failed_actor_is_answered_or_a_dead_letter(system: ManualSystem) -> None:
    actor = system.recorder("/a")
    actor.ref.tell(ValueError("crash"))
    actor.ref.tell("behind")
    answer = ask(actor.ref, "behind")
    system.run()
    assert answer.kind == "dead"
    assert [letter.reason for letter in system.dead_letters.recent()] == [
        DeadLetterReason.STOPPED_BEHIND
    ]


@pytest.mark.parametrize(
    ("hook", "reason"),
    [("do_start", ExitReason.START_FAILED), ("do_stop", ExitReason.STOP_FAILED)],
)
def test_a_hook_that_raises_ends_the_actor_as_any_error_does(
    system: ManualSystem, hook: str, reason: ExitReason
) -> None:
    boss = system.recorder("/boss")
    failures: list[str] = []
    error = ValueError("no")
    hooks = {hook: raising(error), "do_failure": lambda: failures.append("failure")}
    child = system.spawn(Doing, "/child", supervisor=boss.ref, hooks=hooks)
    child.ref.tell("too early" if hook == "do_start" else "handled")
    system.run()
    system.stop(child.ref)
    assert exits(boss) == [("/child", reason, error)]
    assert failures == ["failure"]
    assert len(system.dead_letters) == (1 if hook == "do_start" else 0)


def test_on_failure_that_raises_as_well_changes_nothing(
    system: ManualSystem, caplog: pytest.LogCaptureFixture
) -> None:
    boss = system.recorder("/boss")
    error = ValueError("first")
    child = system.spawn(
        Doing,
        "/child",
        supervisor=boss.ref,
        do_receive=raising(error),
        do_failure=raising(SystemExit("second")),
    )
    child.ref.tell("go")
    system.run()
    assert exits(boss) == [("/child", ExitReason.FAILED, error)]
    assert [record.message for record in caplog.records] == [
        "actor.failed",
        "actor.on_failure_raised",
    ]
    assert all(record.actor == "Doing /child (incarnation 1)" for record in caplog.records)  # type: ignore[attr-defined]


def test_an_error_after_the_end_of_the_actor_is_only_logged(
    system: ManualSystem, caplog: pytest.LogCaptureFixture
) -> None:
    boss = system.recorder("/boss")
    child = system.recorder("/child", supervisor=boss.ref)

    def end_and_raise() -> None:
        from exai_actors.runtime.kernel import lifecycle

        lifecycle.stop(child.cell)
        lifecycle.stop(child.cell)
        raise ValueError("too late")

    child.ref.tell(end_and_raise)
    system.run()
    assert exits(boss) == [("/child", ExitReason.NORMAL, None)]
    assert [record.message for record in caplog.records] == ["actor.raised_after_end"]


def test_an_error_whose_text_raises_is_an_error_like_any_other(system: ManualSystem) -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise SystemExit(3)

    boss, watcher = system.recorder("/boss"), system.recorder("/watcher")
    child = system.recorder("/child", supervisor=boss.ref)
    watcher.watch(child.ref)
    error = Unspeakable()
    answer = ask(child.ref, error)
    system.run()
    assert answer.content is error
    assert child.hooks == ["start", "failure Unspeakable"]
    assert exits(boss) == [("/child", ExitReason.FAILED, error)]
    assert watcher.seen == [Down("/child", 1, ExitReason.FAILED, None)]
    (failed,) = system.events_of(ActorFailed)
    assert failed.error.startswith("Unspeakable at ")


def test_a_log_that_raises_does_not_keep_the_exit_from_the_supervisor(
    system: ManualSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            raise RecursionError

    monkeypatch.setattr(logging.getLogger("exai_actors.runtime"), "handlers", [Broken()])
    boss = system.recorder("/boss")
    child = system.recorder("/child", supervisor=boss.ref)
    error = ValueError("crash")
    child.ref.tell(error)
    system.run()
    assert child.hooks == ["start", "failure ValueError"]
    assert exits(boss) == [("/child", ExitReason.FAILED, error)]


def test_on_stop_is_not_called_after_a_failure(system: ManualSystem) -> None:
    actor = system.recorder("/a")
    actor.ref.tell_system(ValueError("crash"))
    request_stop(actor.cell)
    system.run()
    assert actor.hooks == ["start", "failure ValueError"]


def test_ctrl_c_in_the_main_thread_ends_the_actor_and_reaches_the_loop(
    system: ManualSystem,
) -> None:
    boss = system.recorder("/boss")
    child = system.recorder("/child", supervisor=boss.ref)
    interrupt = KeyboardInterrupt()
    child.ref.tell(interrupt)
    with pytest.raises(KeyboardInterrupt):
        system.run()
    system.run()
    assert exits(boss) == [("/child", ExitReason.FAILED, interrupt)]


def test_a_supervisor_can_be_named_by_its_path(system: ManualSystem) -> None:
    child = system.recorder("/child", supervisor=PathRef(system, "/boss"))
    other = system.recorder("/other", supervisor=PathRef(system, "/gone"))
    boss = system.recorder("/boss")
    system.stop(child.ref)
    system.stop(other.ref)
    assert exits(boss) == [("/child", ExitReason.NORMAL, None)]
    *started, letter = system.dead_letters.recent()
    assert [each.message_type for each in started] == ["Started", "Started"]
    assert (letter.path, letter.message_type) == ("/gone", "Exit")


def test_an_exit_to_a_supervisor_that_has_ended_is_a_dead_letter(system: ManualSystem) -> None:
    boss = system.recorder("/boss")
    child = system.recorder("/child", supervisor=boss.ref)
    system.stop(boss.ref)
    system.stop(child.ref)
    assert [letter.message_type for letter in system.dead_letters.recent()] == ["Exit"]


def test_a_supervisor_may_start_the_next_incarnation_while_it_handles_the_exit(
    system: ManualSystem,
) -> None:
    started: list[int] = []

    class Boss(Recorder):
        def on_start(self) -> None:
            self._start_child()

        def on_receive(self, message: Started | Exit, /) -> None:
            if isinstance(message, Exit) and message.incarnation < 3:
                self._start_child()

        def _start_child(self) -> None:
            child = system.spawn(Recorder, "/child", supervisor=self.ref)
            started.append(child.ref.incarnation)
            child.ref.tell(ValueError("crash"))

    system.spawn(Boss, "/boss")
    system.run()
    assert started == [1, 2, 3]
    assert [event.incarnation for event in system.events_of(ActorFailed)] == [1, 2, 3]


def test_an_error_in_the_constructor_frees_the_path_and_reaches_the_caller_and_watchers(
    system: ManualSystem,
) -> None:
    watcher = system.recorder("/watcher")

    class Broken(Recorder):
        def __init__(self, cell: ActorCell) -> None:
            super().__init__(cell)
            self.schedule(1.0, "never")
            watcher.watch(self.ref)
            raise ValueError("constructor")

    with pytest.raises(ValueError, match="constructor"):
        system.spawn(Broken, "/child")
    assert system.manual.next_timer() is None
    system.run()
    assert watcher.seen == [Down("/child", 1, ExitReason.START_FAILED, None)]
    assert system.paths() == ["/watcher"]
    system.recorder("/child")


def test_an_ended_actor_is_not_kept_in_memory(system: ManualSystem) -> None:
    actor = system.recorder("/a")
    actor.schedule(1.0, "never")
    actor.watch(system.recorder("/b").ref)
    cell = actor.cell
    system.stop(actor.ref)
    for kept in ("behaviour", "receive"):
        assert not hasattr(cell, kept)
    assert (cell.timers, cell.watching, cell.watchers) == (None, None, None)


def test_events_tell_the_life_of_an_actor(system: ManualSystem) -> None:
    system.recorder("/a").ref.tell(ValueError("crash\nand a second line"))
    system.run()
    system.stop(system.recorder("/a").ref)
    first, failed, second, stopped = system.published
    assert isinstance(first, ActorStarted)
    assert (first.path, first.incarnation, first.actor_class) == ("/a", 1, "Recorder")
    assert isinstance(failed, ActorFailed)
    assert (failed.path, failed.incarnation) == ("/a", 1)
    assert (failed.reason, failed.message_type) == (ExitReason.FAILED, "ValueError")
    assert failed.error.startswith("ValueError at ")
    assert "crash" not in failed.error
    assert isinstance(second, ActorStarted)
    assert isinstance(stopped, ActorStopped)
    assert (stopped.incarnation, stopped.reason) == (2, ExitReason.NORMAL)
