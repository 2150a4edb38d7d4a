"""Delivering what is more than a plain message.

A plain message is put in the lane as it is and given to ``on_receive``. The few kinds that carry
something (an asker, a stop, a proxy's call, a timer, a watch) are told apart by their class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pykka._envelope import Envelope
from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop

from exai_actors.runtime import lifecycle
from exai_actors.runtime.envelopes import settle, settle_error
from exai_actors.runtime.events import message_type_of
from exai_actors.runtime.mailbox import Mailbox
from exai_actors.runtime.signals import ExitReason
from exai_actors.runtime.timers import DownNotice, ScheduledMessage

if TYPE_CHECKING:
    from exai_actors.runtime.actor import LoopActor

SPECIAL = frozenset(
    {ProxyCall, ProxyGetAttr, ProxySetAttr, Envelope, _ActorStop, ScheduledMessage, DownNotice}
)


def deliver(mailbox: Mailbox, actor: LoopActor, message: Any) -> None:
    """Handle what is more than a plain message; raises what a handler raises that nobody asked."""
    kind = message.__class__
    if kind is Envelope:
        if message.message.__class__ is _ActorStop:
            lifecycle.stop(mailbox)
            settle(message, True)
            return
        try:
            reply = actor._handle_receive(message.message)
        except BaseException as error:  # noqa: BLE001 - one failure rule, whatever was raised
            # First, so that who reads the error finds the actor dead and its supervisor told.
            lifecycle.fail(mailbox, error, ExitReason.FAILED, message_type_of(message))
            settle_error(message, error)
        else:
            settle(message, reply)
    elif kind is _ActorStop:
        lifecycle.stop(mailbox)
    elif kind is ScheduledMessage:
        if not message.cancelled:
            actor._handle_receive(message.message)
    elif kind is DownNotice:
        down = lifecycle.accept_notice(mailbox, message)
        if down is not None:
            actor.on_receive(down)
    else:
        actor._handle_receive(message)
