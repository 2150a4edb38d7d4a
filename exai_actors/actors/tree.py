"""The tree of actors: spawns the broker actor and its children, at the paths of ``children``.

The running broker and the tests use the same tree; they differ in the parts that they give it.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from exai_actors.actors.broker import BrokerActor
from exai_actors.actors.children import (
    BROKER_PATH,
    ConnectionChild,
    ProviderChild,
    SessionChild,
    is_connection,
)
from exai_actors.actors.connection.actor import ConnectionActor
from exai_actors.actors.connection.settings import ConnectionSettings
from exai_actors.actors.directory import Directory
from exai_actors.actors.memory_board import MemoryBoard
from exai_actors.actors.overview import Overview
from exai_actors.actors.provider.actor import ProviderActor
from exai_actors.actors.provider.settings import ProviderSettings
from exai_actors.actors.request_board import RequestBoard
from exai_actors.actors.session.actor import SessionActor
from exai_actors.actors.session.settings import SessionSettings
from exai_actors.actors.statistics_board import StatisticsBoard
from exai_actors.core.authentication import Authenticator, Identity
from exai_actors.core.capacity.account import Account
from exai_actors.core.places import Places
from exai_actors.core.routing import RoutingTable
from exai_actors.core.session.table import SessionTable
from exai_actors.ids import ConnectionId, ProviderName, SessionId
from exai_actors.messages.broker import ConnectionOpened
from exai_actors.messages.connection import BrokerFailed
from exai_actors.ports import Clock, Outbox, Peer, Upstream
from exai_actors.runtime import ActorSystem, LoopRef, PathRef


@dataclass(frozen=True, slots=True)
class ProviderParts:
    """A provider's settings, and the parts of it that outlive its actor."""

    settings: ProviderSettings
    account: Account
    upstream: Upstream


@dataclass(frozen=True, slots=True)
class Listeners:
    """Called on the loop's thread: when the broker actor has spawned the providers, when it has no
    connection left after DrainBroker, and with the cause when it gives up.
    """

    on_started: Callable[[], None]
    on_drained: Callable[[], None]
    on_give_up: Callable[[str], None]


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
    ) -> None:
        self.system = system
        self.board = StatisticsBoard(version, system.driver.now, self._count_dead_letters)
        self.directory = Directory(
            routing,
            {name: PathRef(system, ProviderChild(name).path) for name in providers},
            self.board,
            finish_on_disconnect,
        )
        self.memory_board = MemoryBoard()
        self.request_board = RequestBoard()
        self.overview = Overview(
            system,
            self.board,
            self.request_board,
            {name: parts.account for name, parts in providers.items()},
        )
        self.broker: LoopRef[BrokerActor]
        self._clock = clock
        self._authenticator = authenticator
        self._places = places
        self._session_table = sessions
        self._providers = providers
        self._session_settings = session_settings
        self._connection_settings = connection_settings
        self._listeners = listeners
        self._randomness = randomness
        self._connections = 0
        self._failed = False

    def start(self) -> None:
        """Spawn the broker actor, which spawns the providers."""
        self.broker = self.system.spawn(
            BrokerActor,
            path=BROKER_PATH,
            authenticator=self._authenticator,
            places=self._places,
            sessions=self._session_table,
            directory=self.directory,
            board=self.board,
            providers=tuple(self._providers),
            spawn_provider=self._spawn_provider,
            spawn_session=self._spawn_session,
            new_session_id=self._randomness.session_id,
            on_started=self._listeners.on_started,
            on_drained=self._listeners.on_drained,
            on_give_up=self._give_up,
        )

    def open_connection(self, peer: Peer, outbox: Outbox) -> LoopRef[ConnectionActor]:
        """Spawn an actor for a new socket; loop thread only."""
        self._connections += 1
        child = ConnectionChild(ConnectionId(f"conn-{self._connections}"))
        ref = self.system.spawn(
            ConnectionActor,
            connection_id=child.connection_id,
            peer=peer,
            outbox=outbox,
            settings=self._connection_settings,
            directory=self.directory,
            broker=self.broker,
            clock=self._clock,
            path=child.path,
            supervisor=self.broker,
        )
        self.broker.tell_system(ConnectionOpened(child.connection_id, ref))
        if self._failed:
            ref.tell_system(BrokerFailed())
        return ref

    def connections(self) -> list[LoopRef[ConnectionActor]]:
        """The living connections."""
        found = (self.system.resolve(path) for path in self.system.paths() if is_connection(path))
        return [ref for ref in found if ref is not None]

    def _give_up(self, cause: str) -> None:
        # Without the guardian no other actor can end the accepted requests.
        self._failed = True
        for ref in self.connections():
            ref.tell_system(BrokerFailed())
        self._listeners.on_give_up(cause)

    def _spawn_provider(self, child: ProviderChild, broker: LoopRef[Any]) -> LoopRef[Any]:
        parts = self._providers[child.name]
        return self.system.spawn(
            ProviderActor,
            settings=parts.settings,
            account=parts.account,
            upstream=parts.upstream,
            broker=broker,
            board=self.board,
            draw=self._randomness.draw,
            path=child.path,
            supervisor=broker,
        )

    def _spawn_session(
        self, child: SessionChild, identity: Identity, broker: LoopRef[Any]
    ) -> LoopRef[Any]:
        return self.system.spawn(
            SessionActor,
            session_id=child.session_id,
            settings=self._session_settings(identity),
            directory=self.directory,
            clock=self._clock,
            conversation_prefix=self._randomness.conversation_prefix(child.session_id),
            broker=broker,
            memory_board=self.memory_board,
            request_board=self.request_board,
            path=child.path,
            supervisor=broker,
        )

    def _count_dead_letters(self) -> int:
        return sum(self.system.dead_letters.counts.values())
