"""Builds a running broker from a configuration.

It starts upstreams, actors and socket in this order, and stops them in reverse.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path

import structlog

from exai_actors import __version__
from exai_actors.actors.crash_report import CrashReport
from exai_actors.actors.tree import Listeners, ProviderParts, Randomness, Tree
from exai_actors.console.consoles import PATH as CONSOLE_PATH
from exai_actors.console.consoles import Consoles
from exai_actors.console.web.files import Files
from exai_actors.core.capacity.account import Account
from exai_actors.core.capacity.changes import Change
from exai_actors.core.routing import RouteSettings, RoutingTable
from exai_actors.core.session.table import SessionTable
from exai_actors.core.statistics import BrokerStatistics
from exai_actors.daemon.audit_file import AuditFile
from exai_actors.daemon.config.files import path_of
from exai_actors.daemon.config.provider_tables import (
    OpenAIProvider,
    ProviderConfig,
    SyntheticProvider,
)
from exai_actors.daemon.config.tables import Config
from exai_actors.daemon.console_pages import console_pages, missing_page
from exai_actors.daemon.fault_recordings import FaultRecordings
from exai_actors.daemon.http_apis import Apis, Ask
from exai_actors.daemon.live_changes import change_provider
from exai_actors.daemon.logs.runtime_events import log_event
from exai_actors.daemon.memory_guard import MemoryGuard, buffer_limit, guarding
from exai_actors.daemon.observing.parts import Observing
from exai_actors.daemon.pages import missing, pages
from exai_actors.daemon.process_actions import ServedProcess
from exai_actors.daemon.settings import (
    authenticator,
    connection_settings,
    exchange_settings,
    http_settings,
    operators,
    places,
    provider_settings,
    relay_addresses,
    session_settings,
    synthetic_settings,
    tenant_weights,
    websocket_settings,
)
from exai_actors.edges.clock import SystemClock
from exai_actors.edges.http_server.server import HttpServer, Page
from exai_actors.edges.http_server.settings import HttpServerSettings
from exai_actors.edges.mcp.endpoint import PATH as MCP_PATH
from exai_actors.edges.mcp.endpoint import McpEndpoint
from exai_actors.edges.websocket.server import WebSocketServer
from exai_actors.errors import UsageError
from exai_actors.ids import ProviderName
from exai_actors.messages.connection import SocketEvent
from exai_actors.messages.recipient import Recipient
from exai_actors.ports import Outbox, Peer, Upstream
from exai_actors.runtime import ActorSystem, AsyncioDriver, Driver

log = structlog.get_logger()

CLOSED_POLL_S = 0.02
STOP_S = 5.0
"""How long the actors may take to stop."""


class Broker:
    """A running broker on this event loop. All methods must be called on the loop's thread."""

    def __init__(self, config: Config, driver: Driver) -> None:
        self.config = config
        self.port = 0
        self.system = ActorSystem(driver)
        self.gave_up: asyncio.Future[CrashReport] = asyncio.get_running_loop().create_future()
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.save_recording: Callable[[str], object] = lambda _: None
        """Saves the last minutes immediately, with the cause; may be called on any thread."""
        self.drain_asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """An operator has begun to drain the broker; the process is to end with that."""
        self._process = ServedProcess(config, self.statistics, self.ask_to_drain)
        self._drained = asyncio.Event()
        self._stopped = asyncio.Event()
        self._clock = SystemClock()
        self._tree: Tree
        self._server: WebSocketServer
        self._mcp: McpEndpoint
        self._consoles: Consoles
        self._counting: dict[str, Ask] = {}

    @property
    def url(self) -> str:
        host = self.config.server.host
        return f"ws://[{host}]:{self.port}" if ":" in host else f"ws://{host}:{self.port}"

    def statistics(self) -> BrokerStatistics:
        return self._tree.board.statistics()

    def is_idle(self) -> bool:
        """Whether no request is with a provider."""
        statistics = self.statistics()
        return not statistics.in_flight and not any(each.queued for each in statistics.providers)

    async def change(self, provider: str, change: Change, cause: str) -> None:
        """Change a provider's capacity; ``core.capacity.changes`` has the possible changes.

        Raises UsageError for an unknown provider or an invalid change.
        """
        path = self._tree.directory.providers.get(ProviderName(provider))
        if path is None:
            known = ", ".join(self._tree.directory.providers)
            raise UsageError(f'there is no provider "{provider}"; choose from {known}')
        await change_provider(path, change, cause)

    async def start(self, stack: AsyncExitStack) -> None:
        """Start everything; ``stack`` gets the callbacks that stop it.

        Raises UsageError when the address cannot be listened on.
        """
        stack.callback(self.system.on_event(log_event, ordinary=False))
        upstreams: dict[ProviderName, Upstream] = {}
        for provider in self.config.provider:
            upstream = self._open_upstream(provider)
            upstreams[ProviderName(provider.name)] = upstream
            stack.push_async_callback(upstream.aclose)
        self._tree = self._make_tree(upstreams)
        observing = Observing(
            self.config, self.system, self._clock, self._tree.request_board, self._tree.board
        )
        # Closed after the actors have stopped: their last requests are logged too.
        observing.observe_requests(stack)
        stack.push_async_callback(self._stop_actors)
        self._tree.start()
        write_audit = self._open_audit(stack)
        await asyncio.wait((self._started, self.gave_up), return_when=asyncio.FIRST_COMPLETED)
        self._consoles = Consoles(
            self.system,
            operators=operators(self.config),
            parts=self._tree.overview,
            supervisors=self._tree.supervisors,
            providers=self._tree.directory.providers,
            clock=self._clock,
            write_audit=write_audit,
            process=self._process,
        )
        stack.callback(self._consoles.watch_events())
        self._consoles.ring.start()
        stack.callback(self._consoles.ring.stop)
        self._save_faults(stack)
        stack.callback(self._consoles.measure())
        await self._listen(observing.watch(stack, self._consoles))
        stack.enter_context(self._guard_memory())
        stack.push_async_callback(self._server.stop)
        stack.callback(self._mcp.close)
        await self._start_compat(stack)
        stack.push_async_callback(self.abandon)

    async def _stop_actors(self) -> None:
        """Stop the tree in its order, then whatever is left."""
        self._tree.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), STOP_S)
        await self.system.stop_all(STOP_S)

    async def _listen(self, metrics: Page) -> None:
        """Serve WebSocket and HTTP on one port."""
        server = self._server = WebSocketServer(
            host=self.config.server.host,
            port=self.config.server.port,
            open_connection=self._open_connection,
            actors=self.system.scheduler,
            settings=websocket_settings(self.config),
        )
        self.port = await server.start()
        files = Files()
        self._mcp = McpEndpoint(
            self._open_connection,
            self._clock,
            self.system.driver.call_later,
            identify=self._tree.identify,
        )
        server.serve_http(
            HttpServer(
                policy=server.policy,
                port=self.port,
                pages={
                    **pages(self.url, __version__, self.statistics),
                    **console_pages(
                        self._consoles.sources,
                        self._consoles.operators,
                        self._clock,
                        files,
                        version=__version__,
                        note_wrong_token=self._consoles.note_wrong_token,
                    ),
                    **self._apis().by_path(),
                    "/metrics": metrics,
                    MCP_PATH: self._mcp.handler,
                },
                missing=missing(self.url, partial(missing_page, files)),
                wall=self._clock.wall,
                settings=HttpServerSettings(max_connections=self.config.server.max_connections),
            )
        )
        self._tree.board.register_strangers(server.strangers)

    def _apis(self) -> Apis:
        return Apis(
            self._tree.directory,
            self._tree.identify,
            self._tree.open_exchange,
            keeps_responses=self.config.http.retry_grace_s > 0,
            counting=self._counting,
            sub_agents_wait=self.config.http.sub_agents == "behind",
        )

    def _open_audit(self, stack: AsyncExitStack) -> Callable[[bytes], object] | None:
        audit, source = self.config.audit, self.config.source.file
        if not audit.file:
            return None
        folder = source.parent if source else Path()
        file = AuditFile(folder / path_of(audit.file), audit.file_bytes, audit.files_kept)
        stack.push_async_callback(asyncio.to_thread, file.close)
        return file.write

    def _save_faults(self, stack: AsyncExitStack) -> None:
        server, source = self.config.server, self.config.source.file
        if not server.recordings:
            return
        folder = (source.parent if source else Path()) / path_of(server.recordings)
        saved = FaultRecordings(folder)
        faults = self._consoles.save_faults(saved.save)

        def recording(cause: str) -> Callable[[], str | None]:
            return partial(saved.write, faults.lines(self._clock.wall(), cause), cause)

        self._process.recording = recording
        self.save_recording = lambda cause: recording(cause)()
        stack.push_async_callback(saved.close)
        stack.callback(faults.save_pending)

    def _guard_memory(self) -> AbstractContextManager[None]:
        guard = MemoryGuard(
            buffer_limit(self.config.server.buffer_bytes),
            self.config.server.kept_bytes,
            lambda: chain(self._server.sockets, self._server.http_connections),
            lambda: self._tree.memory_board.sessions,
        )
        self._tree.board.register_memory(guard.statistics)
        return guarding(guard)

    def _open_connection(self, peer: Peer, outbox: Outbox) -> Recipient[SocketEvent]:
        if peer.path == CONSOLE_PATH:
            return self._consoles.open(peer, outbox)
        return self._tree.open_connection(peer, outbox)

    def ask_to_drain(self, cause: str) -> None:
        """Begin to drain, and let the process end when that is done."""
        self._begin_drain()
        if not self.drain_asked.done():
            self.drain_asked.set_result(cause)

    def _begin_drain(self) -> None:
        self._server.refuse_clients(except_at=CONSOLE_PATH)
        self._tree.drain()

    async def drain(self, timeout_s: float) -> bool:
        """Refuse new clients and requests, and let requests in flight end.

        Consoles, pages and metrics are served until the broker stops.
        After ``timeout_s`` the rest is answered with an error, and the result is False.
        """
        self._begin_drain()
        if await self._is_drained_within(timeout_s):
            return True
        await self.abandon()
        return False

    async def abandon(self) -> None:
        """Answer every request in flight with an error."""
        if self.gave_up.done():
            await self._are_closed_within(self.config.server.close_timeout_s)
            return
        self._tree.drain(immediately=True)
        await self._is_drained_within(self.config.server.close_timeout_s)

    async def _are_closed_within(self, timeout_s: float) -> None:
        """Give the connections time to answer their requests: they do so by themselves."""
        for _ in range(int(timeout_s / CLOSED_POLL_S)):
            if not self._tree.connections():
                return
            await asyncio.sleep(CLOSED_POLL_S)

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
            tool_count=lambda: len(self._tree.directory.tools),
            statistics=self.statistics,
            clock=self._clock,
        )

    def _make_tree(self, upstreams: Mapping[ProviderName, Upstream]) -> Tree:
        config = self.config
        providers = {}
        for provider in config.provider:
            settings = provider_settings(provider, config)
            name = ProviderName(provider.name)
            providers[name] = ProviderParts(settings, Account(settings.capacity), upstreams[name])
        return Tree(
            self.system,
            version=__version__,
            clock=self._clock,
            authenticator=authenticator(config),
            places=places(config),
            sessions=SessionTable(
                2 * config.server.max_connections, config.session.resume_s, tenant_weights(config)
            ),
            routing=RoutingTable(
                tuple((ProviderName(each.name), each.models) for each in config.provider),
                config.chat.default_model,
                tuple(
                    RouteSettings(each.model, each.to, each.reasons, each.responses_by_chat)
                    for each in config.route
                ),
            ),
            providers=providers,
            finish_on_disconnect=frozenset(
                ProviderName(each.name)
                for each in config.provider
                if each.on_disconnect == "finish"
            ),
            session_settings=lru_cache(maxsize=1024)(partial(session_settings, config)),
            connection_settings=connection_settings(config),
            listeners=Listeners(
                on_started=self._can_admit,
                on_drained=self._drained.set,
                on_give_up=self._give_up,
                on_stopped=self._stopped.set,
            ),
            randomness=Randomness(),
            exchange_settings=exchange_settings(config),
            families={
                ProviderName(each.name): frozenset(
                    each.families if isinstance(each, OpenAIProvider) else ("chat",)
                )
                for each in config.provider
            },
        )

    def _open_upstream(self, provider: ProviderConfig) -> Upstream:
        match provider:
            case OpenAIProvider():
                from exai_actors.edges.http.upstream import HttpUpstream

                upstream = HttpUpstream(
                    name=provider.name,
                    base_url=provider.base_url,
                    api_key=self.config.api_keys.get(ProviderName(provider.name)),
                    settings=http_settings(provider),
                    relayed=relay_addresses(provider),
                )
                if provider.count_tokens == "relay":
                    self._counting[provider.name] = upstream.ask
                return upstream
            case SyntheticProvider():
                from exai_actors.edges.synthetic.upstream import SyntheticUpstream

                return SyntheticUpstream(
                    asyncio.get_running_loop().call_later,
                    self.system.driver.now,
                    name=provider.name,
                    models=provider.models,
                    settings=synthetic_settings(provider),
                )

    def _can_admit(self) -> None:
        if not self._started.done():
            self._started.set_result(None)

    def _give_up(self, report: CrashReport) -> None:
        log.critical(
            "broker.gave_up",
            cause=report.cause,
            actor=report.path,
            error=report.error,
            restarts=report.restarts,
            incidents=[f"{each.path}: {each.error}" for each in report.incidents],
        )
        if not self.gave_up.done():
            self.gave_up.set_result(report)


@asynccontextmanager
async def open_broker(
    config: Config, *, driver_of: Callable[[asyncio.AbstractEventLoop], Driver] = AsyncioDriver
) -> AsyncIterator[Broker]:
    """Run a broker on the running loop while the block runs.

    Raises UsageError when the address cannot be listened on. Leaving the block abandons requests
    in flight; call ``drain`` first to let them end.
    """
    broker = Broker(config, driver_of(asyncio.get_running_loop()))
    async with AsyncExitStack() as stack:
        await broker.start(stack)
        yield broker
