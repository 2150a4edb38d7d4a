"""The requests of one session: which are in flight, who waits for each, which have ended and how.

Exactly one outcome per request: it is in flight until ``end`` or ``abandon`` takes it out; no later
look-up finds it.

A request may be known under several names: the id it began with, ids that were joined to it by an
idempotency key, and that key itself. Repeating any of them gives the one outcome.
"""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import Any

import msgspec
from msgspec.structs import replace

from exai_actors.core.calls import IfBusy, Outcome, OutcomeKind
from exai_actors.core.routing import Route
from exai_actors.core.session.outcomes import OutcomeStore
from exai_actors.core.session.window import EnterResult, Window
from exai_actors.core.tools.table import ChatRequest
from exai_actors.errors import ErrorBody
from exai_actors.ids import ConnectionId, ConversationId, ProviderName, RequestKey

MAX_JOINED = 64
"""Ids and connections that share one request by its key; a bound, not a use."""

Waiter = tuple[ConnectionId, RequestKey]
"""A connection that waits for a request, and the name by which it asked for it."""


class ActiveRequest(msgspec.Struct, gc=False, eq=False):
    """A chat request without an outcome yet.

    ``request`` is the name its provider knows it by, and clients too while it is repeatable;
    ``names`` are the others by which clients know it. ``reader`` is the waiter that gets its
    pieces: the first, or nobody once that one has left in the middle, since half a stream is no
    answer;
    ``sequence`` counts the pieces. ``deadline`` is an instant in seconds, ``timeout_s`` how far off
    it was at first. ``fingerprint`` tells a repeat of this call from another call under the same
    name. ``tried`` is what targets of its route said that were asked before. ``granted``: those who
    wait for it have heard that it runs.
    """

    request: RequestKey
    call: ChatRequest
    fingerprint: int
    route: Route
    conversation: ConversationId
    waiters: list[Waiter]
    reader: Waiter | None
    deadline: float
    timeout_s: float
    stream: bool = False
    reports_progress: bool = False
    priority: int = 0
    if_busy: IfBusy = IfBusy.WAIT_IN_TIME
    names: tuple[RequestKey, ...] = ()
    at_provider: bool = False
    sequence: int = 0
    tried: tuple[dict[str, Any], ...] = ()
    granted: bool = False

    @property
    def can_be_collected(self) -> bool:
        """Whether somebody who comes back later can ask for its outcome."""
        return self.request.is_repeatable or bool(self.names)

    @property
    def known_as(self) -> tuple[RequestKey, ...]:
        """Every key under which a client can ask for its outcome."""
        return (self.request, *self.names) if self.request.is_repeatable else self.names

    def join(self, waiter: Waiter) -> None:
        """One more waits for it; harmless for one who does."""
        if waiter not in self.waiters:
            self.waiters.append(waiter)
            if self.reader is None and not self.sequence:
                self.reader = waiter

    def leave(self, waiter: Waiter) -> None:
        """A waiter waits for it no more."""
        self.waiters.remove(waiter)
        if self.reader == waiter:
            self.reader = self.waiters[0] if self.waiters and not self.sequence else None

    def move_on(self, reason: str | None, said: ErrorBody) -> bool:
        """Turn to the next target of the route; False if this is its end, for what was ``said``.

        Not after the first piece of an answer: two halves of different answers are none.
        """
        route = self.route
        if route.fallback is None and not self.tried:
            return False
        word = {
            "provider": route.provider,
            "model": route.model,
            "code": said.code.value,
            "message": said.message,
        }
        self.tried += (word,)
        if route.fallback is None or reason not in route.fallback_reasons or self.sequence:
            return False
        self.route = route.fallback
        self.at_provider = False
        return True


class Repeat(Enum):
    """What a known name turned out to be, other than one with an outcome."""

    IN_FLIGHT = "in flight"
    BEGUN_BEFORE = "begun before and given up"
    OTHER_CALL = "other call"
    KEY_OF_OTHER_CALL = "key of another call"
    TOO_OFTEN = "too often"


