"""From a socket to its actor: in order, nothing lost, and not read faster than it is handled."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from exai_actors.messages.connection import BinaryReceived, ConnectionMessage, TextReceived
from exai_actors.messages.recipient import Offer, Recipient

# Looking a member up on its Enum costs as much as a handler's step.
_ACCEPTED = Offer.ACCEPTED

_FIRST_RETRY_S = 0.001
_LAST_RETRY_S = 0.1


class Intake:
    """Offers received messages to ``recipient``.

    While that is full the transport is not read, so at most one read's worth of messages waits
    here; they are offered again after the next turn, then at growing intervals (an actor that is
    being restarted may stay full for seconds). ``on_closed`` is called once if it is closed.
    """

    __slots__ = ("_loop", "_offer", "_on_closed", "_retry", "_retry_s", "_transport", "_waiting")

    def __init__(
        self,
        recipient: Recipient[ConnectionMessage],
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        on_closed: Callable[[], None],
    ) -> None:
        self._offer = recipient.offer
        self._transport = transport
        self._loop = loop
        self._on_closed = on_closed
        self._waiting: deque[TextReceived | BinaryReceived] | None = None
        self._retry: asyncio.Handle | None = None
        self._retry_s = _FIRST_RETRY_S

    @property
    def is_blocked(self) -> bool:
        """Whether the recipient is full and the socket therefore not read."""
        return self._waiting is not None

    def take(self, message: TextReceived | BinaryReceived) -> None:
        if self._waiting is not None:
            self._waiting.append(message)
            return
        offer = self._offer
        offered = offer(message)
        if offered is _ACCEPTED:
            return
        if offered is Offer.FULL:
            self._waiting = deque((message,))
            self._transport.pause_reading()
            self._retry = self._loop.call_soon(self._offer_again)
        elif offered is Offer.CLOSED:
            self._on_closed()

    def stop(self) -> None:
        """Forget what waits: its sender is gone."""
        self._waiting = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _offer_again(self) -> None:
        self._retry = None
        while self._waiting:
            offered = self._offer(self._waiting[0])
            if offered is Offer.FULL:
                self._retry = self._loop.call_later(self._retry_s, self._offer_again)
                self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)
                return
            if offered is Offer.CLOSED:
                self.stop()
                self._on_closed()
                return
            self._waiting.popleft()
            self._retry_s = _FIRST_RETRY_S
        self._waiting = None
        self._transport.resume_reading()
