"""The state of all parts of a broker, read from its actors without a message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from exai_actors.actors.admissions import Admissions, SessionRecord
from exai_actors.actors.connection.actor import ConnectionActor
from exai_actors.actors.explanations import Explanations
from exai_actors.actors.http_exchange.actor import HttpExchangeActor
from exai_actors.actors.log import shown
from exai_actors.actors.paths import session_path
from exai_actors.actors.provider.actor import ProviderActor
from exai_actors.actors.provider.places import Place
from exai_actors.actors.request_board import RequestBoard
from exai_actors.actors.session.actor import SessionActor
from exai_actors.actors.session.settings import SessionSettings
from exai_actors.actors.session.view import SessionView
from exai_actors.actors.statistics_board import StatisticsBoard
from exai_actors.core.authentication import Identity
from exai_actors.core.capacity.account import Account
from exai_actors.core.observe.call_figures import CallFigures
from exai_actors.core.observe.parts import (
    ConnectionState,
    RequestCounts,
    RequestState,
    SessionState,
    UsageState,
)
from exai_actors.core.session.requests import ActiveRequest
from exai_actors.core.statistics import BrokerStatistics, TenantStatistics
from exai_actors.core.wait_reasons import WaitCode
from exai_actors.ids import ProviderName, RequestKey, SessionId, TenantName
from exai_actors.runtime import ActorSystem, LoopActor

A = TypeVar("A", bound=LoopActor)
T = TypeVar("T")
S = TypeVar("S")


class Overview:
    """Reads the actors of one system; loop thread only."""

    def __init__(
        self,
        system: ActorSystem,
        board: StatisticsBoard,
        request_board: RequestBoard,
        accounts: Mapping[ProviderName, Account],
        admissions: Admissions,
        session_settings: Callable[[Identity], SessionSettings],
    ) -> None:
        self._system = system
        self._board = board
        self._request_board = request_board
        self._accounts = accounts
        self._admissions = admissions
        self._session_settings = session_settings
        explanations = Explanations(system)
        self.why = explanations.why
        self.timeline = explanations.timeline

    def statistics(self) -> BrokerStatistics:
        return self._board.statistics()

    def tenants(self) -> tuple[TenantStatistics, ...]:
        return self._board.tenants()

    def leaving(self, provider: str) -> int:
        """The queued requests of a provider that would go elsewhere if it were closed."""
        actor = self._at(f"/providers/{provider}", ProviderActor)
        return 0 if actor is None else actor.leaving()

    def counts(self) -> RequestCounts:
        """The requests so far."""
        ended: Counter[str] = Counter()
        not_accepted = 0
        for (_, provider, _, kind, _), tally in self._request_board.figures.series.items():
            ended[kind] += tally.requests
            not_accepted += tally.requests if kind == "refused" and not provider else 0
        return RequestCounts(accepted=ended.total() - not_accepted + self.active(), **ended)

    def active(self) -> int:
        """The number of requests without an outcome."""
        return sum(actor.active for actor in self._system.behaviours(SessionActor))

    def sessions(self) -> States[SessionActor | SessionRecord, SessionState]:
        """All sessions, the oldest first, but those that are being restarted."""
        begun = {actor.path: actor for actor in self._system.behaviours(SessionActor)}
        found: list[SessionActor | SessionRecord] = []
        for record in self._admissions.book.records():
            if not record.has_begun:
                found.append(record)
            elif (actor := begun.get(session_path(record.number))) is not None:
                found.append(actor)
        return States(
            found,
            lambda each: (
                each.view.state()
                if isinstance(each, SessionActor)
                else self._before_first_call(each)
            ),
        )

    def _before_first_call(self, record: SessionRecord) -> SessionState:
        settings = self._session_settings(record.identity)
        return SessionState(
            path=session_path(record.number),
            session=shown(record.session_id),
            tenant=settings.tenant,
            connections=len(self._admissions.table.connections(record.session_id)),
            at_providers=0,
            window=settings.window,
            waiting=0,
            conversations=0,
            text=0,
            kept_bytes=0,
        )

    def connections(self) -> States[ConnectionActor | HttpExchangeActor, ConnectionState]:
        """All connections, the oldest first."""
        sessions = {
            connection: actor
            for actor in self._system.behaviours(SessionActor)
            for connection in actor.connections
        }

        def state(actor: ConnectionActor | HttpExchangeActor) -> ConnectionState:
            session = sessions.get(actor.connection_id)
            if session is None:
                return actor.state("", "")
            return actor.state(session.tenant, shown(session.session_id))

        actors: list[ConnectionActor | HttpExchangeActor] = [
            *self._system.behaviours(ConnectionActor),
            *self._system.behaviours(HttpExchangeActor),
        ]
        return States(actors, state)

    def requests(self) -> RequestStates:
        """The requests without an outcome: those at providers in the order of service, and those
        that wait in their sessions.
        """
        return RequestStates(
            self._system.behaviours(ProviderActor),
            self._system.behaviours(SessionActor),
            self._system.driver.now,
        )

    def usage(self) -> Iterator[UsageState]:
        """The usage of each account, by tenant, session and model."""
        running = {actor.name: actor.running() for actor in self._system.behaviours(ProviderActor)}
        now = self._system.driver.now()
        for provider, account in self._accounts.items():
            # Sessions with equal beginnings of their names are shown as one.
            found: dict[tuple[str, str, str], list[float]] = {}
            for (tenant, session, model), count in running.get(provider, {}).items():
                figures = found.setdefault((tenant, shown(session), model), [0] * 5)
                figures[0] += count
            for (tenant, session, model), hour, day in account.usage.users(now):
                figures = found.setdefault((tenant, shown(session), model), [0] * 5)
                figures[1] += hour.calls
                figures[2] += hour.tokens
                figures[3] += day.calls
                figures[4] += day.tokens
            for (owner, name, model), figures in found.items():
                running_now, calls_hour, tokens_hour, calls_day, tokens_day = figures
                yield UsageState(
                    provider,
                    owner,
                    name,
                    model,
                    running=int(running_now),
                    calls_hour=int(calls_hour),
                    tokens_hour=tokens_hour,
                    calls_day=int(calls_day),
                    tokens_day=tokens_day,
                )

    def recent_tokens(self) -> Counter[TenantName]:
        """The tokens that each tenant has had of all providers in the last minutes."""
        now = self._system.driver.now()
        tokens: Counter[TenantName] = Counter()
        for account in self._accounts.values():
            tokens.update(account.usage.recent_tokens(now))
        return tokens

    def call_figures(self) -> Mapping[ProviderName, CallFigures]:
        return self._board.call_figures

    def session(self, number: str) -> SessionState | None:
        """The session with this number, which is the last part of its path."""
        view = self._session(number)
        if view is not None:
            return view.state()
        record = self._not_begun(number)
        return None if record is None else self._before_first_call(record)

    def has_begun(self, number: str) -> bool:
        """Whether the session has an actor, which it has from its first call on."""
        return self._not_begun(number) is None

    def _not_begun(self, number: str) -> SessionRecord | None:
        record = self._admissions.book.numbered(number)
        return None if record is None or record.has_begun else record

    def session_weight(self, number: str) -> tuple[SessionId, float] | None:
        """The id of a session, and its weight among those of its tenant."""
        known_by = self._session(number) or self._not_begun(number)
        if known_by is None:
            return None
        session_id = known_by.session_id
        weights = (account.session_weights for account in self._accounts.values())
        known = (each[session_id] for each in weights if session_id in each)
        return session_id, next(known, 1.0)

    def connection(self, connection: str) -> ConnectionState | None:
        """The connection of this name."""
        path = f"/connections/{connection}"
        actor = self._at(path, ConnectionActor) or self._at(path, HttpExchangeActor)
        return None if actor is None else actor.state("", "")

    def request(self, key: str) -> RequestState | None:
        """The request in flight with this key of the table, without its place in the queue."""
        view, active = self._active(key)
        if view is None or active is None:
            return None
        state = "waiting"
        if active.at_provider:
            state = self._state_of(active.route.provider, view.session_id, active.run)
        waited_s = self._system.driver.now() - active.deadline + active.timeout_s
        return view.request(active, state, waited_s)

    def request_name(self, key: str) -> tuple[str, str, str] | None:
        """The text, the namespace and the session by which messages name a request."""
        view, active = self._active(key)
        if view is None or active is None:
            return None
        return active.run.text, active.run.namespace, view.session_id

    def _active(self, key: str) -> tuple[SessionView | None, ActiveRequest | None]:
        session, _, number = key.rpartition("/")
        view = self._session(session)
        found = view.requests.numbered(int(number)) if view and number.isdecimal() else None
        return view, found

    def _state_of(self, provider: ProviderName, session: SessionId, run: RequestKey) -> str:
        actor = self._at(f"/providers/{provider}", ProviderActor)
        return "sent" if actor is None else actor.state_of(session, run)

    def _session(self, number: str) -> SessionView | None:
        actor = self._at(f"/sessions/{number}", SessionActor)
        return None if actor is None else actor.view

    def _at(self, path: str, kind: type[A]) -> A | None:
        """The living actor at a path, if it is of that class."""
        ref = self._system.resolve(path)
        actor = None if ref is None else ref._actor_weakref()
        return actor if isinstance(actor, kind) else None


class States(Generic[T, S]):
    """The states of many actors or sessions, each read when its turn comes."""

    def __init__(self, parts: list[T], state: Callable[[T], S]) -> None:
        self._parts = parts
        self._state = state

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[S]:
        return map(self._state, self._parts)


class RequestStates:
    """Read one by one, while the broker works on: a reader of many pauses now and then."""

    def __init__(
        self,
        providers: list[ProviderActor],
        sessions: list[SessionActor],
        now: Callable[[], float],
    ) -> None:
        self._providers = providers
        self._sessions = {actor.session_id: actor for actor in sessions}
        self._views: dict[SessionId, SessionView] = {}
        self._now = now

    def __len__(self) -> int:
        return sum(actor.active for actor in self._sessions.values())

    def __iter__(self) -> Iterator[RequestState]:
        for provider in self._providers:
            for place in provider.places():
                for run in place.call.runs:
                    if (view := self._view(run.session)) is not None:
                        yield from self._at_provider(view, run.request, place)
        for actor in self._sessions.values():
            if actor.lets_wait:
                yield from actor.view.not_at_providers(self._now())

    def _view(self, session: SessionId) -> SessionView | None:
        view = self._views.get(session)
        if view is None and (actor := self._sessions.get(session)) is not None:
            view = self._views[session] = actor.view
        return view

    def _at_provider(
        self, view: SessionView, run: RequestKey, place: Place
    ) -> Iterator[RequestState]:
        active = view.requests.find(run)
        if active is not None:
            running_s = place.running_s
            yield view.request(
                active,
                place.state,
                self._now() - active.deadline + active.timeout_s - (running_s or 0.0),
                place.reason,
                position=place.position,
                starts_in_s=place.starts_in_s,
                attempt=place.call.attempts,
                is_held=place.reason is not None and place.reason.code is WaitCode.OPERATOR,
                running_s=running_s,
            )
