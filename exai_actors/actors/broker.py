"""The guardian of the tree: admits connections into sessions, keeps the providers alive.

Every other actor is its child; each ends with an Exit that arrives here exactly once. A provider
that failed is started again within a budget, a connection or session that ended is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, assert_never

from exai_actors.core.authentication import Authenticator, Identity
from exai_actors.core.restarts import RestartBudget
from exai_actors.core.session.table import AttachResult, SessionTable, session_of
from exai_actors.core.statistics import ListenerStatistics
from exai_actors.ids import ConnectionId, ProviderName, SessionId
from exai_actors.messages.broker import (
    Admit,
    BrokerMessage,
    ConnectionOpened,
    DrainBroker,
    ExpireSessions,
    ProviderModels,
    RotateToken,
    SessionFinished,
    SessionFinishes,
)
from exai_actors.messages.connection import (
    ConnectionMessage,
    Drain,
    NotAdmitted,
    TokenRotated,
)
from exai_actors.messages.recipient import Recipient
from exai_actors.messages.session import Attach, Detach
from exai_actors.runtime import Exit, ExitReason, LoopActor, LoopRef

if TYPE_CHECKING:
    from exai_actors.actors.directory import Directory
    from exai_actors.actors.statistics_board import StatisticsBoard

RESTART_INTENSITY = 5
RESTART_PERIOD_S = 30.0


class BrokerActor(LoopActor):
    """``start_provider`` and ``start_session`` spawn a child supervised by this actor.

    ``on_drained`` is called once no connection is left after DrainBroker; ``on_give_up`` when a
    provider cannot be kept alive or this actor has failed.
    """

    def __init__(
        self,
        *,
        access: Authenticator,
        sessions: SessionTable,
        directory: Directory,
        board: StatisticsBoard,
        providers: tuple[ProviderName, ...],
        start_provider: Callable[[ProviderName, LoopRef[Any]], LoopRef[Any]],
        start_session: Callable[[SessionId, Identity, LoopRef[Any]], LoopRef[Any]],
        mint_session_id: Callable[[], SessionId],
        on_drained: Callable[[], None],
        on_give_up: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._access = access
        self._table = sessions
        self._directory = directory
        self._board = board
        self._providers = providers
        self._start_provider = start_provider
        self._start_session = start_session
        self._mint = mint_session_id
        self._on_drained = on_drained
        self._on_give_up = on_give_up
        self._sessions: dict[SessionId, LoopRef[Any]] = {}
        self._session_at: dict[str, SessionId] = {}
        self._session_of: dict[ConnectionId, SessionId] = {}
        self._connections: dict[ConnectionId, Recipient[ConnectionMessage]] = {}
        self._budgets = {
            name: RestartBudget(RESTART_INTENSITY, RESTART_PERIOD_S) for name in providers
        }
        self._expiry_armed = False
        self._draining = False

    def on_failure(
        self,
        _exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        # Without its guardian nobody is admitted any more: better to end and be started anew.
        self._on_give_up(f"the broker's guardian failed: {exception_value!r}")

    def on_start(self) -> None:
        if self.system.stopping:
            return
        self._board.post_listener(self.statistics)
        for provider in self._providers:
            self._start_provider(provider, self.actor_ref)

    def statistics(self) -> ListenerStatistics:
        return ListenerStatistics(len(self._connections), len(self._sessions), self._draining)

    def on_receive(self, message: BrokerMessage | Exit) -> None:
        match message:
            case Admit():
                self._admit(message)
            case Exit():
                self._child_exited(message)
            case ConnectionOpened(connection_id, connection):
                self._connections[connection_id] = connection
                if self._draining:
                    connection.tell_system(Drain())
            case RotateToken(connection, old, new):
                connection.tell(TokenRotated(self._access.rotate(old, new)))
            case ProviderModels(provider, models):
                self._directory.publish(self._directory.routing.with_models(provider, models))
            case SessionFinishes(session):
                self._table.finishes(session)
            case SessionFinished(session):
                self._table.finished(session, self.now())
                self._arm_expiry()
            case ExpireSessions():
                self._expire_sessions()
            case DrainBroker(at_once):
                self._drain(at_once)
            case _:
                assert_never(message)

    def _admit(self, admit: Admit) -> None:
        grant = self._access.identify(admit.token)
        if grant is None:
            admit.connection.tell(
                NotAdmitted("unauthorized", "the token is missing or is none of the broker's")
            )
            return
        session_id = session_of(grant.tenant, admit.session_id or self._mint())
        place, evicted = self._table.attach(session_id, admit.connection_id)
        if place is AttachResult.FULL:
            admit.connection.tell(NotAdmitted("overloaded", "all sessions are in use; come later"))
            return
        if evicted is not None:
            self._end_session(evicted)
        if place is AttachResult.NEW:
            session = self._start_session(session_id, grant, self.actor_ref)
            self._sessions[session_id] = session
            self._session_at[session.path] = session_id
        self._session_of[admit.connection_id] = session_id
        self._sessions[session_id].tell(Attach(admit.connection_id, admit.connection))

    def _child_exited(self, exit_: Exit) -> None:
        if self.system.stopping:
            return
        _, kind, name = exit_.path.split("/", 2)
        match kind:
            case "listener":
                self._connection_ended(ConnectionId(name))
            case "sessions":
                self._session_ended(exit_.path)
            case "providers":
                if exit_.reason is not ExitReason.NORMAL:
                    self._provider_failed(ProviderName(name))

    def _connection_ended(self, connection_id: ConnectionId) -> None:
        self._connections.pop(connection_id, None)
        session_id = self._session_of.pop(connection_id, None)
        if session_id is not None:
            session = self._sessions.get(session_id)
            if session is not None:
                session.tell(Detach(connection_id))
            self._table.detach(session_id, connection_id, self.now())
            self._arm_expiry()
        if self._draining and not self._connections:
            self._on_drained()

    def _session_ended(self, path: str) -> None:
        session_id = self._session_at.pop(path, None)
        if session_id is None:
            return
        # An expired id may already live again, at another path.
        known = self._sessions.get(session_id)
        if known is not None and known.path == path:
            del self._sessions[session_id]
            self._table.remove(session_id)

    def _provider_failed(self, provider: ProviderName) -> None:
        if self._budgets[provider].allow(self.now()):
            self._start_provider(provider, self.actor_ref)
        else:
            self._on_give_up(
                f"provider '{provider}' failed more than {RESTART_INTENSITY} times "
                f"in {RESTART_PERIOD_S:g} s"
            )

    def _arm_expiry(self) -> None:
        expiry = self._table.next_expiry()
        if expiry is not None and not self._expiry_armed:
            self._expiry_armed = True
            self.schedule(max(0.0, expiry - self.now()), ExpireSessions())

    def _expire_sessions(self) -> None:
        self._expiry_armed = False
        for session_id in self._table.expired(self.now()):
            self._end_session(session_id)
        self._arm_expiry()

    def _end_session(self, session_id: SessionId) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            session.stop(block=False)

    def _drain(self, at_once: bool) -> None:
        self._draining = True
        for connection in self._connections.values():
            connection.tell_system(Drain(at_once))
        if not self._connections:
            self._on_drained()
