"""The requests of one session: those in flight with their waiters, and the outcomes of the others.

A request has exactly one outcome: it is in flight until ``end`` or ``abandon`` removes it, and no
later lookup finds it.

A client knows a request by one or more names: the id it sent, ids that joined by an idempotency
key, and that key. Each leads to the one outcome. A provider knows the request by its run instead:
a key that no other run in the session has, so that late replies to an earlier run match nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from math import inf
from typing import Any

import msgspec

from exai_actors.core.calls import CallOptions, Outcome
from exai_actors.core.observe.request_ends import RequestSpan
from exai_actors.core.pieces import PieceSink
from exai_actors.core.relay import RelayPipe, RelayRequest
from exai_actors.core.routing import Route, leaves_for
from exai_actors.core.session.conversations import Conversation
from exai_actors.core.session.outcomes import OutcomeStore
from exai_actors.core.session.pieces import Pieces, Waiter
from exai_actors.core.session.window import EnterResult, Window
from exai_actors.core.tools.table import ChatRequest
from exai_actors.core.wait_reasons import WaitCode, WaitReason
from exai_actors.errors import ErrorBody
from exai_actors.ids import ConnectionId, ConversationId, ProviderName, RequestKey

MAX_WAITERS_AND_NAMES = 65
"""Waiters plus names of one request, for joining by idempotency key."""


class ActiveRequest(msgspec.Struct, gc=False, eq=False, kw_only=True):
    """A chat or relayed request without an outcome.

    ``run`` is its name at the provider, ``number`` that of its first run, which it keeps. ``names``
    are those by which clients know it; a request without any cannot be repeated. ``pieces`` is the
    pipe of its present run, None unless it streams. ``deadline`` is an instant in monotonic
    seconds, ``timeout_s`` the time it allowed at first. ``tried`` describes the failures at earlier
    targets of the route. ``text`` is the size of its prompt and image URLs in characters.
    ``before`` is the conversation that the request continues, as it was when the request started.
    ``attempts`` counts the calls at earlier targets, ``span`` is its trace if requests are traced.
    """

    run: RequestKey
    number: int
    names: tuple[RequestKey, ...]
    arguments: ChatRequest | RelayRequest
    options: CallOptions
    route: Route
    conversation: ConversationId
    waiters: list[Waiter]
    deadline: float
    timeout_s: float
    at_provider: bool = False
    pieces: Pieces | None = None
    tried: tuple[dict[str, Any], ...] = ()
    text: int = 0
    before: Conversation | None = None
    attempts: int = 0
    span: RequestSpan | None = None

    @property
    def piece_count(self) -> int:
        """The number of pieces that have arrived."""
        return 0 if self.pieces is None else self.pieces.count

    @property
    def has_no_other_client(self) -> bool:
        """Whether the clients before the last one have left, or are away for a moment."""
        if type(self.arguments) is RelayRequest:
            return not self.arguments.pipe.has_readers
        return len(self.waiters) == 1

    def join(self, waiter: Waiter, sink: PieceSink | None) -> None:
        """Add a waiter, unless it waits already; with a ``sink`` it wants pieces."""
        if waiter not in self.waiters:
            self.waiters.append(waiter)
            if self.pieces is not None and sink is not None:
                self.pieces.join(waiter, sink)

    def leave(self, waiter: Waiter) -> None:
        """Remove a waiter."""
        self.waiters.remove(waiter)
        if self.pieces is not None:
            self.pieces.leave(waiter)

    def try_next_target(
        self, reason: str | None, error: ErrorBody, *, would_wait: bool = False
    ) -> bool:
        """Turn to the next target of the route; False if the request ends with this error.

        It ends without another target, if neither ``reason`` nor a wait leads to one, and after the
        first piece: halves of different answers are no answer.
        """
        route = self.route
        if route.fallback is None and not self.tried:
            return False
        attempt = {
            "provider": route.provider,
            "model": route.model,
            "code": error.code.value,
            "message": error.message,
        }
        self.tried += (attempt,)
        leaves = leaves_for(reason, route.fallback_reasons, would_wait=would_wait)
        if route.fallback is None or not leaves or self.piece_count:
            return False
        if isinstance(self.arguments, RelayRequest) and self.arguments.pipe.has_begun:
            return False
        self.route = route.fallback
        self.at_provider = False
        return True


class Repeat(Enum):
    """Why a known name or key leads to no request."""

    OTHER_CALL = "other call"
    KEY_OF_OTHER_CALL = "key of another call"
    TOO_OFTEN = "too often"


class SessionRequests:
    """Never more at providers than the window's limit, and never more waiting than its queue.

    Together they hold at most ``text_limit`` characters of prompts and image URLs, except that one
    request alone may hold more.
    """

    __slots__ = (
        "_active",
        "_deserted",
        "_named",
        "_outcomes",
        "_runs",
        "_text",
        "_window",
        "find",
        "text_limit",
    )

    def __init__(self, window: Window, outcomes: OutcomeStore, text_limit: float = inf) -> None:
        self.text_limit = text_limit
        self._text = 0
        self._window = window
        self._outcomes = outcomes
        self._active: dict[RequestKey, ActiveRequest] = {}
        self.find: Callable[[RequestKey], ActiveRequest | None] = self._active.get
        """The request in flight that its provider knows by this key."""
        self._named: dict[RequestKey, ActiveRequest] = {}
        # The pipes of the relayed requests whose clients have left, and perhaps some of others.
        self._deserted: set[RelayPipe] = set()
        self._runs = 0

    @property
    def waiting(self) -> int:
        """The number of requests that wait for room in the window or for their conversation."""
        return self._window.waiting

    @property
    def at_providers(self) -> int:
        """The number of requests in the window."""
        return self._window.running

    @property
    def text(self) -> int:
        """The characters of all requests in flight."""
        return self._text

    @property
    def kept_bytes(self) -> int:
        """The size of all stored outcomes."""
        return self._outcomes.kept_bytes

    def shrink_kept(self, size: int) -> None:
        """Drop the oldest outcomes until the rest has at most ``size`` bytes."""
        self._outcomes.shrink(size)

    def __len__(self) -> int:
        return len(self._active)

    def find_named(self, name: RequestKey | None) -> ActiveRequest | None:
        """The request in flight that clients know by this name."""
        return None if name is None else self._named.get(name)

    def numbered(self, number: int) -> ActiveRequest | None:
        """The request in flight of this number; takes time in proportion to those in flight."""
        return next((each for each in self._active.values() if each.number == number), None)

    def awaited_by(self, waiter: Waiter) -> ActiveRequest | None:
        """The request in flight for which it waits; takes time in proportion to those in flight."""
        return next((each for each in self._active.values() if waiter in each.waiters), None)

    def active(self) -> tuple[ActiveRequest, ...]:
        """All requests in flight."""
        return tuple(self._active.values())

    def at(self, provider: ProviderName) -> tuple[ActiveRequest, ...]:
        """The requests that this provider has."""
        return tuple(
            each
            for each in self._active.values()
            if each.at_provider and each.route.provider == provider
        )

    def read_by(self, waiter: Waiter) -> ActiveRequest | None:
        """The request in flight whose pieces go to this waiter; takes time as ``awaited_by``."""
        active = self.awaited_by(waiter)
        if active is None or active.pieces is None or active.pieces.reader != waiter:
            return None
        return active

    def full(self) -> list[ActiveRequest]:
        """The requests whose reader has asked for a pause."""
        return [each for each in self._active.values() if each.pieces and each.pieces.is_full]

    def is_known(self, name: RequestKey) -> bool:
        """Whether ``recognise`` may find this name."""
        return name in self._named or name in self._outcomes.kept

    def recognise(
        self,
        waiter: Waiter,
        fingerprint: int,
        now: float,
        key: RequestKey | None,
        sink: PieceSink | None = None,
    ) -> ActiveRequest | Outcome | Repeat | None:
        """Find the request that the waiter's name or else its idempotency key leads to.

        None means a new request. The waiter joins a request in flight, with its ``sink``; a name
        that came with a known key becomes another name of the same request. The name of a request
        that has ended may be used again for another call, a key may not.
        """
        name = waiter[1]
        known = self._recognise(name, waiter, fingerprint, now, sink)
        if known is Repeat.OTHER_CALL and name not in self._named:
            known = None
        if key is None or known is not None:
            return known
        active = self._named.get(key)
        if active is not None and (len(active.waiters) + len(active.names) > MAX_WAITERS_AND_NAMES):
            return Repeat.TOO_OFTEN
        known = self._recognise(key, waiter, fingerprint, now, sink)
        if known is Repeat.OTHER_CALL:
            return Repeat.KEY_OF_OTHER_CALL
        if known is not None and not name.run:
            if active is not None:
                active.names += (name,)
                self._named[name] = active
            else:
                self._outcomes.share(key, name)
        return known

    def _recognise(
        self,
        name: RequestKey,
        waiter: Waiter,
        fingerprint: int,
        now: float,
        sink: PieceSink | None,
    ) -> ActiveRequest | Outcome | Repeat | None:
        active = self._named.get(name)
        if active is not None:
            if hash(active.arguments) != fingerprint:
                return Repeat.OTHER_CALL
            active.join(waiter, sink)
            return active
        known = self._outcomes.find(name, now)
        if known is None:
            return None
        return known.outcome if known.fingerprint == fingerprint else Repeat.OTHER_CALL

    def next_run(self, request: RequestKey) -> RequestKey:
        """A key for a run of this request, unlike any other in the session."""
        self._runs += 1
        return RequestKey(request.text, request.namespace, self._runs)

    def accept(self, active: ActiveRequest) -> EnterResult:
        """Take a new request in. After STARTED the caller sends it to its provider."""
        arguments = active.arguments
        if type(arguments) is RelayRequest:
            active.text = len(arguments.body)
        else:
            active.text = len(arguments.prompt)
            if arguments.images:
                active.text += sum(map(len, arguments.images))
            if arguments.more is not None:
                active.text += len(arguments.more)
        if self._text + active.text > self.text_limit and self._active:
            return "too much text"
        # Only a conversation that the client named can have other requests.
        conversation = None if arguments.continuation_id is None else active.conversation
        entry = self._window.enter(active.run, conversation, active.options.priority)
        if entry != "full":
            if isinstance(arguments, RelayRequest):
                arguments.pipe.report_desertion(self._deserted)
            self._text += active.text
            self._active[active.run] = active
            for name in active.names:
                self._named[name] = active
        return entry

    def wait_reason(self, active: ActiveRequest) -> WaitReason:
        """Why a request is not with a provider yet."""
        named = active.arguments.continuation_id is not None
        return self._window.wait_reason(active.run, active.conversation if named else None)

    def before(self, active: ActiveRequest) -> list[ActiveRequest]:
        """The requests that a waiting one waits for, in their order: of its conversation if that is
        the reason, or else all that run or wait before it.
        """
        conversation = active.conversation
        of_it = self.wait_reason(active).code is WaitCode.CONVERSATION
        runs = self._window.before(active.run)
        found = [self._active[run] for run in runs if run in self._active]
        return [each for each in found if not of_it or each.conversation == conversation]

    def deserted(self, arguments: RelayRequest) -> ActiveRequest | None:
        """The request in flight that these arguments repeat, if its client has left meanwhile."""
        if not self._deserted:
            return None
        for active in self._active.values():
            known = active.arguments
            if (
                isinstance(known, RelayRequest)
                and not known.pipe.has_readers
                and known.pipe.may_be_repeated()
                and known == arguments
            ):
                return active
        return None

    def run_again(self, active: ActiveRequest) -> None:
        """Give a started request the key of another run."""
        former, active.run = active.run, self.next_run(active.run)
        if active.pieces is not None:
            active.pieces = active.pieces.run_again()
        self._window.rename(former, active.run)
        del self._active[former]
        self._active[active.run] = active

    def abandon(self, active: ActiveRequest) -> list[ActiveRequest]:
        """Remove a request without an outcome; return those to send in its place.

        A repeat of it is a new request.
        """
        return self.end(active, None, 0.0)

    def end(
        self, active: ActiveRequest, outcome: Outcome | None, now: float
    ) -> list[ActiveRequest]:
        """Remove a request and store its outcome; return those to send in its place."""
        names = active.names
        if names:
            # Nothing was done for a refused one: a repeat of it is a new request.
            if outcome is not None and outcome.kind != "refused":
                self._outcomes.remember(names, hash(active.arguments), outcome, now)
            for name in names:
                del self._named[name]
        del self._active[active.run]
        if type(active.arguments) is RelayRequest:
            active.arguments.pipe.close()
        if active.pieces is not None:
            active.pieces.close()
        self._text -= active.text
        started = self._window.leave(active.run)
        return [self._active[each] for each in started] if started else []

    def remember(
        self, names: tuple[RequestKey, ...], fingerprint: int, outcome: Outcome, now: float
    ) -> None:
        """Store the outcome of a request that was never in flight."""
        if names:
            self._outcomes.remember(names, fingerprint, outcome, now)

    def leave(self, connection: ConnectionId) -> tuple[ActiveRequest, ...]:
        """Remove a connection's waiters; return the requests that have none left."""
        deserted = []
        for active in self._active.values():
            gone = [waiter for waiter in active.waiters if waiter[0] == connection]
            for waiter in gone:
                active.leave(waiter)
            if gone and not active.waiters:
                deserted.append(active)
        return tuple(deserted)

    def next_deadline(self) -> float | None:
        """The earliest deadline; takes time in proportion to the requests in flight."""
        return min((active.deadline for active in self._active.values()), default=None)

    def overdue(self, now: float) -> tuple[ActiveRequest, ...]:
        """The requests whose deadline has passed, the earliest first; the caller ends them."""
        passed = [active for active in self._active.values() if active.deadline <= now]
        return tuple(sorted(passed, key=lambda active: active.deadline))
