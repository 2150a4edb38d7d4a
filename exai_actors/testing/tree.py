"""The broker's whole tree of actors without sockets, services or time: a test does their part."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from math import inf
from typing import Any, Self, cast, get_args

import orjson
from msgspec.structs import replace

from exai_actors.actors import paths
from exai_actors.actors.connection.actor import ConnectionActor
from exai_actors.actors.connection.settings import ConnectionSettings
from exai_actors.actors.crash_report import CrashReport
from exai_actors.actors.http_exchange.settings import ExchangeSettings
from exai_actors.actors.nurseries import RestartSettings
from exai_actors.actors.provider.settings import ProviderSettings
from exai_actors.actors.session.settings import SessionSettings
from exai_actors.actors.tree import Listeners, ProviderParts, Randomness, Tree
from exai_actors.core.authentication import Authenticator, Identity
from exai_actors.core.capacity.account import Account
from exai_actors.core.capacity.changes import Change
from exai_actors.core.capacity.settings import CapacitySettings
from exai_actors.core.families import Family
from exai_actors.core.places import PlaceLimits, Places
from exai_actors.core.routing import RouteSettings, RoutingTable
from exai_actors.core.session.table import SessionTable
from exai_actors.core.statistics import ProviderStatistics
from exai_actors.ids import DEFAULT_TENANT, ConnectionId, ProviderName, SessionId
from exai_actors.messages.broker import BeginSession
from exai_actors.messages.connection import (
    OutboxHigh,
    OutboxLow,
    SocketClosed,
    SocketEvent,
    TextReceived,
)
from exai_actors.messages.provider import ChangeProvider
from exai_actors.ports import Peer
from exai_actors.runtime import ActorSystem, LoopRef, ManualDriver
from exai_actors.testing.clock import ManualClock
from exai_actors.testing.logs import log_through_logging
from exai_actors.testing.manual_upstream import ManualUpstream
from exai_actors.testing.outbox_probe import OutboxProbe

SECOND_PROVIDER = {"glm": ("star",)}


class ManualClient:
    """One client's connection to the tree."""

    def __init__(
        self, tree: ManualTree, outbox: OutboxProbe, ref: LoopRef[ConnectionActor]
    ) -> None:
        self.outbox = outbox
        self.ref = ref
        self._tree = tree
        self._id = ConnectionId(ref.path.rpartition("/")[2])

    def send(self, frame: Mapping[str, Any] | bytes) -> list[dict[str, Any]]:
        """Send a frame; return the frames received."""
        return self.event(TextReceived(frame if isinstance(frame, bytes) else orjson.dumps(frame)))

    def event(self, event: SocketEvent) -> list[dict[str, Any]]:
        """Let something happen to the socket; return the frames received."""
        if isinstance(event, OutboxHigh | OutboxLow):
            self.outbox.is_above_high_mark = isinstance(event, OutboxHigh)
        self.ref.tell(event)
        return self.received()

    def received(self) -> list[dict[str, Any]]:
        """The frames received since the last look, after all messages are handled."""
        self._tree.settle()
        return self.outbox.take()

    def call(self, request_id: str, prompt: str = "hi", **more: Any) -> list[dict[str, Any]]:
        """Call ``chat``; ``more`` are members of the frame, its arguments among them."""
        arguments = {"prompt": prompt} | more.pop("arguments", {})
        call = {"op": "call_tool", "request_id": request_id, "name": "chat"}
        return self.send(call | {"arguments": arguments} | more)

    def begin_session(self) -> Self:
        """Have its session begin, as the first call would; returns itself."""
        self._tree.broker.tell_system(BeginSession(self._id))
        self._tree.settle()
        return self

    def vanish(self) -> None:
        """Lose the socket without a closing handshake."""
        self.event(SocketClosed(1006, ""))


