"""How an incarnation starts and ends, and who hears of it.

One failure rule: whatever ``on_start``, a handler or ``on_stop`` raises, asked or told, ends this
incarnation and no other, and reaches the supervisor as exactly one Exit. A normal end does too.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from exai_actors.errors import safe_str
from exai_actors.runtime import registry
from exai_actors.runtime.events import ActorFailed, ActorStarted, ActorStopped, Event
from exai_actors.runtime.mailbox import FAILED, RUNNING, STOPPED, STOPPING, Mailbox
from exai_actors.runtime.ref import LoopRef, PathRef
from exai_actors.runtime.signals import Down, Exit, ExitReason
from exai_actors.runtime.timers import DownNotice

if TYPE_CHECKING:
    from exai_actors.runtime.actor import LoopActor

logger = logging.getLogger("exai_actors.runtime")

_ERROR_TEXT_LIMIT = 500

Watchable = LoopRef[Any] | PathRef


def start(mailbox: Mailbox) -> None:
    """Run ``on_start`` in the actor's own turn, before its first message."""
    mailbox.state = RUNNING
    system = mailbox.system
    system.events.publish(
        ActorStarted(
            system.driver.now(),
            mailbox.path,
            mailbox.incarnation,
            mailbox.ref.actor_class.__name__,
        )
    )
    try:
        mailbox.actor.on_start()
    except BaseException as error:  # noqa: BLE001 - one failure rule, whatever was raised
        fail(mailbox, error, ExitReason.START_FAILED, None)


def stop(mailbox: Mailbox) -> None:
    """End normally: ``on_stop``, then everybody is told."""
    if mailbox.state >= STOPPING:
        return
    _refuse_messages(mailbox)
    try:
        mailbox.actor.on_stop()
    except BaseException as error:  # noqa: BLE001 - one failure rule, whatever was raised
        _call_on_failure(mailbox.actor, error)
        _finish(mailbox, ExitReason.STOP_FAILED, error, None)
    else:
        _finish(mailbox, ExitReason.NORMAL, None, None)


def fail(
    mailbox: Mailbox, error: BaseException, reason: ExitReason, message_type: str | None
) -> None:
    """End with an error: ``on_failure`` once, then everybody is told."""
    if mailbox.state >= STOPPING:
        _log(error, "%s raised after it had ended", mailbox.ref)
        return
    _refuse_messages(mailbox)
    _call_on_failure(mailbox.actor, error)
    _finish(mailbox, reason, error, message_type)


def abandon(mailbox: Mailbox) -> None:
    """End an actor whose loop is closed: no hook can run, but nobody is left waiting."""
    if mailbox.state >= STOPPED:
        return
    _refuse_messages(mailbox)
    _finish(mailbox, ExitReason.ABANDONED, None, None)


def discard(mailbox: Mailbox) -> None:
    """End an actor that could not be made or started: only those who watch it are told."""
    _refuse_messages(mailbox)
    _close(mailbox, ExitReason.START_FAILED)
    _tell_watchers(mailbox, ExitReason.START_FAILED)


def watch(watcher: Mailbox, watched: Watchable, tag: object) -> None:
    """Have one DownNotice put in the watcher's system lane when the watched has ended."""
    if not isinstance(watched, PathRef | LoopRef):
        raise TypeError(f"only actors of an actor system can be watched, not {watched!r}")
    ref = watched.resolve() if isinstance(watched, PathRef) else watched
    target = None if ref is None else ref._mailbox
    if target is not None and target.system is not watcher.system:
        raise ValueError(f"{watched} belongs to another actor system")
    if watcher.watching is None:
        watcher.watching = {}
    watcher.watching[target or watched.path] = tag
    if target is None:
        watcher.offer_system(DownNotice(watched.path, ExitReason.NOT_FOUND))
    elif target.exit_reason is not None:
        watcher.offer_system(DownNotice(target, target.exit_reason))
    else:
        if target.watchers is None:
            target.watchers = set()
        target.watchers.add(watcher)


