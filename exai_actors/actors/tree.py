"""The tree of actors: a root, its supervisors and the guardian, and the actors below them.

The running broker and the tests use the same tree; they differ in the parts that they give it.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from exai_actors.actors import paths
from exai_actors.actors.admissions import Admissions, SessionBook, SessionRecord
from exai_actors.actors.awaited_providers import AwaitedProviders
from exai_actors.actors.broker import BrokerActor
from exai_actors.actors.connection.actor import ConnectionActor
from exai_actors.actors.connection.settings import ConnectionSettings
from exai_actors.actors.crash_report import CrashReport
from exai_actors.actors.directory import Directory
from exai_actors.actors.http_exchange.actor import ExchangeParts, HttpExchangeActor
from exai_actors.actors.http_exchange.exchange import RelayedExchange
from exai_actors.actors.http_exchange.settings import ExchangeSettings
from exai_actors.actors.memory_board import MemoryBoard
from exai_actors.actors.nurseries import (
    ProviderNursery,
    RestartSettings,
    RootNursery,
    SessionNursery,
    TemporaryNursery,
)
from exai_actors.actors.overview import Overview
from exai_actors.actors.provider.actor import ProviderActor
from exai_actors.actors.provider.settings import ProviderSettings
from exai_actors.actors.request_board import RequestBoard
from exai_actors.actors.session.actor import SessionActor
from exai_actors.actors.session.kept import SessionKept
from exai_actors.actors.session.settings import SessionSettings
from exai_actors.actors.statistics_board import StatisticsBoard
from exai_actors.core import error_bodies
from exai_actors.core.authentication import Authenticator, Identity
from exai_actors.core.capacity.account import Account
from exai_actors.core.families import Family
from exai_actors.core.places import Places
from exai_actors.core.restarts import RestartBudget
from exai_actors.core.routing import RoutingTable
from exai_actors.core.session.table import SessionTable
from exai_actors.core.supervision.specs import SupervisorSpec
from exai_actors.core.supervision.supervision import GiveUp
from exai_actors.core.wrong_tokens import WrongToken
from exai_actors.errors import ErrorBody
from exai_actors.ids import ConnectionId, ProviderName, SessionId
from exai_actors.messages.broker import ConnectionOpened, DrainBroker, SessionGone
from exai_actors.messages.connection import BrokerFailed
from exai_actors.ports import Clock, Outbox, Peer, Responder, Upstream
from exai_actors.runtime import (
    ActorSystem,
    Exit,
    ExitReason,
    GaveUp,
    LoopRef,
    Nursery,
    PathRef,
    Started,
    SupervisorActor,
    SupervisorBoard,
    place_of,
    stop_in_order,
)

_EXCHANGE = ExchangeSettings()


@dataclass(frozen=True, slots=True)
class ProviderParts:
    """A provider's settings, and the parts of it that outlive its actor."""

    settings: ProviderSettings
    account: Account
    upstream: Upstream


@dataclass(frozen=True, slots=True)
class Listeners:
    """Called on the loop's thread: when clients can be admitted, also by a restarted guardian, when
    no connection is left after ``drain``, when the tree gives up, and when all of it has stopped.
    """

    on_started: Callable[[], None]
    on_drained: Callable[[], None]
    on_give_up: Callable[[CrashReport], None]
    on_stopped: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Randomness:
    """The sources of chance. ``draw`` is uniform in [0, 1); session ids must not be guessable."""

    draw: Callable[[], float] = random.random
    session_id: Callable[[], SessionId] = lambda: SessionId(secrets.token_urlsafe(32))
    conversation_prefix: Callable[[SessionId], str] = lambda _: secrets.token_hex(6)


