"""Answering the asker of a message, if there is one."""

from __future__ import annotations

from typing import Any

from pykka._envelope import Envelope

from exai_actors.runtime.future import LoopFuture


def settle(envelope: Envelope[Any], value: Any) -> None:
    """Answer an ask; an answer that comes after the asker's timeout is dropped."""
    reply_to = envelope.reply_to
    if isinstance(reply_to, LoopFuture):
        reply_to.settle(value)
    elif reply_to is not None:
        reply_to.set(value)


def settle_error(envelope: Envelope[Any], error: BaseException) -> None:
    """Answer an ask with an error; dropped after the asker's timeout."""
    reply_to = envelope.reply_to
    if isinstance(reply_to, LoopFuture):
        reply_to.settle_error(error)
    elif reply_to is not None:
        reply_to.set_exception((error.__class__, error, error.__traceback__))
