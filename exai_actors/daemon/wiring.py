"""Puts the parts together: from a configuration to a broker that answers.

Order of start: upstreams, actors, socket. The stop is the exact reverse.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import structlog

from exai_actors import __version__
from exai_actors.actors.broker import BrokerActor
from exai_actors.actors.connection.actor import ConnectionActor
from exai_actors.actors.directory import Directory
from exai_actors.actors.provider.actor import ProviderActor
from exai_actors.actors.session.actor import SessionActor
from exai_actors.actors.statistics_board import StatisticsBoard
from exai_actors.core.authentication import Identity
from exai_actors.core.capacity.account import Account
from exai_actors.core.capacity.changes import Change
from exai_actors.core.routing import RouteSettings, RoutingTable
from exai_actors.core.session.table import SessionTable
from exai_actors.core.statistics import BrokerStatistics
from exai_actors.daemon.actor_settings import (
    authenticator,
    connection_settings,
    provider_settings,
    session_settings,
)
from exai_actors.daemon.config.provider_tables import (
    OpenAIProvider,
    ProviderConfig,
    SyntheticProvider,
)
from exai_actors.daemon.config.tables import Config
from exai_actors.daemon.live_changes import change_provider
from exai_actors.daemon.logs.runtime_events import log_event
from exai_actors.edges.clock import SystemClock
from exai_actors.edges.websocket.server import WebSocketServer
from exai_actors.errors import UsageError
from exai_actors.ids import ConnectionId, ProviderName, SessionId
from exai_actors.messages.broker import ConnectionOpened, DrainBroker
from exai_actors.messages.connection import ConnectionMessage
from exai_actors.messages.recipient import Recipient
from exai_actors.ports import Outbox, Peer, Upstream
from exai_actors.runtime import ActorSystem, AsyncioDriver, Driver, LoopRef, PathRef

log = structlog.get_logger()


class Broker:
    """A running broker in this process and on this event loop."""

    def __init__(self, config: Config, driver: Driver) -> None:
        self.config = config
        self.port = 0
        self.system = ActorSystem(driver)
        self.gave_up: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._drained = asyncio.Event()
        self._guarded = asyncio.Event()
        self._clock = SystemClock()
        self._connections = 0
        self._sessions = 0
        self._upstreams: dict[ProviderName, Upstream] = {}
        self._provider_settings = {
            ProviderName(provider.name): provider_settings(provider, config)
            for provider in config.provider
        }
        self._accounts = {
            name: Account(each.capacity) for name, each in self._provider_settings.items()
        }
        names = tuple(ProviderName(provider.name) for provider in config.provider)
        self._board = StatisticsBoard(__version__, driver.now, self._count_dead_letters)
        self._directory = Directory(
            RoutingTable(
                tuple((ProviderName(each.name), each.models) for each in config.provider),
                config.chat.default_model,
                tuple(RouteSettings(each.model, each.to, each.on) for each in config.route),
            ),
            {name: PathRef(self.system, f"/providers/{name}") for name in names},
            self._board.statistics,
            frozenset(
                ProviderName(each.name)
                for each in config.provider
                if each.on_disconnect == "finish"
            ),
        )
        self._guardian: LoopRef[BrokerActor] | None = None

    @property
    def url(self) -> str:
        host = self.config.server.host
        return f"ws://[{host}]:{self.port}" if ":" in host else f"ws://{host}:{self.port}"

    def statistics(self) -> BrokerStatistics:
        """To be called on the loop's thread."""
        return self._board.statistics()

    async def change(self, provider: str, change: Change, cause: str) -> None:
        """Change a provider's capacity while it runs; see core.changes for what can be changed.

        To be awaited on the loop's thread. Raises UsageError for what makes no sense.
        """
        path = self._directory.providers.get(ProviderName(provider))
        if path is None:
            known = ", ".join(self._directory.providers)
            raise UsageError(f'there is no provider "{provider}"; there are {known}')
        await change_provider(path, change, cause)

    async def start(self, stack: AsyncExitStack) -> None:
        """Start everything; ``stack`` gets what undoes it. Raises UsageError for a taken port."""
        stack.callback(self.system.on_event(log_event))
        for provider in self.config.provider:
            upstream = self._open_upstream(provider)
            self._upstreams[ProviderName(provider.name)] = upstream
            stack.push_async_callback(upstream.aclose)
        stack.push_async_callback(self.system.stop_all, 5.0)
        self._guardian = self._start_guardian()
        await self._guarded.wait()
        server_config = self.config.server
        server = WebSocketServer(
            host=server_config.host,
            port=server_config.port,
            open_connection=self._open_connection,
            is_busy=self.system.is_busy,
            batches=self.system,
            max_frame_bytes=server_config.max_frame_bytes,
            max_connections=server_config.max_connections,
            max_connections_per_address=server_config.max_connections_per_address or None,
            allowed_origins=server_config.allowed_origins,
            allowed_hosts=server_config.allowed_hosts,
            ping_interval_s=server_config.ping_interval_s,
            ping_timeout_s=server_config.ping_timeout_s,
            close_timeout_s=server_config.close_timeout_s,
        )
        self.port = await server.start()
        self._server = server
        stack.push_async_callback(server.stop)
        await self._start_compat(stack)
        stack.push_async_callback(self.abandon)

    async def drain(self, timeout_s: float) -> bool:
        """Refuse what is new and let requests in flight end.

        Those that have not ended in time are answered with an error, and the result is False.
        """
        assert self._guardian is not None
        self._server.stop_listening()
        self._guardian.tell_system(DrainBroker())
        if await self._is_drained_within(timeout_s):
            return True
        await self.abandon()
        return False

    async def abandon(self) -> None:
        """Tell every client whose request is in flight that it gets no answer any more."""
        assert self._guardian is not None
        self._guardian.tell_system(DrainBroker(at_once=True))
        await self._is_drained_within(self.config.server.close_timeout_s)

    async def _is_drained_within(self, timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._drained.wait(), timeout_s)
        return self._drained.is_set()

    async def _start_compat(self, stack: AsyncExitStack) -> None:
        """Start the pages and the health file of the old daemon, if they are configured."""
        compat = self.config.compat
        if not (compat.http or compat.health_file):
            return
        from exai_actors.compat.start import start_compat

        await start_compat(
            stack,
            http_ports=(
                (compat.http_health_port, compat.http_monitor_port) if compat.http else None
            ),
            health_file=compat.health_file,
            host=self.config.server.host,
            broker_port=self.port,
            tool_count=lambda: len(self._directory.tools),
            statistics=self.statistics,
            clock=self._clock,
        )

    def _start_guardian(self) -> LoopRef[BrokerActor]:
        config = self.config
        return self.system.spawn(
            BrokerActor,
            path="/broker",
            access=authenticator(config),
            sessions=SessionTable(2 * config.server.max_connections, config.session.resume_s),
            directory=self._directory,
            board=self._board,
            providers=tuple(self._upstreams),
            start_provider=self._start_provider,
            start_session=self._start_session,
            mint_session_id=lambda: SessionId(secrets.token_urlsafe(32)),
            on_drained=self._drained.set,
            on_give_up=self._give_up,
        )

    def _start_provider(self, name: ProviderName, guardian: LoopRef[Any]) -> LoopRef[ProviderActor]:
        if name == next(reversed(self._upstreams)):
            self._guarded.set()
        return self.system.spawn(
            ProviderActor,
            self._provider_settings[name],
            self._accounts[name],
            self._upstreams[name],
            guardian,
            self._board,
            random.random,
            path=f"/providers/{name}",
            supervisor=guardian,
        )

    def _start_session(
        self, session: SessionId, grant: Identity, guardian: LoopRef[Any]
    ) -> LoopRef[SessionActor]:
        # The number makes the path unique while an expired session of the same name still stops.
        self._sessions += 1
        return self.system.spawn(
            SessionActor,
            session,
            session_settings(self.config, grant),
            self._directory,
            self._clock,
            secrets.token_hex(6),
            guardian,
            path=f"/sessions/{self._sessions}",
            supervisor=guardian,
        )

    def _open_connection(self, peer: Peer, outbox: Outbox) -> Recipient[ConnectionMessage]:
        self._connections += 1
        name = ConnectionId(f"conn-{self._connections}")
        assert self._guardian is not None
        ref = self.system.spawn(
            ConnectionActor,
            name,
            peer,
            outbox,
            connection_settings(self.config),
            self._directory,
            self._guardian,
            self._clock,
            path=f"/listener/{name}",
            supervisor=self._guardian,
        )
        self._guardian.tell_system(ConnectionOpened(name, ref))
        return cast(Recipient[ConnectionMessage], ref)

    def _open_upstream(self, provider: ProviderConfig) -> Upstream:
        match provider:
            case OpenAIProvider():
                from exai_actors.edges.http.upstream import HttpUpstream

                return HttpUpstream(
                    name=provider.name,
                    base_url=provider.base_url,
                    api_key=self.config.api_keys.get(ProviderName(provider.name)),
                    connect_timeout_s=provider.connect_timeout_s,
                    first_byte_timeout_s=provider.first_byte_timeout_s,
                    idle_timeout_s=provider.idle_timeout_s,
                    total_timeout_s=provider.total_timeout_s,
                    max_answer_bytes=provider.max_answer_bytes,
                )
            case SyntheticProvider():
                from exai_actors.edges.synthetic import SyntheticUpstream

                return SyntheticUpstream(
                    self.system.driver.call_later,
                    models=provider.models,
                    delay_ms=provider.delay_ms,
                    tokens=provider.tokens,
                    tokens_per_second=provider.tokens_per_second,
                    failure_rate=provider.failure_rate,
                    seed=provider.seed,
                )

    def _count_dead_letters(self) -> int:
        return sum(self.system.dead_letters.counts.values())

    def _give_up(self, why: str) -> None:
        log.critical("broker.gave_up", cause=why)
        if not self.gave_up.done():
            self.gave_up.set_result(why)


@asynccontextmanager
async def open_broker(
    config: Config, *, driver_of: Callable[[asyncio.AbstractEventLoop], Driver] = AsyncioDriver
) -> AsyncIterator[Broker]:
    """A broker that listens, on the running loop, until the block is left.

    Raises UsageError when the address cannot be listened on. Leaving the block stops at once; for
    an orderly end call ``drain`` before.
    """
    broker = Broker(config, driver_of(asyncio.get_running_loop()))
    async with AsyncExitStack() as stack:
        await broker.start(stack)
        yield broker
