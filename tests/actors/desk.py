"""A whole tree of actors on a manual driver: real actors, no sockets, no service, no time."""

from __future__ import annotations

from math import inf
from typing import Any

import orjson
from msgspec.structs import replace

from exai_actors.actors.broker import BrokerActor
from exai_actors.actors.connection.actor import ConnectionActor
from exai_actors.actors.directory import Directory
from exai_actors.actors.provider.actor import ProviderActor
from exai_actors.actors.session.actor import SessionActor
from exai_actors.actors.settings import ConnectionSettings, ProviderSettings, SessionSettings
from exai_actors.actors.statistics_board import StatisticsBoard
from exai_actors.core.authentication import Authenticator, Identity
from exai_actors.core.capacity.account import Account
from exai_actors.core.capacity.changes import Change
from exai_actors.core.capacity.settings import CapacitySettings
from exai_actors.core.routing import RouteSettings, RoutingTable
from exai_actors.core.session.table import SessionTable
from exai_actors.core.statistics import ProviderStatistics
from exai_actors.ids import ConnectionId, ProviderName, SessionId
from exai_actors.messages.broker import ConnectionOpened
from exai_actors.messages.connection import SocketClosed, SocketEvent, TextReceived
from exai_actors.messages.provider import ChangeProvider, ProviderChanged
from exai_actors.ports import Peer
from exai_actors.runtime import ActorSystem, LoopRef, ManualDriver, PathRef
from exai_actors.testing.clock import ManualClock
from exai_actors.testing.manual_upstream import ManualUpstream
from exai_actors.testing.outbox_probe import OutboxProbe
from exai_actors.testing.probe import Probe


class Socket:
    """One client's connection to the tree."""

    def __init__(self, desk: Desk, outbox: OutboxProbe, ref: LoopRef[ConnectionActor]) -> None:
        self.desk = desk
        self.outbox = outbox
        self.ref = ref

    def send(self, frame: dict[str, Any] | bytes) -> list[dict[str, Any]]:
        """Let the client send a frame; what it hears of it before anything else happens."""
        data = frame if isinstance(frame, bytes) else orjson.dumps(frame)
        return self.event(TextReceived(data))

    def event(self, event: SocketEvent) -> list[dict[str, Any]]:
        self.ref.tell(event)
        return self.heard()

    def heard(self) -> list[dict[str, Any]]:
        """What the client got since it was last looked at."""
        self.desk.settle()
        return self.outbox.take()

    def call(self, request_id: str, prompt: str = "hi", **more: Any) -> list[dict[str, Any]]:
        arguments = {"prompt": prompt} | more.pop("arguments", {})
        return self.send(
            {"op": "call_tool", "request_id": request_id, "name": "chat", "arguments": arguments}
            | more
        )

    def vanish(self) -> None:
        """Lose the socket without a word."""
        self.event(SocketClosed(1006, ""))