class Tree:
    """The actors of one broker. Nothing runs before ``start``."""

    def __init__(
        self,
        system: ActorSystem,
        *,
        version: str,
        clock: Clock,
        authenticator: Authenticator,
        places: Places,
        sessions: SessionTable,
        routing: RoutingTable,
        providers: Mapping[ProviderName, ProviderParts],
        finish_on_disconnect: frozenset[ProviderName],
        session_settings: Callable[[Identity], SessionSettings],
        connection_settings: ConnectionSettings,
        listeners: Listeners,
        randomness: Randomness,
        restarts: RestartSettings | None = None,
        exchange_settings: ExchangeSettings = _EXCHANGE,
        families: Mapping[ProviderName, frozenset[Family]] | None = None,
    ) -> None:
        self.system = system
        self.board = StatisticsBoard(version, system.driver.now, self._count_dead_letters)
        provider_refs = {name: PathRef(system, paths.provider_path(name)) for name in providers}
        self.awaited = AwaitedProviders(provider_refs)
        self.directory = Directory(
            routing, provider_refs, self.board, self.awaited, finish_on_disconnect, families
        )
        self._admissions = Admissions(
            authenticator, places, sessions, SessionBook(self._forget_weight)
        )
        self.memory_board = MemoryBoard()
        self.request_board = RequestBoard()
        self.overview = Overview(
            system,
            self.board,
            self.request_board,
            {name: parts.account for name, parts in providers.items()},
            self._admissions,
            session_settings,
        )
        self.supervisors = SupervisorBoard(system)
        """The supervisors, to look at, and to stop and restart single actors by."""
        self.broker = PathRef(system, paths.BROKER)
        """The guardian, whichever incarnation."""
        self._clock = clock
        self._providers = providers
        self._session_settings = session_settings
        self._connection_settings = connection_settings
        self._exchange_parts = ExchangeParts(
            exchange_settings, self.directory, self.broker, self.request_board
        )
        self._listeners = listeners
        self._randomness = randomness
        self._restarts = restarts or RestartSettings()
        self._root_budget = RestartBudget(
            self._restarts.root_intensity, self._restarts.root_period_s
        )
        self._connection_supervisor = PathRef(system, paths.CONNECTIONS)
        self._connections = 0
        self._failed = False
        self._stops = False
        self._root = self._make_root()

    def _make_root(self) -> RootNursery:
        """The supervisors and the guardian, in the order of their start."""
        restarts, spawn = self._restarts, self._spawn_supervisor
        providers = ProviderNursery(
            self._spawn_provider, self._providers, restarts, self.board, self.awaited
        )
        sessions = SessionNursery(
            self._spawn_session, self._admissions.book, restarts, self._session_gone
        )
        connections, consoles = TemporaryNursery(), TemporaryNursery()
        return RootNursery(
            {
                "providers": lambda: spawn(paths.PROVIDERS, providers.spec, providers),
                "sessions": lambda: spawn(paths.SESSIONS, sessions.spec, sessions),
                "connections": lambda: spawn(paths.CONNECTIONS, connections.spec, connections),
                "consoles": lambda: spawn(paths.CONSOLES, consoles.spec, consoles),
                # The last: it admits clients to all the rest.
                "broker": self._spawn_broker,
            },
            restarts,
            self._root_gives_up,
        )

    def start(self) -> None:
        """Spawn the root, which starts the rest."""
        self.system.spawn(
            SupervisorActor,
            self._root.spec,
            self._root,
            self.supervisors,
            self._randomness.draw,
            path=paths.ROOT,
            supervisor=self,
        )

    def drain(self, *, immediately: bool = False) -> None:
        """Refuse new requests, finish those in flight, then call ``on_drained``.

        ``immediately``: answer the requests in flight with an error instead of finishing them.
        """
        # Also for a guardian that is being restarted at this moment.
        self._admissions.draining = True
        if immediately:
            self._cut_off(error_bodies.interrupted_by_shutdown())
        self.broker.tell_system(DrainBroker(immediately))

    def stop(self) -> None:
        """Stop all actors, the guardian first; then call ``on_stopped``."""
        self._stops = True
        self._cut_off(error_bodies.interrupted_by_shutdown())
        root = self.system.resolve(paths.ROOT)
        if root is None:
            self._listeners.on_stopped()
        else:
            stop_in_order(root)

    def open_connection(self, peer: Peer, outbox: Outbox) -> LoopRef[ConnectionActor]:
        """Spawn an actor for a new socket; loop thread only."""
        self._connections += 1
        connection_id = ConnectionId(f"conn-{self._connections}")
        ref = self.system.spawn(
            ConnectionActor,
            connection_id=connection_id,
            peer=peer,
            outbox=outbox,
            settings=self._connection_settings,
            directory=self.directory,
            broker=self.broker,
            clock=self._clock,
            request_board=self.request_board,
            path=paths.connection_path(connection_id),
            supervisor=self._connection_supervisor,
        )
        self._opened(connection_id, ref)
        return ref

    def open_exchange(
        self, peer: Peer, exchange: RelayedExchange, responder: Responder
    ) -> LoopRef[HttpExchangeActor]:
        """The actor of a request over HTTP: the one of the request before it on the client's
        connection, if that one can serve it, or a new one. Loop thread only.
        """
        self.board.http_requests[exchange.request.family] += 1
        kept = responder.kept
        if type(kept) is HttpExchangeActor and kept.serves_next(peer, exchange, responder):
            return kept.actor_ref
        self._connections += 1
        connection_id = ConnectionId(f"http-{self._connections}")
        ref = self.system.spawn(
            HttpExchangeActor,
            connection_id=connection_id,
            peer=peer,
            exchange=exchange,
            responder=responder,
            parts=self._exchange_parts,
            path=paths.connection_path(connection_id),
            supervisor=self._connection_supervisor,
        )
        self._opened(connection_id, ref)
        return ref

    def _opened(self, connection_id: ConnectionId, ref: LoopRef[Any]) -> None:
        self.system.mark_last(ref.path)
        self.broker.tell_system(ConnectionOpened(connection_id, ref))
        if self._failed:
            ref.tell_system(BrokerFailed())

    def identify(self, token: str | None, address: str) -> Identity | WrongToken:
        """The owner of an access token; one that is wrong is counted. Loop thread only."""
        identity = self._admissions.authenticator.identify(token)
        if identity is not None:
            return identity
        return self._admissions.wrong_tokens.note(address, self.system.driver.now())

    def connections(self) -> dict[ConnectionId, LoopRef[Any]]:
        """The living connections, and exchanges over HTTP."""
        found: dict[ConnectionId, LoopRef[Any]] = {}
        for path in self.system.paths():
            connection_id = paths.connection_at(path)
            if connection_id is not None and (ref := self.system.resolve(path)) is not None:
                found[connection_id] = ref
        return found

    def tell_system(self, message: Started | Exit) -> None:
        """The root has started or ended: restart it, or give up."""
        if isinstance(message, Started):
            return
        if message.reason in {ExitReason.NORMAL, ExitReason.ABANDONED} or isinstance(
            message.error, GaveUp
        ):
            self._listeners.on_stopped()
        elif self._root_budget.allow(self.system.driver.now()):
            self.supervisors.restarts += 1
            self.start()
            if self._stops:
                self.stop()
        else:
            error = "an error" if message.error is None else place_of(message.error)
            budget = self._root_budget
            self._give_up(paths.ROOT, error, budget.intensity, budget.period_s)

    def _root_gives_up(self, give_up: GiveUp) -> None:
        path = f"{paths.ROOT}{give_up.child}"
        self._give_up(path, give_up.error, give_up.restarts, self._root.spec.period_s)

    def _give_up(self, path: str, error: str, restarts: int, period_s: float) -> None:
        """Answer the accepted requests: what could end them is about to stop."""
        self._failed = True
        self._cut_off(error_bodies.broker_failed())
        for ref in self.connections().values():
            ref.tell_system(BrokerFailed())
        now, incidents = self.system.driver.now(), tuple(self.supervisors.incidents)
        self._listeners.on_give_up(CrashReport(path, error, restarts, period_s, now, incidents))

    def _cut_off(self, error: ErrorBody) -> None:
        self.request_board.cut_off = self.request_board.cut_off or error

    def _forget_weight(self, session_id: SessionId) -> None:
        for parts in self._providers.values():
            parts.account.session_weights.pop(session_id, None)

    def _session_gone(self, record: SessionRecord) -> None:
        self.broker.tell_system(SessionGone(record.session_id))

    def _spawn_supervisor(
        self, path: str, spec: SupervisorSpec, nursery: Nursery
    ) -> LoopRef[SupervisorActor]:
        return self.system.spawn(
            SupervisorActor,
            spec,
            nursery,
            self.supervisors,
            self._randomness.draw,
            path=path,
            supervisor=PathRef(self.system, paths.ROOT),
        )

    def _spawn_broker(self) -> LoopRef[BrokerActor]:
        return self.system.spawn(
            BrokerActor,
            admissions=self._admissions,
            directory=self.directory,
            board=self.board,
            spawn_session=self._spawn_session,
            session=lambda record: self.system.resolve(paths.session_path(record.number)),
            connections=self.connections,
            new_session_id=self._randomness.session_id,
            on_started=self._listeners.on_started,
            on_drained=self._listeners.on_drained,
            path=paths.BROKER,
            supervisor=PathRef(self.system, paths.ROOT),
        )

    def _spawn_provider(self, name: ProviderName) -> LoopRef[ProviderActor]:
        parts = self._providers[name]
        return self.system.spawn(
            ProviderActor,
            settings=parts.settings,
            account=parts.account,
            upstream=parts.upstream,
            broker=self.broker,
            board=self.board,
            draw=self._randomness.draw,
            path=paths.provider_path(name),
            supervisor=PathRef(self.system, paths.PROVIDERS),
            # All that may wait for it may come at the same time.
            mailbox_limit=max(ProviderActor.mailbox_limit, parts.settings.capacity.queue),
        )

    def _spawn_session(self, record: SessionRecord) -> LoopRef[SessionActor]:
        settings = self._session_settings(record.identity)
        if record.kept is None:
            record.kept = SessionKept(settings, self._admissions.suspects)
        return self.system.spawn(
            SessionActor,
            session_id=record.session_id,
            settings=settings,
            directory=self.directory,
            clock=self._clock,
            conversation_prefix=self._randomness.conversation_prefix(record.session_id),
            broker=self.broker,
            memory_board=self.memory_board,
            request_board=self.request_board,
            kept=record.kept,
            path=paths.session_path(record.number),
            supervisor=PathRef(self.system, paths.SESSIONS),
        )

    def _count_dead_letters(self) -> int:
        return sum(self.system.dead_letters.counts.values())
