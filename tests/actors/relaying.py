"""Exchanges over HTTP without sockets: the test is the client, its edge, and the service."""

from __future__ import annotations

from itertools import count
from typing import Any

import orjson

from exai_actors.actors.http_exchange.actor import HttpExchangeActor
from exai_actors.actors.http_exchange.exchange import Owner, RelayedExchange
from exai_actors.core.calls import CallOptions, Completion, Usage
from exai_actors.core.families import Family
from exai_actors.core.relay import Fields, RelayPipe, RelayRequest
from exai_actors.ids import RequestKey, SessionId
from exai_actors.messages.connection import OutboxHigh, OutboxLow, SocketClosed
from exai_actors.messages.provider import UpstreamEnded
from exai_actors.ports import Kept, Peer
from exai_actors.runtime import LoopRef
from exai_actors.testing.manual_upstream import ManualCall
from exai_actors.testing.tree import ManualTree

STREAM = (("content-type", "text/event-stream"),)
JSON = (("content-type", "application/json"),)
DESK = Peer("127.0.0.1", user_agent="desk/1")
_numbers = count(1)


class Socket:
    """A client's connection, which stays open between requests."""

    def __init__(self) -> None:
        self.kept: Kept | None = None

    def close(self) -> None:
        kept, self.kept = self.kept, None
        if kept is not None:
            kept.left()


class ResponderProbe:
    """Implements ``ports.Responder``; keeps all that is sent, and how it ended."""

    def __init__(self, socket: Socket | None = None) -> None:
        self.socket = socket
        self.status = 0
        self.fields: dict[str, str] = {}
        self.body = b""
        self.ended = ""
        self.starts = 0
        self.closes = False

    def respond(self, status: int, fields: tuple[tuple[str, str], ...], body: bytes) -> None:
        self.begin(status, fields, len(body))
        self.write(body)
        self.end()

    def begin(
        self, status: int, fields: tuple[tuple[str, str], ...], length: int | None = None
    ) -> None:
        if not self.ended:
            self.starts += 1
            self.status = status
            self.fields = {name.lower(): value for name, value in fields}

    def close_after(self) -> None:
        assert not self.starts, "the head says so"
        self.closes = True

    def write(self, data: bytes) -> None:
        if not self.ended:
            assert self.starts == 1, "the head comes first, and once"
            self.body += data

    def end(self) -> None:
        self.ended = self.ended or "clean"

    def abort(self) -> None:
        self.ended = self.ended or "broken off"

    @property
    def kept(self) -> Kept | None:
        return None if self.socket is None else self.socket.kept

    def keep(self, kept: Kept) -> bool:
        if self.socket is not None:
            self.socket.kept = kept
        return self.socket is not None

    def forget(self, kept: Kept) -> None:
        if self.socket is not None and self.socket.kept is kept:
            self.socket.kept = None


class Exchange:
    """One request of a client."""

    def __init__(
        self,
        tree: ManualTree,
        body: bytes = b'{"model":"moon"}',
        *,
        family: Family = "chat",
        session: str = "one",
        stream: bool = True,
        model: str = "moon",
        token: str | None = None,
        key: str | None = None,
        kept_bytes: int = 1_000,
        agent: str = "",
        socket: Socket | None = None,
        peer: Peer = DESK,
        headers: Fields = (),
        **options: Any,
    ) -> None:
        self.tree = tree
        self.responder = ResponderProbe(socket)
        self.pipe = RelayPipe(kept_bytes)
        request = RelayRequest(
            family=family,
            path="chat/completions",
            body=body,
            headers=headers,
            model=model,
            pipe=self.pipe,
            stream=stream,
        )
        if key is not None:
            options["idempotency_key"] = RequestKey(key, "idempotency")
        exchange = RelayedExchange(
            request_id=f"req_{next(_numbers)}",
            owner=Owner(
                token,
                SessionId(f"00000000-0000-4000-8000-{abs(hash(session)) % 10**12:012d}"),
                agent,
            ),
            request=request,
            options=CallOptions(reports_progress=stream, **options),
        )
        self.ref: LoopRef[HttpExchangeActor] = tree.open_exchange(peer, exchange, self.responder)
        tree.settle()

    @property
    def error(self) -> dict[str, Any]:
        found = orjson.loads(self.responder.body)["error"]
        assert isinstance(found, dict)
        return found

    @property
    def outcome(self) -> tuple[int, bytes, str]:
        return self.responder.status, self.responder.body, self.responder.ended

    def leave(self) -> None:
        """Lose the client, unless its response has ended."""
        assert not self.responder.ended
        self.responder.ended = "left"
        self.ref.tell(SocketClosed(1006, ""))
        self.tree.settle()

    def falls_behind(self) -> None:
        self.ref.tell(OutboxHigh())
        self.tree.settle()

    def catches_up(self) -> None:
        self.ref.tell(OutboxLow())
        self.tree.settle()


def finish(call: ManualCall, *pieces: bytes, whole: bool = True) -> None:
    """Let the service answer with these pieces, or with the rest of them."""
    send(call, *pieces)
    if whole:
        call.relayed.sink.whole()
    call.ended = True
    completion = Completion("", "moon", "stop", Usage(1, 2))
    call.reply_to.tell(UpstreamEnded(call.permit, completion))


def begin(call: ManualCall, *pieces: bytes, stream: bool = True) -> None:
    """Let the service begin its answer."""
    call.relayed.sink.head(200, STREAM if stream else JSON, None)
    send(call, *pieces)


def send(call: ManualCall, *pieces: bytes) -> None:
    for piece in pieces:
        call.relayed.sink.data(piece)
