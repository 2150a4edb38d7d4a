"""One MCP client over HTTP, with its connection to the broker."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from exai_actors.edges.mcp.exchange import HttpOut
from exai_actors.edges.websocket.server import OpenConnection
from exai_actors.messages.connection import SocketClosed, SocketEvent, TextReceived
from exai_actors.messages.recipient import Recipient
from exai_actors.ports import Clock, Peer
from exai_actors.wire.clients.close_reasons import CloseReason
from exai_actors.wire.mcp.broker_tools import (
    CAPABILITIES,
    INSTRUCTIONS,
    BrokerTools,
    unavailable,
)
from exai_actors.wire.mcp.http import refuse
from exai_actors.wire.mcp.link import BrokerLink
from exai_actors.wire.mcp.messages import Message, Response
from exai_actors.wire.mcp.server import Handler, McpServer

MAX_WAITING = 64
"""Requests of one client that wait until the broker has admitted it."""
GONE = "this broker is shutting down, or has ended the connection of this client; try again"


class Offer(msgspec.Struct, frozen=True):
    """The methods that clients get: those of the broker's tools, and those in ``handlers``."""

    handlers: dict[str, Handler]
    capabilities: dict[str, Any]
    on_response: Callable[[Response], None] = lambda _: None


OWN_OFFER = Offer({}, CAPABILITIES)


class McpClient:
    """Its requests go to a connection's actor, which answers as over a WebSocket.

    Until the broker has admitted the client, its messages wait. ``on_end`` is called when the
    broker has ended the connection, or does not admit the client.
    """

    def __init__(
        self,
        peer: Peer,
        token: str | None,
        open_connection: OpenConnection,
        clock: Clock,
        on_end: Callable[[], object],
        *,
        names_requests: bool,
        offer: Offer,
    ) -> None:
        self.token = token
        self.used_at = clock.now()
        self.stream: HttpOut | None = None
        """The stream for messages that belong to no request."""
        self._clock = clock
        self._on_end = on_end
        self.has_ended = False
        """The broker has ended the connection, perhaps while it was opened, or ``close`` has."""
        self._waiting: list[tuple[Message, HttpOut]] = []
        self._outs: dict[HttpOut, None] = {}
        link = self._link = BrokerLink(self, str(uuid.uuid4()), token)
        self._tools = BrokerTools(
            link, new_id=lambda: secrets.token_urlsafe(18), now=clock.now, wall=clock.wall
        )
        self._server = McpServer(
            {**self._tools.handlers, **offer.handlers},
            offer.capabilities,
            instructions=INSTRUCTIONS,
            names_requests=names_requests,
            on_response=offer.on_response,
        )
        link.on_ready = self._admitted
        link.on_refused = self._refused
        self._connection: Recipient[SocketEvent] = open_connection(peer, _Outbox(self))
        link.opened()

    @property
    def is_idle(self) -> bool:
        """Whether it has no request, task or stream."""
        return not (self._waiting or self._outs or self._tools.is_busy or self.stream)

    @property
    def is_admitted(self) -> bool:
        """Whether the broker has accepted its token."""
        return self._link.is_ready

    def receive(self, message: Message, out: HttpOut) -> None:
        self.used_at = self._clock.now()
        if self._link.is_ready:
            self._receive(message, out)
            return
        if len(self._waiting) >= MAX_WAITING:
            out.refuse(refuse(503, f"{MAX_WAITING} requests wait for this client's admission"))
            return
        waiting = (message, out)
        self._waiting.append(waiting)
        out.on_gone = lambda: self._waiting.remove(waiting)

    def listen(self, out: HttpOut) -> None:
        """Give it the stream for messages that belong to no request; an earlier one ends."""
        self.used_at = self._clock.now()
        earlier, self.stream = self.stream, out
        if earlier is not None:
            earlier.on_gone = None
            earlier.close()
        out.on_gone = self._stream_gone
        out.open_stream()

    def tick(self, now: float, keepalive_s: float) -> None:
        self._tools.tick()
        for out in (*self._outs, *([self.stream] if self.stream else ())):
            out.keep_alive(now, keepalive_s)

    def close(self) -> None:
        """End it with all its requests and tasks."""
        if not self.has_ended:
            self.has_ended = True
            self._server.cancel_all()
            self._tools.tasks.cancel_all()
            self._refuse_waiting(503, GONE)
            self._close_stream()
            self._connection.tell(SocketClosed(1000, "the MCP session ended"))
            self._on_end()

    # Called by the link.

    def send(self, frame: bytes) -> None:
        if self._connection.offer(TextReceived(frame)) != "accepted":
            self.lost(CloseReason.INTERNAL.code, "the connection takes no more messages")

    # Called by the outbox.

    def received(self, frame: bytes) -> None:
        self._link.received(frame)

    def lost(self, code: int, reason: str) -> None:
        """The broker has ended the connection."""
        if self.has_ended:
            return
        self.has_ended = True
        self._connection.tell(SocketClosed(code, reason))
        self._link.fail_all(unavailable(GONE))
        self._refuse_waiting(503, GONE)
        self._close_stream()
        self._on_end()

    # Internals.

    def _receive(self, message: Message, out: HttpOut) -> None:
        answer = self._server.receive(message, out)
        if answer is None:
            if not out.has_ended:
                out.accept()
        elif not answer.ended:
            self._outs[out] = None
            answer.on_end = lambda: self._outs.pop(out, None)
            out.on_gone = answer.cancel

    def _admitted(self) -> None:
        waiting, self._waiting = self._waiting, []
        for message, out in waiting:
            out.on_gone = None
            self._receive(message, out)

    def _refused(self, word: str, message: str) -> None:
        if word == "unauthorized":
            problem = "this broker requires a token: Authorization: Bearer TOKEN"
            self._refuse_waiting(401, problem, (("WWW-Authenticate", "Bearer"),))
        else:
            self._refuse_waiting(503, message or word, (("Retry-After", "5"),))

    def _refuse_waiting(
        self, status: int, problem: str, fields: tuple[tuple[str, str], ...] = ()
    ) -> None:
        waiting, self._waiting = self._waiting, []
        for message, out in waiting:
            out.on_gone = None
            out.refuse(refuse(status, problem, message), fields)

    def _stream_gone(self) -> None:
        self.stream = None

    def _close_stream(self) -> None:
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.on_gone = None
            stream.close()


class _Outbox:
    """The outbox of the connection's actor: its frames are handled instead of being written."""

    def __init__(self, client: McpClient) -> None:
        self._client = client
        self.held_back = 0

    @property
    def is_above_high_mark(self) -> bool:
        # The HTTP connections of its exchanges have marks of their own.
        return False

    def admit(self) -> None: ...

    def send(self, frame: bytes, /) -> None:
        self._client.received(frame)

    send_now = send

    def close(self, code: int, reason: str) -> None:
        self._client.lost(code, reason)

    def bytes_taken(self) -> int:
        return 0

    def read_on(self) -> None: ...

    def abort(self) -> None:
        self._client.lost(1006, "")
