"""Messages an actor schedules for itself, on a clock that moves when told to."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from exai_actors.runtime import ManualDriver
from exai_actors.runtime.driver import Callback
from exai_actors.runtime.manual import ManualTimer
from tests.runtime.probes import ManualSystem


def collecting(due: list[Callback]) -> Callable[[float, Callback], ManualTimer]:
    """A ``call_later`` whose timers a test fires by hand."""

    def call_later(delay_s: float, callback: Callback) -> ManualTimer:
        due.append(callback)
        return ManualTimer(delay_s, callback)

    return call_later


def test_a_scheduled_message_comes_when_it_is_due(system: ManualSystem) -> None:
    _, actor = system.recorder("/target")
    actor.schedule(2.0, "later")
    actor.schedule(1.0, "sooner")
    system.manual.advance(0.999)
    assert actor.seen == []
    system.manual.advance(0.001)
    assert actor.seen == ["sooner"]
    system.manual.advance(10.0)
    assert actor.seen == ["sooner", "later"]


def test_once_due_it_comes_before_what_was_told(
    system: ManualSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    due: list[Callback] = []
    monkeypatch.setattr(system.manual, "call_later", collecting(due))
    ref, actor = system.recorder("/target")
    actor.schedule(1.0, "deadline")
    ref.tell("told")
    due[0]()
    system.run()
    assert actor.seen == ["deadline", "told"]


def test_a_cancelled_message_never_comes(system: ManualSystem) -> None:
    _, actor = system.recorder("/target")
    timer = actor.schedule(1.0, "never")
    timer.cancel()
    timer.cancel()
    system.manual.advance(2.0)
    assert actor.seen == []


def test_cancelling_works_even_after_the_timer_fired(
    system: ManualSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    due: list[Callback] = []
    monkeypatch.setattr(system.manual, "call_later", collecting(due))
    _, actor = system.recorder("/target")
    timer = actor.schedule(1.0, "never")
    due[0]()
    timer.cancel()
    system.run()
    assert actor.seen == []


def test_what_is_scheduled_ends_with_the_actor_and_leaves_no_dead_letter(
    system: ManualSystem,
) -> None:
    ref, actor = system.recorder("/target")
    actor.schedule(1.0, "never")
    actor.schedule(2.0, "never")
    ref.stop(block=False)
    system.run()
    assert system.manual.next_timer() is None
    system.manual.advance(5.0)
    assert len(system.dead_letters) == 0


def test_an_error_in_a_scheduled_message_names_that_message(system: ManualSystem) -> None:
    boss_ref, boss = system.recorder("/boss")
    _, actor = system.recorder("/target", supervisor=boss_ref)
    actor.schedule(1.0, ValueError("due"))
    system.manual.advance(1.0)
    assert [told.message_type for told in boss.seen] == ["ValueError"]


def test_manual_timers_run_in_the_order_of_their_times_and_of_their_making() -> None:
    driver = ManualDriver(start=100.0)
    ran: list[tuple[str, float]] = []

    def note(name: str) -> None:
        ran.append((name, driver.now()))

    driver.call_later(2.0, lambda: note("b"))
    driver.call_later(1.0, lambda: note("a"))
    driver.call_later(2.0, lambda: note("c"))
    driver.call_later(1.0, lambda: driver.call_later(0.5, lambda: note("between")))
    driver.advance(3.0)
    assert ran == [("a", 101.0), ("between", 101.5), ("b", 102.0), ("c", 102.0)]
    assert driver.now() == 103.0


def test_manual_time_only_goes_forward() -> None:
    with pytest.raises(ValueError, match="only goes forward"):
        ManualDriver().advance(-1.0)


def test_a_manual_driver_reports_callbacks_that_never_end() -> None:
    driver = ManualDriver()

    def again() -> None:
        driver.call_soon(again)

    again()
    with pytest.raises(RuntimeError, match="not idle after 100 callbacks"):
        driver.run_until_idle(limit=100)


def test_a_manual_driver_does_not_run_itself_from_within() -> None:
    driver = ManualDriver()
    driver.call_soon(driver.run_until_idle)
    with pytest.raises(RuntimeError, match="called by a callback"):
        driver.run_until_idle()