class ManualTree(Tree):
    """Runs when ``settle`` or ``advance`` is called.

    There is a provider ``kimi`` with ``models`` and a provider ``glm`` with the model ``star``,
    both with the same capacity; ``limit`` and ``queue`` are short for it.
    """

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
        places: PlaceLimits | None = None,
        routes: tuple[RouteSettings, ...] = (),
        finish_on_disconnect: tuple[str, ...] = (),
        longest_call_s: float = inf,
        restarts: RestartSettings | None = None,
        exchange: ExchangeSettings | None = None,
    ) -> None:
        log_through_logging()
        self.driver = ManualDriver()
        self.clock = ManualClock()
        self.drained = 0
        self._resume: dict[tuple[str, str | None], str] = {}
        self.gave_up: list[CrashReport] = []
        self.stopped = 0
        capacity = capacity or CapacitySettings(limit, queue)
        offers = tuple(
            (ProviderName(name), served)
            for name, served in {"kimi": models, **SECOND_PROVIDER}.items()
        )
        self.upstreams = {name: ManualUpstream() for name, _ in offers}
        self.accounts = {name: Account(capacity) for name, _ in offers}
        session = session or SessionSettings()
        generated = count(1)
        super().__init__(
            ActorSystem(self.driver),
            version="0",
            clock=self.clock,
            authenticator=Authenticator(token, tokens),
            places=Places(
                places or PlaceLimits(),
                frozenset(identity.tenant for _, identity in tokens)
                or frozenset((DEFAULT_TENANT,)),
            ),
            sessions=SessionTable(sessions, resume_s),
            routing=RoutingTable(offers, routes=routes),
            providers={
                name: ProviderParts(
                    ProviderSettings(
                        name, "manual", served, capacity, longest_call_s=longest_call_s
                    ),
                    self.accounts[name],
                    self.upstreams[name],
                )
                for name, served in offers
            },
            finish_on_disconnect=frozenset(map(ProviderName, finish_on_disconnect)),
            session_settings=lambda identity: replace(
                session,
                tenant=identity.tenant,
                window=session.window if identity.window is None else identity.window,
            ),
            connection_settings=connection or ConnectionSettings(),
            restarts=restarts,
            exchange_settings=exchange or ExchangeSettings(),
            families={name: frozenset(get_args(Family)) for name, _ in offers},
            listeners=Listeners(
                on_started=lambda: None,
                on_drained=self._on_drained,
                on_give_up=self.gave_up.append,
                on_stopped=self._on_stopped,
            ),
            randomness=Randomness(
                draw=lambda: 0.5,
                session_id=lambda: SessionId(f"generated-{next(generated)}"),
                conversation_prefix=lambda session: f"talk-{session}",
            ),
        )
        self.start()
        self.settle()

    @property
    def upstream(self) -> ManualUpstream:
        """The upstream of ``kimi``."""
        return self.upstreams[ProviderName("kimi")]

    def settle(self) -> None:
        """Handle all messages."""
        self.driver.run_until_idle()

    def advance(self, seconds: float) -> None:
        """Let time pass, and handle all messages."""
        self.clock.advance(seconds)
        self.driver.advance(seconds)

    def actor(self, path: str) -> LoopRef[Any]:
        """The living actor at a path. AssertionError if there is none."""
        found = self.system.resolve(path)
        assert found is not None, f"no actor is alive at {path}"
        return found

    def statistics(self, provider: str = "kimi") -> ProviderStatistics:
        """A provider's statistics."""
        found = self.board.statistics().providers
        return next(each for each in found if each.name == provider)

    def change(self, change: Change, provider: str = "kimi") -> str | None:
        """Change a provider while it runs; return the problem, or None."""
        ref = self.actor(paths.provider_path(ProviderName(provider)))
        problem = ref.ask(ChangeProvider(change, "the test"), block=False)
        self.settle()
        return cast("str | None", problem.get())

    def connect(self, peer: Peer | None = None) -> ManualClient:
        """A connection that has not sent its hello."""
        outbox = OutboxProbe()
        ref = self.open_connection(peer or Peer("127.0.0.1"), outbox)
        self.settle()
        return ManualClient(self, outbox, ref)

    def client(self, session_id: str | None = None, token: str | None = None) -> ManualClient:
        """A connection that has been admitted; its hello_ack is read.

        It resumes the session of that name, if an earlier client of this tree began it.
        """
        client = self.connect()
        hello = {"op": "hello"}
        if session_id is not None:
            hello["session_id"] = session_id
            if (resume := self._resume.get((session_id, token))) is not None:
                hello["resume"] = resume
        if token is not None:
            hello["token"] = token
        (ack,) = client.send(hello)
        assert ack["ok"] is True
        if "resume" in ack:
            self._resume[ack["session_id"], token] = ack["resume"]
        return client

    def _on_drained(self) -> None:
        self.drained += 1

    def _on_stopped(self) -> None:
        self.stopped += 1
