"""The requests of one session: which are in flight, who waits for each, which have ended and how.

Exactly one outcome per request: it is in flight until ``end`` or ``desert`` takes it out, and after
that nothing finds it any more.
"""

from __future__ import annotations

from enum import Enum

from exai_actors.core.calls import Outcome, OutcomeKind
from exai_actors.core.deadlines import Deadlines
from exai_actors.core.outcomes import OutcomeStore
from exai_actors.core.routing import Route
from exai_actors.core.tools import ChatRequest
from exai_actors.core.window import Entry, Window
from exai_actors.ids import ConnectionId, ConversationId, RequestKey


class ActiveRequest:
    """A chat request without an outcome yet.

    ``waiters`` are the connections that asked for it, the first of which gets its chunks.
    ``deadline`` is an instant in seconds, ``timeout_s`` how far off it was at first.
    """

    __slots__ = (
        "at_provider",
        "call",
        "conversation",
        "deadline",
        "repeatable",
        "reports_progress",
        "request",
        "route",
        "sequence",
        "stream",
        "timeout_s",
        "waiters",
    )

    def __init__(
        self,
        request: RequestKey,
        call: ChatRequest,
        connection: ConnectionId,
        route: Route,
        conversation: ConversationId,
        *,
        now: float,
        timeout_s: float,
        repeatable: bool,
        stream: bool,
        reports_progress: bool,
    ) -> None:
        self.request = request
        self.call = call
        self.route = route
        self.conversation = conversation
        self.deadline = now + timeout_s
        self.timeout_s = timeout_s
        self.repeatable = repeatable
        self.stream = stream
        self.reports_progress = reports_progress
        self.at_provider = False
        self.sequence = 0
        self.waiters = [connection]


class Repeat(Enum):
    """What an id turned out to be, other than one with a known outcome."""

    NEW = "new"
    IN_FLIGHT = "in flight"
    OTHER_CALL = "other call"


class SessionRequests:
    """Never more than the window's limit is at providers, nor more than its queue waits."""

    __slots__ = ("_active", "_deadlines", "_outcomes", "_window")

    def __init__(self, window: Window, outcomes: OutcomeStore) -> None:
        self._window = window
        self._outcomes = outcomes
        self._active: dict[RequestKey, ActiveRequest] = {}
        self._deadlines = Deadlines()

    @property
    def waiting(self) -> int:
        """How many wait for room in the window or for their conversation."""
        return self._window.waiting

    def find(self, request: RequestKey) -> ActiveRequest | None:
        return self._active.get(request)

    def active(self) -> tuple[ActiveRequest, ...]:
        return tuple(self._active.values())

    def recognise(
        self, request: RequestKey, fingerprint: int, connection: ConnectionId, now: float
    ) -> Repeat | Outcome:
        """Whether an id is new, or else what it stands for.

        A connection that repeats a request in flight becomes one more waiter of it.
        """
        active = self._active.get(request)
        if active is not None:
            if hash(active.call) != fingerprint:
                return Repeat.OTHER_CALL
            if connection not in active.waiters:
                active.waiters.append(connection)
            return Repeat.IN_FLIGHT
        known = self._outcomes.find(request, now)
        if known is None:
            return Repeat.NEW
        return known.outcome if known.fingerprint == fingerprint else Repeat.OTHER_CALL

    def accept(self, active: ActiveRequest) -> Entry:
        """Take a new request in; STARTED means that it is to be sent to its provider now."""
        named = active.call.continuation_id
        entry = self._window.enter(active.request, None if named is None else active.conversation)
        if entry is not Entry.FULL:
            self._active[active.request] = active
            self._deadlines.add(active.request, active.deadline)
        return entry

    def end(self, active: ActiveRequest, outcome: Outcome, now: float) -> tuple[ActiveRequest, ...]:
        """Take a request out with its outcome; gives those that are to be sent in its place."""
        if active.repeatable:
            self.remember(active.request, hash(active.call), outcome, now)
        return self.desert(active)

    def desert(self, active: ActiveRequest) -> tuple[ActiveRequest, ...]:
        """Take a request out that nobody waits for; repeated later, it runs anew."""
        del self._active[active.request]
        self._deadlines.discard(active.request)
        return tuple(self._active[started] for started in self._window.leave(active.request))

    def remember(self, request: RequestKey, fingerprint: int, outcome: Outcome, now: float) -> None:
        """Keep an outcome for repeats; a refusal is not kept: nothing was done, it may be tried."""
        if outcome.kind is not OutcomeKind.REFUSED:
            self._outcomes.remember(request, fingerprint, outcome, now)

    def leave(self, connection: ConnectionId) -> tuple[ActiveRequest, ...]:
        """A connection waits for nothing any more; gives the requests that nobody waits for."""
        deserted = []
        for active in self._active.values():
            if connection in active.waiters:
                active.waiters.remove(connection)
                if not active.waiters:
                    deserted.append(active)
        return tuple(deserted)

    def next_deadline(self) -> float | None:
        return self._deadlines.next()

    def overdue(self, now: float) -> tuple[ActiveRequest, ...]:
        """The requests whose deadline has passed, each given once; the caller ends them."""
        return tuple(self._active[request] for request in self._deadlines.due(now))
