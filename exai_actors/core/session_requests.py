"""The requests of one session: which are in flight, who waits for each, which have ended and how.

Exactly one outcome per request: it is in flight until ``end`` or ``desert`` takes it out, and after
that nothing finds it any more.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from exai_actors.core.calls import Outcome, OutcomeKind
from exai_actors.core.outcomes import OutcomeStore
from exai_actors.core.routing import Route
from exai_actors.core.tools import ChatRequest
from exai_actors.core.window import Entry, Window
from exai_actors.ids import ConnectionId, ConversationId, RequestKey


class ActiveRequest(msgspec.Struct, gc=False, eq=False):
    """A chat request without an outcome yet.

    ``waiters`` are the connections that asked for it. ``reader`` is the one that gets its pieces:
    the first, or nobody once that one has left in the middle, since half a stream is no answer.
    ``deadline`` is an instant in seconds, ``timeout_s`` how far off it was at first.
    ``fingerprint`` tells a repeat of this call from another call under the same id.
    """

    request: RequestKey
    call: ChatRequest
    fingerprint: int
    route: Route
    conversation: ConversationId
    waiters: list[ConnectionId]
    reader: ConnectionId | None
    deadline: float
    timeout_s: float
    repeatable: bool = True
    stream: bool = False
    reports_progress: bool = False
    priority: int = 0
    at_provider: bool = False
    sequence: int = 0

    def leave(self, connection: ConnectionId) -> None:
        """A waiter waits for it no more."""
        self.waiters.remove(connection)
        if self.reader == connection:
            self.reader = self.waiters[0] if self.waiters and not self.sequence else None


class Repeat(Enum):
    """What a known id turned out to be, other than one with an outcome."""

    IN_FLIGHT = "in flight"
    OTHER_CALL = "other call"


class SessionRequests:
    """Never more than the window's limit is at providers, nor more than its queue waits."""

    __slots__ = ("_active", "_kept", "_outcomes", "_window")

    def __init__(self, window: Window, outcomes: OutcomeStore) -> None:
        self._window = window
        self._outcomes = outcomes
        self._kept = outcomes.kept
        self._active: dict[RequestKey, ActiveRequest] = {}

    @property
    def waiting(self) -> int:
        """How many wait for room in the window or for their conversation."""
        return self._window.waiting

    def find(self, request: RequestKey) -> ActiveRequest | None:
        return self._active.get(request)

    def active(self) -> tuple[ActiveRequest, ...]:
        return tuple(self._active.values())

    def read_by(self, connection: ConnectionId) -> tuple[ActiveRequest, ...]:
        """The requests whose pieces go to this connection."""
        return tuple(each for each in self._active.values() if each.reader == connection)

    def is_known(self, request: RequestKey) -> bool:
        """Whether ``recognise`` may have something to say of this id."""
        return request in self._active or request in self._kept

    def recognise(
        self, request: RequestKey, fingerprint: int, connection: ConnectionId, now: float
    ) -> Repeat | Outcome | None:
        """What a known id stands for; None when it is new.

        A connection that repeats a request in flight becomes one more waiter of it.
        """
        active = self._active.get(request)
        if active is not None:
            if active.fingerprint != fingerprint:
                return Repeat.OTHER_CALL
            if connection not in active.waiters:
                active.waiters.append(connection)
            return Repeat.IN_FLIGHT
        known = self._outcomes.find(request, now)
        if known is None:
            return None
        return known.outcome if known.fingerprint == fingerprint else Repeat.OTHER_CALL

    def accept(self, active: ActiveRequest) -> Entry:
        """Take a new request in; STARTED means that it is to be sent to its provider now."""
        named = active.call.continuation_id
        conversation = None if named is None else active.conversation
        entry = self._window.enter(active.request, conversation, active.priority)
        if entry is not Entry.FULL:
            self._active[active.request] = active
        return entry

    def end(self, active: ActiveRequest, outcome: Outcome, now: float) -> list[ActiveRequest]:
        """Take a request out with its outcome; gives those that are to be sent in its place."""
        request = active.request
        if active.repeatable and outcome.kind is not OutcomeKind.REFUSED:
            self._outcomes.remember(request, active.fingerprint, outcome, now)
        del self._active[request]
        started = self._window.leave(request)
        return [self._active[each] for each in started] if started else []

    def desert(self, active: ActiveRequest) -> list[ActiveRequest]:
        """Take a request out that nobody waits for; repeated later, it runs anew."""
        del self._active[active.request]
        started = self._window.leave(active.request)
        return [self._active[request] for request in started] if started else []

    def remember(self, request: RequestKey, fingerprint: int, outcome: Outcome, now: float) -> None:
        """Keep an outcome for repeats; a refusal is not kept: nothing was done, it may be tried."""
        if outcome.kind is not OutcomeKind.REFUSED:
            self._outcomes.remember(request, fingerprint, outcome, now)

    def leave(self, connection: ConnectionId) -> tuple[ActiveRequest, ...]:
        """A connection waits for nothing any more; gives the requests that nobody waits for."""
        deserted = []
        for active in self._active.values():
            if connection in active.waiters:
                active.leave(connection)
                if not active.waiters:
                    deserted.append(active)
        return tuple(deserted)

    def next_deadline(self) -> float | None:
        """The earliest deadline of all; walks over them, which a session does once per timer."""
        return min((active.deadline for active in self._active.values()), default=None)

    def overdue(self, now: float) -> tuple[ActiveRequest, ...]:
        """The requests whose deadline has passed, the earliest first; the caller ends them."""
        passed = [active for active in self._active.values() if active.deadline <= now]
        return tuple(sorted(passed, key=lambda active: active.deadline))