def unwatch(watcher: Mailbox, watched: Watchable) -> None:
    """End the watch of an incarnation, or of all incarnations watched at a path."""
    watching = watcher.watching or {}
    if isinstance(watched, PathRef):
        path = watched.path
        for key in [key for key in watching if (key if isinstance(key, str) else key.path) == path]:
            _forget_watch(watcher, key)
    elif watched._mailbox in watching:
        _forget_watch(watcher, watched._mailbox)


def accept_notice(watcher: Mailbox, notice: DownNotice) -> Down | None:
    """Turn a notice into what the watcher is told, unless it does not watch (any more)."""
    target = notice.target
    if not watcher.watching or target not in watcher.watching:
        return None
    tag = _forget_watch(watcher, target)
    if isinstance(target, str):
        return Down(target, 0, notice.reason, tag)
    return Down(target.path, target.incarnation, notice.reason, tag)


def _forget_watch(watcher: Mailbox, target: Mailbox | str) -> object:
    if not isinstance(target, str) and target.watchers is not None:
        target.watchers.discard(watcher)
    return None if watcher.watching is None else watcher.watching.pop(target, None)


def _refuse_messages(mailbox: Mailbox) -> None:
    mailbox.state = STOPPING
    mailbox.close()
    mailbox.stopped.set()
    registry.leave(mailbox.ref)


def _call_on_failure(actor: LoopActor, error: BaseException) -> None:
    _log(error, "%s failed", actor.actor_ref)
    if isinstance(error, KeyboardInterrupt) and _in_main_thread():
        actor.system.scheduler.interrupt = error
    try:
        actor.on_failure(type(error), error, error.__traceback__)
    except BaseException as second:  # noqa: BLE001 - one failure rule, whatever was raised
        _log(second, "on_failure of %s raised as well", actor.actor_ref)


def _log(error: BaseException, text: str, ref: LoopRef[Any]) -> None:
    # Who is to be told of the end must not hang on a handler of the log, nor on what an error
    # does when its text is asked for.
    with suppress(BaseException):
        logger.error(text, ref, exc_info=error)


def _finish(
    mailbox: Mailbox, reason: ExitReason, error: BaseException | None, message_type: str | None
) -> None:
    system = mailbox.system
    if error is not None:
        mailbox.failed += 1
    _close(mailbox, reason)
    event: Event
    if error is None:
        event = ActorStopped(system.driver.now(), mailbox.path, mailbox.incarnation, reason)
    else:
        event = ActorFailed(
            system.driver.now(),
            mailbox.path,
            mailbox.incarnation,
            reason,
            _one_line(error),
            message_type,
        )
    system.events.publish(event)
    if mailbox.supervisor is not None:
        mailbox.supervisor.tell_system(
            Exit(mailbox.path, mailbox.incarnation, reason, error, message_type)
        )
    _tell_watchers(mailbox, reason)


def _close(mailbox: Mailbox, reason: ExitReason) -> None:
    mailbox.state = STOPPED if reason is ExitReason.NORMAL else FAILED
    mailbox.exit_reason = reason
    for timer in list(mailbox.timers or ()):
        timer.cancel()
    for target in list(mailbox.watching or ()):
        _forget_watch(mailbox, target)
    # A reference may keep the mailbox for long.
    mailbox.timers = mailbox.watching = None
    mailbox.system.forget(mailbox)
    mailbox.answer_rest()
    del mailbox.actor, mailbox.receive


def _tell_watchers(mailbox: Mailbox, reason: ExitReason) -> None:
    watchers, mailbox.watchers = mailbox.watchers, None
    for watcher in watchers or ():
        watcher.offer_system(DownNotice(mailbox, reason))


def _one_line(error: BaseException) -> str:
    text = f"{type(error).__name__}: {' '.join(safe_str(error).split())}"
    return text if len(text) <= _ERROR_TEXT_LIMIT else f"{text[: _ERROR_TEXT_LIMIT - 1]}…"


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
