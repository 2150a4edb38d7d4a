"""How an incarnation starts and ends.

One failure rule: whatever ``on_start``, a handler or ``on_stop`` raises ends this incarnation and
no other, and reaches the supervisor as exactly one Exit. So does a normal end. Before it comes one
Started, if ``on_start`` raised nothing.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

from exai_actors.runtime.kernel.cell import ENDED, RUNNING, STOPPING, ActorCell
from exai_actors.runtime.kernel.errors import place_of
from exai_actors.runtime.kernel.events import ActorFailed, ActorStarted, ActorStopped, Event
from exai_actors.runtime.kernel.signals import Exit, ExitReason, Started
from exai_actors.runtime.kernel.suspension import suspend
from exai_actors.runtime.kernel.watching import notify_watchers, unwatch_all

log = logging.getLogger("exai_actors.runtime")


# Notices of an end must not depend on the log, nor on an error whose text raises.
_whatever_the_log_does = suppress(BaseException)


def start(cell: ActorCell) -> None:
    """Run ``on_start`` in the actor's own turn, before its first message."""
    cell.state = RUNNING
    events = cell.host.events
    if cell.incarnation > 1 or events.wants_ordinary:
        events.publish(
            ActorStarted(
                cell.host.driver.now(), cell.path, cell.incarnation, cell.behaviour_class.__name__
            )
        )
    try:
        cell.behaviour.on_start()
        if cell.host.is_suspended(cell.path):
            suspend(cell)
    except BaseException as error:  # noqa: BLE001 - one failure rule, whatever was raised
        fail(cell, error, ExitReason.START_FAILED, None)
        return
    if cell.supervisor is not None:
        cell.supervisor.tell_system(Started(cell.path, cell.incarnation))


def stop(cell: ActorCell) -> None:
    """End normally: run ``on_stop``, then notify supervisor and watchers."""
    if cell.state >= STOPPING:
        return
    _close(cell)
    try:
        cell.behaviour.on_stop()
    except BaseException as error:  # noqa: BLE001 - one failure rule, whatever was raised
        _call_on_failure(cell, error)
        _end(cell, ExitReason.STOP_FAILED, error, None)
    else:
        _end(cell, ExitReason.NORMAL, None, None)


def fail(
    cell: ActorCell, error: BaseException, reason: ExitReason, message_type: str | None
) -> None:
    """End with an error: run ``on_failure`` once, then notify supervisor and watchers."""
    if cell.state >= STOPPING:
        with _whatever_the_log_does:
            log.error("actor.raised_after_end", extra={"actor": str(cell)}, exc_info=error)
        return
    _close(cell)
    _call_on_failure(cell, error)
    _end(cell, reason, error, message_type)


def abandon(cell: ActorCell) -> None:
    """End an actor without running a hook: its loop is closed, or it does not stop in time.

    All requests are answered.
    """
    if cell.state < ENDED:
        _close(cell)
        _end(cell, ExitReason.ABANDONED, None, None)


def discard(cell: ActorCell) -> None:
    """End an actor that could not be constructed or started: only its watchers are notified."""
    _close(cell)
    _release(cell, ExitReason.START_FAILED)
    notify_watchers(cell, ExitReason.START_FAILED)


def _close(cell: ActorCell) -> None:
    cell.close()
    cell.host.leaving(cell)


def _call_on_failure(cell: ActorCell, error: BaseException) -> None:
    with _whatever_the_log_does:
        log.error("actor.failed", extra={"actor": str(cell)}, exc_info=error)
    if isinstance(error, KeyboardInterrupt) and _in_main_thread():
        cell.scheduler.interrupt_after(error)
    try:
        cell.behaviour.on_failure(type(error), error, error.__traceback__)
    except BaseException as second:
        with _whatever_the_log_does:
            log.error("actor.on_failure_raised", extra={"actor": str(cell)}, exc_info=second)


def _end(
    cell: ActorCell, reason: ExitReason, error: BaseException | None, message_type: str | None
) -> None:
    path, incarnation, now = cell.path, cell.incarnation, cell.host.driver.now()
    events = cell.host.events
    event: Event | None = None
    if error is not None:
        cell.failed += 1
        event = ActorFailed(now, path, incarnation, reason, place_of(error), message_type)
    elif reason is not ExitReason.NORMAL or events.wants_ordinary:
        event = ActorStopped(now, path, incarnation, reason)
    _release(cell, reason)
    if event is not None:
        events.publish(event)
    if cell.supervisor is not None:
        cell.supervisor.tell_system(Exit(path, incarnation, reason, error, message_type))
    notify_watchers(cell, reason)


def _release(cell: ActorCell, reason: ExitReason) -> None:
    """Let go of everything the actor had; a reference may keep the cell for long."""
    cell.state = ENDED
    cell.exit_reason = reason
    for timer in list(cell.timers or ()):
        timer.cancel()
    cell.timers = None
    unwatch_all(cell)
    cell.host.forget(cell)
    cell.drain_closed()
    for attribute in ("behaviour", "receive", "ref"):
        with suppress(AttributeError):
            delattr(cell, attribute)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
