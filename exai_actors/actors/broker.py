"""The broker actor: admits connections into sessions and supervises all other actors.

Each child ends with an Exit that arrives here exactly once. A provider that failed is started
again within a budget, and closed for a while beyond it; a connection or session that ended is
forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, assert_never

import structlog

from exai_actors.actors.children import Child, ConnectionChild, ProviderChild, SessionChild
from exai_actors.core import error_bodies
from exai_actors.core.authentication import Authenticator, Identity
from exai_actors.core.log_budget import LogBudget
from exai_actors.core.places import Places
from exai_actors.core.restarts import RestartBudget
from exai_actors.core.session.table import (
    AttachResult,
    SessionTable,
    can_be_guessed,
    session_of,
)
from exai_actors.core.statistics import ListenerStatistics
from exai_actors.core.wrong_tokens import WrongToken, WrongTokens
from exai_actors.errors import safe_str
from exai_actors.ids import ConnectionId, ProviderName, SessionId
from exai_actors.messages.broker import (
    Admit,
    AwaitProvider,
    BrokerMessage,
    ConnectionOpened,
    DrainBroker,
    ExpireSessions,
    ProviderModels,
    ReopenProvider,
    RotateToken,
    SessionFinished,
    SessionFinishes,
)
from exai_actors.messages.connection import (
    ConnectionMessage,
    Drain,
    NotAdmitted,
    SessionLost,
    TokenRotated,
    TokenWithdrawn,
)
from exai_actors.messages.recipient import Recipient
from exai_actors.messages.session import Attach, Detach, ProviderDecided
from exai_actors.runtime import Exit, ExitReason, LoopActor, LoopRef, Started

if TYPE_CHECKING:
    from exai_actors.actors.directory import Directory
    from exai_actors.actors.statistics_board import StatisticsBoard

log = structlog.get_logger()

RESTART_INTENSITY = 5
RESTART_PERIOD_S = 30.0
CLOSED_FOR_S = 60.0
"""How long a provider that fails too often is left alone."""


class BrokerActor(LoopActor):
    """``spawn_provider`` and ``spawn_session`` spawn a child supervised by the given actor.

    ``on_started`` is called once the providers are spawned, ``on_drained`` once no connection is
    left after DrainBroker, ``on_give_up`` when this actor fails.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        places: Places,
        sessions: SessionTable,
        directory: Directory,
        board: StatisticsBoard,
        providers: tuple[ProviderName, ...],
        spawn_provider: Callable[[ProviderChild, LoopRef[Any]], LoopRef[Any]],
        spawn_session: Callable[[SessionChild, Identity, LoopRef[Any]], LoopRef[Any]],
        new_session_id: Callable[[], SessionId],
        on_started: Callable[[], None],
        on_drained: Callable[[], None],
        on_give_up: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._authenticator = authenticator
        self._places = places
        self._table = sessions
        self._directory = directory
        self._board = board
        self._providers = providers
        self._spawn_provider = spawn_provider
        self._spawn_session = spawn_session
        self._new_session_id = new_session_id
        self._on_started = on_started
        self._on_drained = on_drained
        self._on_give_up = on_give_up
        self._children: dict[str, Child] = {}
        self._sessions: dict[SessionId, LoopRef[Any]] = {}
        self._session_count = 0
        self._session_of: dict[ConnectionId, SessionId] = {}
        self._connections: dict[ConnectionId, Recipient[ConnectionMessage]] = {}
        self._budgets = {
            name: RestartBudget(RESTART_INTENSITY, RESTART_PERIOD_S) for name in providers
        }
        self._rejections = LogBudget()
        self._guess_reports = LogBudget()
        self._wrong_tokens = WrongTokens()
        self._token_of: dict[ConnectionId, str] = {}
        self._expiry_armed = False
        self._draining = False

    def on_failure(
        self,
        _exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        # Without this actor no client is admitted any more: the process has to be restarted.
        self._on_give_up(f"the broker's guardian failed: {exception_value!r}")

    def on_start(self) -> None:
        if self.system.stopping:
            return
        self._board.register_listener(self.statistics)
        for name in self._providers:
            self._start_provider(name)
        self._on_started()

    def statistics(self) -> ListenerStatistics:
        return ListenerStatistics(
            len(self._places),
            len(self._sessions),
            self._draining,
            self._places.refused,
            self._wrong_tokens.count,
        )

    def on_receive(self, message: BrokerMessage | Started | Exit) -> None:
        match message:
            case Admit():
                self._admit(message)
            case Exit():
                self._child_exited(message)
            case ConnectionOpened(connection_id, connection):
                self._connection_opened(connection_id, connection)
            case RotateToken():
                self._rotate(message)
            case ProviderModels(provider, models):
                self._directory.publish(self._directory.routing.with_models(provider, models))
            case SessionFinishes(session):
                self._table.finishes(session)
            case SessionFinished(session):
                self._table.finished(session, self.now())
                self._arm_expiry()
            case AwaitProvider(provider, session):
                # The provider's Exit came before, on the system lane: by now it is started again,
                # or closed.
                session.tell(ProviderDecided(provider))
            case ExpireSessions():
                self._expire_sessions()
            case ReopenProvider(provider):
                self._start_provider(provider)
            case DrainBroker(immediately):
                self._drain(immediately=immediately)
            case Started():
                pass
            case _:
                assert_never(message)

    def _admit(self, admit: Admit) -> None:
        if admit.connection_id not in self._connections:
            return  # it has ended meanwhile
        identity = self._authenticator.identify(admit.token)
        if identity is None:
            self._log_rejected(admit, "unauthorized")
            wrong = self._note_wrong_token(admit.address)
            admit.connection.tell(
                NotAdmitted(
                    "unauthorized", "the access token is missing or not valid", wrong.delay_s
                )
            )
            return
        no_place = self._places.take(admit.connection_id, identity.tenant, admit.address)
        if no_place is not None:
            self._log_rejected(admit, "overloaded")
            admit.connection.tell(NotAdmitted("overloaded", no_place))
            return
        name = admit.session_id
        session_id = session_of(identity.tenant, name or self._new_session_id())
        if not self._table.may_join(session_id, admit.resume):
            # Another client's session has this name: this one gets its own, under another.
            name = None
            session_id = session_of(identity.tenant, self._new_session_id())
        result, evicted = self._table.attach(session_id, admit.connection_id, identity.tenant)
        if result is AttachResult.FULL:
            self._log_rejected(admit, "overloaded")
            self._places.free(admit.connection_id)
            admit.connection.tell(NotAdmitted("overloaded", "all sessions are in use; come later"))
            return
        if evicted is not None:
            self._end_session(evicted)
        if result is AttachResult.NEW and not self._start_session(session_id, identity):
            self._table.remove(session_id)
            self._places.free(admit.connection_id)
            error = error_bodies.session_failed()
            admit.connection.tell(NotAdmitted("internal_error", error.message))
            return
        if result is AttachResult.NEW and name is not None and can_be_guessed(name):
            self._table.protect(session_id, self._new_session_id())
        if admit.token is not None and self._authenticator.required:
            self._token_of[admit.connection_id] = admit.token
        self._session_of[admit.connection_id] = session_id
        self._sessions[session_id].tell(
            Attach(
                admit.connection_id,
                admit.connection,
                resumed=result is AttachResult.KNOWN,
                resume=self._table.secret_of(session_id),
            )
        )

    def _rotate(self, message: RotateToken) -> None:
        own = self._token_of.get(message.connection_id, "")
        error = self._authenticator.rotate(message.old, message.new, own)
        message.connection.tell(TokenRotated(error))
        if error == "unauthorized":
            self._note_wrong_token(message.address)
        elif error is None and message.new != message.old:
            ended = 0
            for connection_id, token in list(self._token_of.items()):
                if token == message.old and connection_id != message.connection_id:
                    self._connections[connection_id].tell_system(TokenWithdrawn())
                    ended += 1
            self._token_of[message.connection_id] = message.new
            log.warning(
                "access.token_rotated",
                address=message.address,
                connections_ended=ended,
                remedy="replace the token in the configuration too: it is in force again after a "
                "restart",
            )

    def _note_wrong_token(self, address: str) -> WrongToken:
        wrong = self._wrong_tokens.note(address, self.now())
        if wrong.is_reported and self._guess_reports.allow(self.now()):
            log.warning(
                "access.tokens_guessed",
                address=address,
                wrong_tokens=wrong.count,
                suppressed=self._guess_reports.take_suppressed(),
            )
        return wrong

    def _log_rejected(self, admit: Admit, reason: str) -> None:
        budget = self._rejections
        if budget.allow(self.now()):
            log.info(
                "client.rejected",
                reason=reason,
                address=admit.address,
                presented="another token" if admit.token else "no token",
                suppressed=budget.take_suppressed(),
            )

    def _start_session(self, session_id: SessionId, identity: Identity) -> bool:
        self._session_count += 1
        child = SessionChild(session_id, self._session_count)
        try:
            session = self._spawn_session(child, identity, self.actor_ref)
        except Exception as error:
            log.exception("session.not_started", error=safe_str(error))
            return False
        self._children[child.path] = child
        self._sessions[session_id] = session
        return True

    def _start_provider(self, name: ProviderName) -> None:
        child = ProviderChild(name)
        try:
            self._spawn_provider(child, self.actor_ref)
        except Exception as error:
            log.exception("provider.not_started", provider=name, error=safe_str(error))
            self._provider_failed(name)
        else:
            self._children[child.path] = child

    def _connection_opened(
        self, connection_id: ConnectionId, connection: Recipient[ConnectionMessage]
    ) -> None:
        child = ConnectionChild(connection_id)
        self._children[child.path] = child
        self._connections[connection_id] = connection
        if self._draining:
            connection.tell_system(Drain())

    def _child_exited(self, exit_: Exit) -> None:
        if self.system.stopping:
            return
        child = self._children.pop(exit_.path)
        match child:
            case ConnectionChild(connection_id):
                self._connection_ended(connection_id)
            case SessionChild():
                self._session_ended(child)
            case ProviderChild(name):
                if exit_.reason is not ExitReason.NORMAL:
                    self._provider_failed(name)
            case _:
                assert_never(child)

    def _connection_ended(self, connection_id: ConnectionId) -> None:
        del self._connections[connection_id]
        self._places.free(connection_id)
        self._token_of.pop(connection_id, None)
        session_id = self._session_of.pop(connection_id, None)
        if session_id is not None:
            session = self._sessions.get(session_id)
            if session is not None:
                session.tell(Detach(connection_id))
            self._table.detach(session_id, connection_id, self.now())
            self._arm_expiry()
        if self._draining and not self._connections:
            self._on_drained()

    def _session_ended(self, child: SessionChild) -> None:
        session = self._sessions.get(child.session_id)
        # An expired session may be back already, at another path.
        if session is not None and session.path == child.path:
            del self._sessions[child.session_id]
            for connection_id in self._table.connections(child.session_id):
                connection = self._connections.get(connection_id)
                if connection is not None:
                    connection.tell(SessionLost())
            self._table.remove(child.session_id)

    def _provider_failed(self, name: ProviderName) -> None:
        if self._budgets[name].allow(self.now()):
            self._start_provider(name)
        else:
            log.critical(
                "provider.closed",
                provider=name,
                restarts=RESTART_INTENSITY,
                within_s=RESTART_PERIOD_S,
                opens_in_s=CLOSED_FOR_S,
            )
            self._board.close_provider(
                name,
                f"its actor failed more than {RESTART_INTENSITY} times in {RESTART_PERIOD_S:g} s; "
                f"it is started again {CLOSED_FOR_S:g} s after that",
            )
            self.schedule(CLOSED_FOR_S, ReopenProvider(name))

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

    def _drain(self, *, immediately: bool) -> None:
        self._draining = True
        for connection in self._connections.values():
            connection.tell_system(Drain(immediately))
        if not self._connections:
            self._on_drained()