class Desk:
    """The tree with one provider ``kimi`` that serves ``moon`` (and ``glm`` with ``star``)."""

    def __init__(
        self,
        *,
        limit: int = 1,
        queue: int = 1000,
        capacity: CapacitySettings | None = None,
        models: tuple[str, ...] = ("moon",),
        token: str = "",
        tokens: tuple[tuple[str, Identity], ...] = (),
        session: SessionSettings | None = None,
        connection: ConnectionSettings | None = None,
        resume_s: float = 60.0,
        sessions: int = 100,
        routes: tuple[RouteSettings, ...] = (),
        finish_on_disconnect: tuple[str, ...] = (),
        longest_call_s: float = inf,
    ) -> None:
        self._longest_call_s = longest_call_s
        self.driver = ManualDriver()
        self.system = ActorSystem(self.driver)
        self.clock = ManualClock()
        self.upstreams = {
            ProviderName("kimi"): ManualUpstream(),
            ProviderName("glm"): ManualUpstream(),
        }
        self.drained = 0
        self.gave_up: list[str] = []
        self.board = StatisticsBoard("0", self.driver.now, lambda: len(self.system.dead_letters))
        self.directory = Directory(
            RoutingTable(
                ((ProviderName("kimi"), models), (ProviderName("glm"), ("star",))), routes=routes
            ),
            {name: PathRef(self.system, f"/providers/{name}") for name in self.upstreams},
            self.board.statistics,
            frozenset(map(ProviderName, finish_on_disconnect)),
        )
        self._models = {ProviderName("kimi"): models, ProviderName("glm"): ("star",)}
        self.capacity = capacity or CapacitySettings(limit, queue)
        self.accounts = {name: Account(self.capacity) for name in self.upstreams}
        self._session = session or SessionSettings()
        self._connection = connection or ConnectionSettings()
        self._count = 0
        self.broker = self.system.spawn(
            BrokerActor,
            path="/broker",
            access=Authenticator(token, tokens),
            sessions=SessionTable(sessions, resume_s),
            directory=self.directory,
            board=self.board,
            providers=tuple(self.upstreams),
            start_provider=self._start_provider,
            start_session=self._start_session,
            mint_session_id=lambda: SessionId(f"minted-{self._next()}"),
            on_drained=self._on_drained,
            on_give_up=self.gave_up.append,
        )
        self.settle()

    @property
    def upstream(self) -> ManualUpstream:
        return self.upstreams[ProviderName("kimi")]

    def settle(self) -> None:
        self.driver.run_until_idle()

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.driver.advance(seconds)

    def statistics(self, provider: str = "kimi") -> ProviderStatistics:
        found = self.board.statistics().providers
        return next(each for each in found if each.name == provider)

    def change(self, change: Change, provider: str = "kimi") -> str | None:
        """Change a provider while it runs; why it could not be, or None."""
        probe: Probe[ProviderChanged] = Probe()
        ref = self.directory.providers[ProviderName(provider)].resolve()
        assert ref is not None
        ref.tell_system(ChangeProvider(change, "the test", probe))
        self.settle()
        return probe.take(ProviderChanged).problem

    def connect(self, peer: Peer | None = None) -> Socket:
        """A socket that has not said hello."""
        name = ConnectionId(f"conn-{self._next()}")
        outbox = OutboxProbe()
        ref = self.system.spawn(
            ConnectionActor,
            name,
            peer or Peer("127.0.0.1"),
            outbox,
            self._connection,
            self.directory,
            self.broker,
            self.clock,
            path=f"/listener/{name}",
            supervisor=self.broker,
        )
        self.broker.tell_system(ConnectionOpened(name, ref))
        self.settle()
        return Socket(self, outbox, ref)

    def client(self, session_id: str | None = None, token: str | None = None) -> Socket:
        """A socket that has been admitted, its hello_ack read."""
        socket = self.connect()
        hello = {"op": "hello"}
        if session_id is not None:
            hello["session_id"] = session_id
        if token is not None:
            hello["token"] = token
        (ack,) = socket.send(hello)
        assert ack["ok"] is True
        return socket

    def _on_drained(self) -> None:
        self.drained += 1

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _start_provider(self, name: ProviderName, guardian: LoopRef[Any]) -> LoopRef[ProviderActor]:
        return self.system.spawn(
            ProviderActor,
            ProviderSettings(
                name,
                "manual",
                self._models[name],
                self.capacity,
                longest_call_s=self._longest_call_s,
            ),
            self.accounts[name],
            self.upstreams[name],
            guardian,
            self.board,
            lambda: 0.5,
            path=f"/providers/{name}",
            supervisor=guardian,
        )

    def _start_session(
        self, session: SessionId, grant: Identity, guardian: LoopRef[Any]
    ) -> LoopRef[SessionActor]:
        window = self._session.window if grant.window is None else grant.window
        return self.system.spawn(
            SessionActor,
            session,
            replace(self._session, tenant=grant.tenant, window=window),
            self.directory,
            self.clock,
            f"talk-{session}",
            guardian,
            path=f"/sessions/{self._next()}",
            supervisor=guardian,
        )
