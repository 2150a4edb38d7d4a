"""Messages on their way from a socket to its actor: in order, none lost, bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from exai_actors.edges.websocket.read_gate import Pause, ReadGate
from exai_actors.messages.connection import (
    BinaryReceived,
    ReadHandled,
    SocketEvent,
    TextReceived,
)
from exai_actors.messages.recipient import Recipient

Received = TextReceived | BinaryReceived | ReadHandled

_FIRST_RETRY_S = 0.001
_MAX_RETRY_S = 0.1


class InboundQueue:
    """Offers received messages to an actor; while its mailbox is full, the socket is not read.

    The messages of the last read wait here meanwhile. They are offered again after the next turn
    and then at growing intervals, since an actor may stay full for seconds while it restarts.
    ``on_closed`` is called once if the actor has ended.
    """

    __slots__ = (
        "_actor",
        "_gate",
        "_loop",
        "_on_closed",
        "_retry",
        "_retry_s",
        "_waiting",
    )

    def __init__(
        self,
        actor: Recipient[SocketEvent],
        gate: ReadGate,
        loop: asyncio.AbstractEventLoop,
        on_closed: Callable[[], None],
    ) -> None:
        self._actor = actor
        self._gate = gate
        self._loop = loop
        self._on_closed = on_closed
        # Made when it is needed: a deque takes as much memory as the rest of an idle connection's
        # edge, and most never need one.
        self._waiting: deque[Received] | None = None
        self._retry: asyncio.Handle | None = None
        self._retry_s = _FIRST_RETRY_S

    def waiting_bytes(self) -> int:
        """The size of the messages that the actor had no room for."""
        waiting = self._waiting or ()
        return sum(len(each.data) for each in waiting if isinstance(each, TextReceived))

    def put(self, message: Received) -> None:
        if self._waiting is not None:
            self._waiting.append(message)
            return
        match self._actor.offer(message):
            case "accepted":
                return
            case "full":
                self._waiting = deque((message,))
                self._gate.pause(Pause.ACTOR_FULL)
                self._retry = self._loop.call_soon(self._offer_waiting)
            case "closed":
                self._on_closed()

    def stop(self) -> None:
        """Discard the waiting messages: the client is gone."""
        self._waiting = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _offer_waiting(self) -> None:
        self._retry = None
        while self._waiting:
            match self._actor.offer(self._waiting[0]):
                case "accepted":
                    self._waiting.popleft()
                    self._retry_s = _FIRST_RETRY_S
                case "full":
                    self._retry = self._loop.call_later(self._retry_s, self._offer_waiting)
                    self._retry_s = min(2 * self._retry_s, _MAX_RETRY_S)
                    return
                case "closed":
                    self.stop()
                    self._on_closed()
                    return
        self._waiting = None
        self._gate.resume(Pause.ACTOR_FULL)
