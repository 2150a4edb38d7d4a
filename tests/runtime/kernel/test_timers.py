"""Messages that an actor schedules for itself, and the manual driver's clock."""

from __future__ import annotations

import pytest

from exai_actors.runtime.kernel.manual_driver import ManualDriver
from exai_actors.runtime.kernel.requests import request_stop
from exai_actors.runtime.kernel.signals import Exit
from exai_actors.runtime.kernel.timers import ScheduledMessage
from tests.runtime.kernel.probes import ManualSystem


def fire(timer: ScheduledMessage) -> None:
    """Let the timer fire now; the message still waits for its turn."""
    assert timer._handle is not None
    timer._handle.cancel()
    timer._fire()


def test_a_scheduled_message_comes_when_it_is_due(system: ManualSystem) -> None:
    actor = system.recorder("/a")
    actor.schedule(2.0, "later")
    actor.schedule(1.0, "sooner")
    system.manual.advance(0.999)
    assert actor.seen == []
    system.manual.advance(0.001)
    assert actor.seen == ["sooner"]
    system.manual.advance(10.0)
    assert actor.seen == ["sooner", "later"]
    assert not actor.cell.timers


def test_a_message_that_is_due_goes_before_the_user_lane(system: ManualSystem) -> None:
    actor = system.recorder("/a")
    timer = actor.schedule(1.0, "due")
    actor.ref.tell("told")
    fire(timer)
    system.run()
    assert actor.seen == ["due", "told"]


def test_a_cancelled_message_never_comes(system: ManualSystem) -> None:
    actor = system.recorder("/a")
    timer = actor.schedule(1.0, "never")
    timer.cancel()
    timer.cancel()
    assert not actor.cell.timers
    assert system.manual.next_timer() is None
    system.manual.advance(2.0)
    assert actor.seen == []


def test_a_message_can_be_cancelled_between_its_timer_and_its_turn(system: ManualSystem) -> None:
    actor = system.recorder("/a")
    timer = actor.schedule(1.0, "never")
    fire(timer)
    timer.cancel()
    system.manual.advance(2.0)
    assert actor.seen == []


def test_scheduled_messages_end_with_the_actor_and_leave_no_dead_letter(
    system: ManualSystem,
) -> None:
    actor = system.recorder("/a")
    actor.schedule(1.0, "never")
    fired = actor.schedule(2.0, "never")
    request_stop(actor.cell)
    fire(fired)
    system.run()
    assert system.manual.next_timer() is None
    assert actor.seen == []
    assert len(system.dead_letters) == 0


def test_an_error_in_a_scheduled_message_names_that_message(system: ManualSystem) -> None:
    boss = system.recorder("/boss")
    actor = system.recorder("/a", supervisor=boss.ref)
    actor.schedule(1.0, ValueError("due"))
    system.manual.advance(1.0)
    (exit_,) = boss.seen
    assert isinstance(exit_, Exit)
    assert exit_.message_type == "ValueError"


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
