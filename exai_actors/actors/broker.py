"""The broker actor, or guardian: admits connections into sessions.

All that it knows about clients outlives it in its ``Admissions``. Its next incarnation compares
them with the actors that are alive, and clears up behind those that ended in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, assert_never

import structlog

from exai_actors.core import error_bodies
from exai_actors.core.authentication import Identity
from exai_actors.core.log_budget import LogBudget
from exai_actors.core.session.table import AttachResult, can_be_guessed, name_of, session_of
from exai_actors.core.statistics import ListenerStatistics
from exai_actors.core.wrong_tokens import WrongToken
from exai_actors.errors import safe_str
from exai_actors.ids import ConnectionId, ProviderName, SessionId, TenantName
from exai_actors.messages.broker import (
    Admit,
    BeginSession,
    BrokerMessage,
    ConnectionOpened,
    DrainBroker,
    EndSessionBeforeCall,
    ExpireSessions,
    ProviderModels,
    RotateToken,
    SessionFinished,
    SessionFinishes,
    SessionGone,
    SessionRestarted,
)
from exai_actors.messages.connection import (
    Admitted,
    BrokerRestarted,
    ClientMessage,
    Disconnect,
    Drain,
    NotAdmitted,
    SessionLost,
    TokenRotated,
    TokenWithdrawn,
)
from exai_actors.messages.recipient import Recipient
from exai_actors.messages.session import Attach, Detach, EndSession, SessionMessage
from exai_actors.runtime import Down, LoopActor, LoopRef

if TYPE_CHECKING:
    from exai_actors.actors.admissions import Admissions, SessionRecord
    from exai_actors.actors.directory import Directory
    from exai_actors.actors.statistics_board import StatisticsBoard

log = structlog.get_logger()

_EXPIRED_AT_A_TIME = 50
"""Thousands may expire at the same time, and others have their turns in between."""


class BrokerActor(LoopActor):
    """``spawn_session`` spawns the actor of a session, ``session`` finds it if it is alive, and
    ``connections`` finds all connections that are.

    ``on_started`` is called once clients can be admitted, ``on_drained`` once no connection is left
    after DrainBroker.
    """

    def __init__(
        self,
        *,
        admissions: Admissions,
        directory: Directory,
        board: StatisticsBoard,
        spawn_session: Callable[[SessionRecord], object],
        session: Callable[[SessionRecord], LoopRef[Any] | None],
        connections: Callable[[], Mapping[ConnectionId, LoopRef[Any]]],
        new_session_id: Callable[[], SessionId],
        on_started: Callable[[], None],
        on_drained: Callable[[], None],
    ) -> None:
        super().__init__()
        self._admissions = admissions
        self._authenticator = admissions.authenticator
        self._places = admissions.places
        self._table = admissions.table
        self._book = admissions.book
        self._wrong_tokens = admissions.wrong_tokens
        self._token_of = admissions.token_of
        self._directory = directory
        self._board = board
        self._spawn_session = spawn_session
        self._find_session = session
        self._find_connections = connections
        self._new_session_id = new_session_id
        self._on_started = on_started
        self._on_drained = on_drained
        self._session_of: dict[ConnectionId, SessionId] = {}
        self._connections: dict[ConnectionId, Recipient[ClientMessage]] = {}
        self._rejections = LogBudget()
        self._guess_reports = LogBudget()
        self._expiry_armed = False

    def on_start(self) -> None:
        self._board.register_listener(self.statistics)
        if self.incarnation > 1:
            self._rebuild()
        self._on_started()

    def statistics(self) -> ListenerStatistics:
        return ListenerStatistics(
            len(self._places),
            len(self._book),
            self._admissions.draining,
            self._places.refused,
            self._wrong_tokens.count,
        )

    def on_receive(self, message: BrokerMessage | Down[ConnectionId]) -> None:
        match message:
            case Admit():
                self._admit(message)
            case ConnectionOpened(connection_id=connection_id, connection=connection):
                self._connection_opened(connection_id, connection)
            case BeginSession(connection_id=connection_id):
                self._begin_session(connection_id)
            case EndSessionBeforeCall(number=number, reason=reason):
                self._end_for_operator(number, reason)
            case Down():
                self._connection_ended(message.tag)
            case RotateToken():
                self._rotate(message)
            case ProviderModels(provider=provider, models=models):
                self._directory.publish(self._directory.everything.with_models(provider, models))
            case SessionFinishes(session=session):
                self._table.finishes(session)
            case SessionFinished(session=session):
                self._table.finished(session, self.now())
                self._arm_expiry()
            case SessionRestarted(session=session):
                self._attach_all(session)
            case SessionGone(session=session):
                self._session_gone(session)
            case ExpireSessions():
                self._expire_sessions()
            case DrainBroker(immediately=immediately):
                self._drain(immediately=immediately)
            case _:
                assert_never(message)

    def _rebuild(self) -> None:
        """Find out what has happened since the earlier incarnation failed."""
        for provider in self._board.statistics().providers:
            name = ProviderName(provider.name)
            self._directory.publish(self._directory.everything.with_models(name, provider.models))
        living = self._find_connections()
        for connection_id, connection in living.items():
            self._connection_opened(connection_id, connection)
        for session in self._table.sessions():
            for connection_id in self._table.connections(session):
                self._session_of[connection_id] = session
        for connection_id in set(self._admissions.known_connections()) - living.keys():
            self._forget(connection_id)
        for session in self._table.sessions():
            if self._book.find(session) is None:
                self._session_gone(session)
            else:
                self._attach_all(session)
        for record in self._book.records():
            if record.session_id not in self._table:
                self._end_session(record.session_id)
        for connection in living.values():
            connection.tell_system(BrokerRestarted())
        self._arm_expiry()
        log.warning(
            "broker.rebuilt",
            incarnation=self.incarnation,
            connections=len(living),
            sessions=len(self._book),
        )
        if self._admissions.draining:
            self._drain(immediately=False)

    def _admit(self, admit: Admit) -> None:
        if admit.connection_id not in self._connections:
            return  # it has ended meanwhile
        if (known := self._session_of.get(admit.connection_id)) is not None:
            # It asks again, because the guardian failed in between.
            if admit.has_call:
                self._begin_session(admit.connection_id)
            else:
                self._attach_all(known)
            return
        if self._admissions.draining:
            return  # its Drain has ended it
        identity = self._authenticator.identify(admit.token)
        if identity is None:
            self._reject_token(admit)
        elif self._take_place(admit, identity.tenant):
            self._join(admit, identity)

    def _reject_token(self, admit: Admit) -> None:
        self._log_rejected(admit, "unauthorized")
        wrong = self._note_wrong_token(admit.address)
        problem = "the access token is missing or not valid"
        admit.connection.tell(NotAdmitted("unauthorized", problem, wrong.delay_s))

    def _take_place(self, admit: Admit, tenant: TenantName) -> bool:
        no_place = self._places.take(admit.connection_id, tenant, admit.address)
        if no_place is not None:
            self._log_rejected(admit, "overloaded")
            admit.connection.tell(NotAdmitted("overloaded", no_place, tenant=tenant))
        return no_place is None

    def _join(self, admit: Admit, identity: Identity) -> None:
        """Attach a client that has a place to its session, which begins if there is none."""
        tenant, name = identity.tenant, admit.session_id
        session_id = session_of(tenant, name or self._new_session_id())
        if not self._table.may_join(session_id, admit.resume):
            # Another client's session has this name: this one gets its own, under another.
            name = None
            session_id = session_of(tenant, self._new_session_id())
        result, evicted = self._table.attach(session_id, admit.connection_id, tenant)
        if result is AttachResult.FULL:
            self._log_rejected(admit, "overloaded")
            self._places.free(admit.connection_id)
            full = "all sessions are in use; come later"
            admit.connection.tell(NotAdmitted("overloaded", full, tenant=tenant))
            return
        if evicted is not None:
            self._end_session(evicted)
        if result is AttachResult.NEW:
            self._book.open(session_id, identity)
            if name is not None and can_be_guessed(name):
                self._table.protect(session_id, self._new_session_id())
        if admit.token is not None and self._authenticator.required:
            self._token_of[admit.connection_id] = admit.token
        self._session_of[admit.connection_id] = session_id
        record = self._book.find(session_id)
        if record is None:
            return  # SessionGone follows
        if not admit.has_call or record.has_begun:
            resumed = result is AttachResult.KNOWN
            self._attach(record, admit.connection_id, admit.connection, resumed=resumed)
        elif not self._begin(record):
            self._forget(admit.connection_id)
            failed = error_bodies.session_failed().message
            admit.connection.tell(NotAdmitted("internal_error", failed, tenant=tenant))
            self._session_gone(session_id)

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

    def _begin(self, record: SessionRecord) -> bool:
        """Spawn the actor of a session that has none yet, and attach its connections; False if that
        failed.
        """
        try:
            self._spawn_session(record)
        except Exception as error:
            log.exception("session.not_started", error=safe_str(error))
            self._book.close(record)
            return False
        self._attach_all(record.session_id, begins=True)
        return True

    def _begin_session(self, connection_id: ConnectionId) -> None:
        """Begin the session of a connection that has a call, unless another call was first."""
        session_id = self._session_of.get(connection_id)
        record = None if session_id is None else self._book.find(session_id)
        if record is None or record.has_begun:
            return  # it or its session has ended, and knows or will; or it is attached already
        if not self._begin(record):
            self._session_gone(record.session_id)

    def _end_for_operator(self, number: str, reason: str) -> None:
        record = self._book.numbered(number)
        if record is None:
            return  # it has ended meanwhile
        session_id = record.session_id
        if record.has_begun:
            if (session := self._find_session(record)) is not None:
                session.tell(EndSession(reason))
            return
        self._end_session(session_id)
        for connection_id in self._table.connections(session_id):
            self._session_of.pop(connection_id, None)
            connection = self._connections.get(connection_id)
            if connection is not None:
                connection.tell(Disconnect())
        self._table.remove(session_id)

    def _session(self, session_id: SessionId) -> Recipient[SessionMessage] | None:
        """The session's actor; None before it begins and while it is being restarted."""
        record = self._book.find(session_id)
        return None if record is None else self._find_session(record)

    def _attach_all(self, session_id: SessionId, *, begins: bool = False) -> None:
        """Attach a session's connections to its present incarnation, if it is alive."""
        record = self._book.find(session_id)
        if record is None:
            return  # SessionGone follows
        for connection_id in self._table.connections(session_id):
            connection = self._connections.get(connection_id)
            if connection is not None:
                self._attach(record, connection_id, connection, resumed=True, begins=begins)

    def _attach(
        self,
        record: SessionRecord,
        connection_id: ConnectionId,
        connection: Recipient[ClientMessage],
        *,
        resumed: bool,
        begins: bool = False,
    ) -> None:
        resume = self._table.secret_of(record.session_id)
        if not record.has_begun:
            name, tenant = name_of(record.session_id), record.identity.tenant
            connection.tell(Admitted(name, None, tenant, resumed=resumed, resume=resume))
            return
        session = self._find_session(record)
        if session is not None:  # or else SessionRestarted or SessionGone follows
            attach = Attach(connection_id, connection, resumed=resumed, resume=resume)
            if begins:
                # Also if it begins suspended: calls are to reach it, and to expire there.
                session.tell_system(attach)
            else:
                session.tell(attach)

    def _session_gone(self, session_id: SessionId) -> None:
        if self._book.find(session_id) is not None:
            return  # one of the same id has begun since
        for connection_id in self._table.connections(session_id):
            self._session_of.pop(connection_id, None)
            connection = self._connections.get(connection_id)
            if connection is not None:
                connection.tell(SessionLost())
        self._table.remove(session_id)

    def _connection_opened(
        self, connection_id: ConnectionId, connection: Recipient[ClientMessage]
    ) -> None:
        self._connections[connection_id] = connection
        if isinstance(connection, LoopRef):
            self.watch(connection, connection_id)
        if self._admissions.draining:
            connection.tell_system(Drain())

    def _connection_ended(self, connection_id: ConnectionId) -> None:
        del self._connections[connection_id]
        self._forget(connection_id)
        if self._admissions.draining and not self._connections:
            self._on_drained()

    def _forget(self, connection_id: ConnectionId) -> None:
        self._places.free(connection_id)
        self._token_of.pop(connection_id, None)
        session_id = self._session_of.pop(connection_id, None)
        if session_id is not None:
            record = self._book.find(session_id)
            session = None if record is None else self._find_session(record)
            if session is not None:
                session.tell(Detach(connection_id))
            has_begun = record is not None and record.has_begun
            self._table.detach(session_id, connection_id, self.now(), has_begun=has_begun)
            self._arm_expiry()

    def _arm_expiry(self) -> None:
        expiry = self._table.next_expiry()
        if expiry is not None and not self._expiry_armed:
            self._expiry_armed = True
            self.schedule(max(0.0, expiry - self.now()), ExpireSessions())

    def _expire_sessions(self) -> None:
        self._expiry_armed = False
        for session_id in self._table.expired(self.now(), _EXPIRED_AT_A_TIME):
            self._end_session(session_id)
        self._arm_expiry()

    def _end_session(self, session_id: SessionId) -> None:
        record = self._book.find(session_id)
        if record is not None:
            session = self._find_session(record)
            self._book.close(record)
            if session is not None:
                self.system.mark_last(session.path)
                session.stop(block=False)

    def _drain(self, *, immediately: bool) -> None:
        self._admissions.draining = True
        for connection in self._connections.values():
            connection.tell_system(Drain(immediately))
        if immediately:
            # The requests end now, not when the last client has closed its socket.
            for connection_id, session_id in self._session_of.items():
                if (session := self._session(session_id)) is not None:
                    session.tell(Detach(connection_id))
        if not self._connections:
            self._on_drained()