class SessionRequests:
    """Never more than the window's limit is at providers, nor more than its queue waits.

    All of them together hold at most ``text_limit`` characters of prompts and images, or are one.
    """

    __slots__ = (
        "_active",
        "_named",
        "_outcomes",
        "_runs",
        "_text",
        "_window",
        "text_limit",
    )

    def __init__(self, window: Window, outcomes: OutcomeStore, text_limit: float = inf) -> None:
        self.text_limit = text_limit
        self._text = 0
        self._window = window
        self._outcomes = outcomes
        self._active: dict[RequestKey, ActiveRequest] = {}
        self._named: dict[RequestKey, ActiveRequest] = {}
        self._runs = 0

    @property
    def waiting(self) -> int:
        """How many wait for room in the window or for their conversation."""
        return self._window.waiting

    def find(self, request: RequestKey) -> ActiveRequest | None:
        """The request in flight that its provider knows by this key."""
        return self._active.get(request)

    def find_named(self, *names: RequestKey | None) -> ActiveRequest | None:
        """What is in flight under one of these names that clients know, the first before others."""
        for name in names:
            if name is not None and (found := self._active.get(name) or self._named.get(name)):
                return found
        return None

    def active(self) -> tuple[ActiveRequest, ...]:
        return tuple(self._active.values())

    def at(self, provider: ProviderName) -> tuple[ActiveRequest, ...]:
        """What this provider has to run."""
        return tuple(
            each
            for each in self._active.values()
            if each.at_provider and each.route.provider == provider
        )

    def read_by(self, connection: ConnectionId) -> tuple[ActiveRequest, ...]:
        """The requests whose pieces go to this connection."""
        return tuple(
            each
            for each in self._active.values()
            if each.reader is not None and each.reader[0] == connection
        )

    def is_known(self, request: RequestKey) -> bool:
        """Whether ``recognise`` may have something to say of this id."""
        return request in self._active or request in self._outcomes or request in self._named

    def recognise(
        self,
        waiter: Waiter,
        fingerprint: int,
        now: float,
        key: RequestKey | None,
    ) -> Repeat | Outcome | None:
        """Find what the waiter's request, or else its idempotency key, already names.

        None means a new request. The waiter joins a request that is in flight, and a request with
        a known key becomes another name of that one. After BEGUN_BEFORE the request is new, but
        needs a ``next_run``.
        """
        repeatable = waiter[1].is_repeatable
        known = self._recognise(waiter[1], waiter, fingerprint, now) if repeatable else None
        if key is None or (known is not None and known is not Repeat.BEGUN_BEFORE):
            return known
        active = self._named.get(key)
        if active is not None and len(active.waiters) + len(active.names) > MAX_JOINED:
            return Repeat.TOO_OFTEN
        shared = self._recognise(key, waiter, fingerprint, now)
        if shared is None:
            return known
        if shared is Repeat.OTHER_CALL:
            return Repeat.KEY_OF_OTHER_CALL
        if repeatable and active is not None:
            self._name(active, waiter[1])
        elif repeatable:
            self._outcomes.share(key, waiter[1])
        return shared

    def _recognise(
        self, name: RequestKey, waiter: Waiter, fingerprint: int, now: float
    ) -> Repeat | Outcome | None:
        active = self.find_named(name)
        if active is not None:
            if active.fingerprint != fingerprint:
                return Repeat.OTHER_CALL
            active.join(waiter)
            return Repeat.IN_FLIGHT
        known = self._outcomes.find(name, now)
        if known is None:
            return None
        if known.outcome is None:
            return Repeat.BEGUN_BEFORE
        return known.outcome if known.fingerprint == fingerprint else Repeat.OTHER_CALL

    def accept(self, active: ActiveRequest) -> EnterResult:
        """Take a new request in; STARTED means that it is to be sent to its provider now."""
        text = self._text + _text_of(active.call)
        if text > self.text_limit and self._active:
            return EnterResult.TOO_MUCH_TEXT
        named = active.call.continuation_id
        entry = self._window.enter(
            active.request, None if named is None else active.conversation, active.priority
        )
        if entry is not EnterResult.FULL:
            self._text = text
            self._active[active.request] = active
            if active.names:
                self._named.update(dict.fromkeys(active.names, active))
        return entry

    def next_run(self, request: RequestKey) -> RequestKey:
        """The key for another run of this request; replies to earlier runs do not match it."""
        self._runs += 1
        return replace(request, run=self._runs)

    def run_again(self, active: ActiveRequest) -> None:
        """Give a started request the key of its next run; clients know it as before."""
        former = active.request
        following = self.next_run(former)
        self._window.rename(former, following)
        del self._active[former]
        self._active[following] = active
        active.request = following
        if former.is_repeatable:
            self._name(active, former)

    def end(self, active: ActiveRequest, outcome: Outcome, now: float) -> list[ActiveRequest]:
        """Take a request out with its outcome; gives those that are to be sent in its place."""
        self.remember(active.known_as, active.fingerprint, outcome, now)
        return self._remove(active)

    def abandon(self, active: ActiveRequest, now: float) -> list[ActiveRequest]:
        """Take a request out that nobody waits for; repeated later, it runs anew."""
        if active.at_provider and active.request.is_repeatable:
            self._outcomes.remember_begun(active.request, now)
        return self._remove(active)

    def remember(
        self,
        names: tuple[RequestKey, ...],
        fingerprint: int,
        outcome: Outcome,
        now: float,
    ) -> None:
        """Keep an outcome for repeats; a refusal is not kept: nothing was done, it may be tried."""
        if names and outcome.kind is not OutcomeKind.REFUSED:
            self._outcomes.remember(names[0], fingerprint, outcome, now)
            for name in names[1:]:
                self._outcomes.share(names[0], name)

    def leave(self, connection: ConnectionId) -> tuple[ActiveRequest, ...]:
        """A connection waits for nothing any more; gives the requests that nobody waits for."""
        deserted = []
        for active in self._active.values():
            gone = [waiter for waiter in active.waiters if waiter[0] == connection]
            for waiter in gone:
                active.leave(waiter)
            if gone and not active.waiters:
                deserted.append(active)
        return tuple(deserted)

    def next_deadline(self) -> float | None:
        """The earliest deadline of all; walks over them, which a session does once per timer."""
        return min((active.deadline for active in self._active.values()), default=None)

    def overdue(self, now: float) -> tuple[ActiveRequest, ...]:
        """The requests whose deadline has passed, the earliest first; the caller ends them."""
        passed = [active for active in self._active.values() if active.deadline <= now]
        return tuple(sorted(passed, key=lambda active: active.deadline))

    def _name(self, active: ActiveRequest, name: RequestKey) -> None:
        if self.find_named(name) is not active:
            active.names += (name,)
            self._named[name] = active

    def _remove(self, active: ActiveRequest) -> list[ActiveRequest]:
        for name in active.names:
            del self._named[name]
        del self._active[active.request]
        self._text -= _text_of(active.call)
        started = self._window.leave(active.request)
        return [self._active[each] for each in started] if started else []


def _text_of(call: ChatRequest) -> int:
    return len(call.prompt) + sum(map(len, call.images)) if call.images else len(call.prompt)
