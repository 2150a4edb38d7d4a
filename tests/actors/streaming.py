"""Streams that flow while everything else happens: pieces arrive between any two handlers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from random import Random
from typing import Any

import orjson

from exai_actors.actors.connection.settings import ConnectionSettings
from exai_actors.actors.provider.call import Fan
from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.calls import FailureKind
from exai_actors.core.capacity.settings import CapacitySettings, CircuitSettings
from exai_actors.core.routing import RouteSettings
from exai_actors.core.session.pieces import Pieces
from exai_actors.messages.connection import OutboxHigh, OutboxLow, SocketClosed, TextReceived
from exai_actors.testing.manual_upstream import ManualCall
from exai_actors.testing.tree import ManualClient, ManualTree
from tests.leftovers import leftovers

ROUTE = RouteSettings(
    "any", ("kimi/moon", "glm/star"), ("overloaded", "server_error", "unreachable")
)
LIMIT = 3


class Reader:
    """One client, with all that it may expect of the frames that it gets."""

    def __init__(self, client: ManualClient) -> None:
        self.client = client
        self.asked: set[str] = set()
        self.answers: dict[str, str] = {}
        self.pieces: defaultdict[str, list[str]] = defaultdict(list)

    def read(self, frames: list[dict[str, Any]]) -> None:
        """Check that pieces have no gaps, and that nothing follows an outcome."""
        for frame in frames:
            match frame:
                case {"op": "stream_chunk", "request_id": name, "sequence": n, "chunk": text}:
                    self._piece(name, n, text)
                case {"params": {"progressToken": name, "_meta": {"sequence": n}, "message": text}}:
                    self._piece(name, n, text)
                case {"op": "stream_complete", "request_id": name, "chunks": n}:
                    assert len(self.pieces[name]) == n
                    assert name not in self.answers
                case {"op": "call_tool_res" | "error", "request_id": name}:
                    self._answer(name, None if frame.get("error") else frame["text"])
                case {"id": name, "result": {"isError": False, "content": [{"text": text}]}}:
                    self._answer(name, text)
                case {"id": name, "result": _} | {"id": name, "error": _}:
                    self._answer(name, None)

    def _piece(self, name: str, sequence: int, text: str) -> None:
        assert name in self.asked
        assert name not in self.answers, "a piece after the outcome"
        assert sequence == len(self.pieces[name]), "a gap"
        self.pieces[name].append(text)

    def _answer(self, name: str, text: str | None) -> None:
        assert name in self.asked
        assert name not in self.answers, "two outcomes"
        self.answers[name] = text or ""
        if text is not None and self.pieces[name]:
            assert "".join(self.pieces[name]) == text


class Streams:
    """A tree with clients and services; ``random`` decides the order in which actors run.

    Before each batch of an actor, ``between`` says how likely a call is to write its next piece.
    """

    def __init__(self, random: Random, *, between: float, coalesce: bool = False) -> None:
        self.random = random
        self.between = between
        self.tree = ManualTree(
            capacity=CapacitySettings(
                limit=LIMIT,
                queue=10,
                coalesce=coalesce,
                circuit=CircuitSettings(failures_in_a_row=1000, calls=1000),
            ),
            session=SessionSettings(window=4, queue=10),
            connection=ConnectionSettings(slow_consumer_s=1e9),
            routes=(ROUTE,),
            finish_on_disconnect=("glm",),
        )
        self.readers: dict[str, Reader] = {}
        self._written: defaultdict[int, str] = defaultdict(str)
        self._pieces = count()
        self.tree.system.scheduler.pick = self._pick

    @property
    def calls(self) -> list[ManualCall]:
        """All calls that were ever started."""
        return [call for each in self.tree.upstreams.values() for call in each.calls]

    @property
    def running(self) -> list[ManualCall]:
        return [call for call in self.calls if not call.ended]

    def _pick(self, ready: Sequence[object]) -> int:
        if self.running and self.random.random() < self.between:
            self.piece(self.random.choice(self.running))
        return self.random.randrange(len(ready))

    def reader(self, name: str) -> Reader:
        """The client of this name, connected if it is not; those of ``ann`` share a session."""
        if name not in self.readers:
            self.settle()
            self.tree.advance(1.0)
            self.readers[name] = Reader(self.tree.client(name.partition("'")[0]))
        return self.readers[name]

    def ask(self, who: str, name: str, *, rpc: bool = False, **more: Any) -> None:
        reader = self.reader(who)
        arguments = {"prompt": more.pop("prompt", name), "model": more.pop("model", "moon")}
        if rpc:
            params = {"name": "chat", "arguments": arguments, "stream": True}
            params["_meta"] = {"progressToken": name}
            frame: dict[str, Any] = {
                "jsonrpc": "2.0",
                "id": name,
                "method": "tools/call",
                "params": params,
            }
        else:
            frame = {"op": "call_tool", "request_id": name, "name": "chat", "stream": True}
            frame |= {"arguments": arguments} | more
        reader.asked.add(name)
        self.send(who, frame)

    def send(self, who: str, frame: dict[str, Any]) -> None:
        """Send a frame that is not handled yet."""
        self.reader(who).client.ref.tell(TextReceived(orjson.dumps(frame)))

    def piece(self, call: ManualCall) -> None:
        """The service sends a piece, whatever the actors have asked for meanwhile."""
        text = f"{next(self._pieces)} "
        self._written[id(call)] += text
        call.chunk(text)

    def complete(self, call: ManualCall) -> None:
        call.complete(self._written[id(call)] or "empty")

    def fail(self, call: ManualCall) -> None:
        call.fail(self.random.choice([FailureKind.OVERLOADED, FailureKind.BROKEN]))

    def vanish(self, who: str) -> None:
        """Lose the socket; the reader of that name is another from now on."""
        if (reader := self.readers.pop(who, None)) is not None:
            reader.client.ref.tell(SocketClosed(1006, ""))

    def outbox(self, who: str, *, is_high: bool) -> None:
        reader = self.reader(who)
        reader.client.outbox.is_above_high_mark = is_high
        reader.client.ref.tell(OutboxHigh() if is_high else OutboxLow())

    def crash(self, path: str) -> None:
        if (ref := self.tree.system.resolve(path)) is not None:
            ref.tell_system("an unknown message")

    def crash_connection(self, who: str) -> None:
        if (reader := self.readers.pop(who, None)) is not None:
            reader.client.ref.tell_system("an unknown message")

    def settle(self) -> None:
        self.tree.settle()
        for reader in self.readers.values():
            reader.read(reader.client.outbox.take())

    def end(self) -> None:
        """Let everything end, and check that each call was answered and that nothing is left."""
        self.between = 0.0
        for who in tuple(self.readers):
            self.outbox(who, is_high=False)
        for _ in range(100):
            self.settle()
            for call in self.running:
                if call.abort_asked:
                    call.close(cut_off=False)
                else:
                    self.complete(call)
            self.tree.advance(5.0)
        self.settle()
        for reader in self.readers.values():
            assert set(reader.answers) == reader.asked
        for name in self.tree.upstreams:
            statistics = self.tree.statistics(name)
            assert (statistics.in_flight, statistics.queued, statistics.anomalies) == (0, 0, 0)
        for call in self.calls:
            sinks = call.sink.sinks if isinstance(call.sink, Fan) else [call.sink]
            for sink in sinks:
                assert isinstance(sink, Pieces)
                assert (sink.reader, sink._sink, sink._sinks) == (None, None, {})
        for path in self.tree.system.paths():
            if path.startswith("/connections/"):
                assert leftovers(self.tree.actor(path)._actor_weakref()) == {}
