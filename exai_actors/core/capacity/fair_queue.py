"""The order of grants: fair queueing by cost over two levels, tenant and session.

Tenants share the provider by their weights, the sessions of a tenant equally, unless an operator
gave one another weight. A request is charged
its estimated cost at the grant and corrected to the real cost at the end of its call. Priority
orders the requests of one session only.

A session that has had no grant for too long is served first now and then, so that no weight starves
it. The age of the session's last grant counts, not the age of its requests: under overload the
oldest requests are those of the most expensive sessions, which would get more than their share.

An operator can move a request before all others, and hold one back until it is released. Requests
that were moved are charged like others, so that their sessions pay for it later.

The places in a full queue are shared in the same way: a new request displaces the last one of the
session with the most, of the tenant with the most for its weight.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from itertools import chain, count
from math import exp, inf
from operator import attrgetter
from typing import Generic, TypeVar

from exai_actors.core.capacity.flows import Flow, QueuedRequest, Tenant
from exai_actors.core.capacity.virtual_time import StartTimeClock
from exai_actors.ids import RequestKey, SessionId, TenantName

T = TypeVar("T")

RATE_EVERY_S = 10.0
RATE_HORIZON_S = 180.0
"""The requests of about so many seconds make up the rate of a session."""

SAMPLED_SESSIONS = 250
"""Of more sessions of a tenant, so many or some more stand for all in an estimated place."""

_LAST_STAMP = 1 << 62
"""Larger than the stamp of any tag."""

_UNSEEN: list[QueuedRequest] = []

_order = attrgetter("order")


class FairQueue(Generic[T]):
    """At most ``limit`` waiting requests, ``session_limit`` of one session.

    Iteration yields the values of all waiting requests, the longest waiting first. A waiting
    session without a grant for more than ``max_wait_s`` is served first, but only once in
    ``guard_every`` grants. Requests that were set aside count as waiting, but have no turn.
    """

    __slots__ = (
        "_aside",
        "_first_ones",
        "_grants_since_guard",
        "_guard_every",
        "_held",
        "_last_grant",
        "_max_wait_s",
        "_rates_at",
        "_rates_known",
        "_session_weights",
        "_tenants",
        "_waiting",
        "_weights",
        "limit",
        "queued",
        "session_limit",
    )

    def __init__(
        self,
        limit: int,
        *,
        session_limit: int | None = None,
        max_wait_s: float = 30.0,
        guard_every: int = 4,
        weights: Mapping[TenantName, float] | None = None,
        session_weights: dict[SessionId, float] | None = None,
    ) -> None:
        """``session_weights`` is shared by all queues of an account, and its owner forgets those of
        sessions that have ended.
        """
        self.limit = limit
        self.session_limit = limit if session_limit is None else session_limit
        self.queued: dict[tuple[SessionId, RequestKey], QueuedRequest] = {}
        """All waiting requests, the longest waiting first. To be changed only here."""
        self._aside: dict[tuple[SessionId, RequestKey], QueuedRequest] = {}
        # Of those aside, the ones that only an operator releases.
        self._held: set[tuple[SessionId, RequestKey]] = set()
        # The requests that an operator moved before all others. Counted as aside in their flows.
        self._first_ones: dict[tuple[SessionId, RequestKey], QueuedRequest] = {}
        self._max_wait_s = max_wait_s
        self._guard_every = guard_every
        self._grants_since_guard = 0
        # The waiting sessions and when each was last granted or began to wait, the oldest first.
        self._last_grant: dict[Flow, float] = {}
        self._rates_at = -inf
        self._rates_known = 0.0
        self._weights = dict(weights or {})
        self._session_weights = {} if session_weights is None else session_weights
        self._tenants: dict[TenantName, Tenant] = {}
        self._waiting: StartTimeClock[Tenant] = StartTimeClock()

    def __len__(self) -> int:
        return len(self.queued)

    def __iter__(self) -> Iterator[T]:
        return (queued.value for queued in self.queued.values())

    def get(self, session: SessionId, request: RequestKey) -> T | None:
        """The value of a waiting request; None if it does not wait."""
        queued = self.queued.get((session, request))
        return None if queued is None else queued.value

    def flow(self, session: SessionId, tenant: TenantName) -> Flow:
        """The session's flow, created at its first request."""
        found = self._tenants.get(tenant)
        if found is None:
            found = self._tenants[tenant] = Tenant(tenant, self.weight(tenant))
        flow = found.flows.get(session)
        if flow is None:
            flow = found.flows[session] = Flow(session, found)
            if session in self._session_weights:
                flow.set_weight(self._session_weights[session])
        return flow

    def forget(self, session: SessionId) -> list[T]:
        """Remove a session whose actor has ended, and return its waiting requests.

        A call in flight may still hold the flow and settle with it.
        """
        removed: list[T] = []
        for tenant in tuple(self._tenants.values()):
            flow = tenant.flows.pop(session, None)
            if flow is not None:
                aside = [queued for queued in self._without_turn() if queued.flow is flow]
                for queued in (*flow.waiting.values(), *aside):
                    removed.append(queued.value)
                    self._remove(queued)
            if not tenant.flows:
                del self._tenants[tenant.name]
        return removed

    def weight(self, tenant: TenantName) -> float:
        """The tenant's weight; 1 unless another one was set."""
        return self._weights.get(tenant, 1.0)

    def set_weight(self, tenant: TenantName, weight: float) -> None:
        """Set the weight for all later grants. Raises ValueError unless it is above zero."""
        if not weight > 0:
            raise ValueError(f"a weight is a number above 0, got {weight}")
        self._weights[tenant] = weight
        found = self._tenants.get(tenant)
        if found is not None:
            found.inverse_weight = 1 / weight

    def set_session_weight(self, session: SessionId, weight: float) -> None:
        """Set a session's weight among the sessions of its tenant, above zero, until it ends."""
        self._session_weights[session] = weight
        for tenant in self._tenants.values():
            if (flow := tenant.flows.get(session)) is not None:
                flow.set_weight(weight)

    def charge(self, flow: Flow, cost: float) -> None:
        """Charge a call that was granted without waiting."""
        flow.arrived += 1
        tenant = flow.tenant
        tenant.sessions.charge(flow, cost * flow.inverse_weight)
        self._waiting.charge(tenant, cost * tenant.inverse_weight)

    def settle(self, flow: Flow, estimated: float, actual: float, inverse_weight: float) -> None:
        """Correct the charge of an ended call from its estimate to its actual cost.

        ``inverse_weight`` is the one its tenant had at the grant.
        """
        tenant, difference = flow.tenant, actual - estimated
        own = flow.inverse_weight
        tenant.sessions.settle(flow, estimated * own, difference * own)
        self._waiting.settle(tenant, estimated * inverse_weight, difference * inverse_weight)

    def transfer(self, former: Flow, flow: Flow, cost: float, inverse_weight: float) -> None:
        """Charge a call in flight to another flow than the one it was granted to."""
        self.settle(former, cost, 0.0, inverse_weight)
        self.charge(flow, cost)
        tenant = flow.tenant
        if flow.waiting:
            tenant.sessions.reorder(flow)
        if tenant.queued:
            self._waiting.reorder(tenant)

    def put(
        self,
        flow: Flow,
        request: RequestKey,
        value: T,
        cost: float,
        now: float,
        priority: int = 0,
        *,
        ahead: bool = False,
    ) -> bool:
        """Queue a request behind those of its session with equal or higher priority.

        ``cost`` is above zero. A request that goes ``ahead`` of its session's others is accepted
        even when the queue is full. Returns False, and changes nothing, when it is full. Raises
        ValueError if this request already waits.
        """
        key = (flow.session, request)
        if key in self.queued:
            raise ValueError(f"request {request!r} of session {flow.session!r} already waits")
        if not ahead and (len(self.queued) >= self.limit or flow.queued >= self.session_limit):
            return False
        queued = QueuedRequest(flow, request, value, cost)
        flow.arrived += not ahead
        self._enter(queued, now)
        flow.add(queued, priority, ahead=ahead)
        self.queued[key] = queued
        return True

    def make_room(self, flow: Flow) -> T | None:
        """Remove, and return, the request that a new one of this flow displaces in a full queue.

        None, and nothing changes, if no other tenant or session has more waiting than this one
        would have. Each tenant's and each session's first request is not counted: as long as any
        other has two, a newcomer with none finds room, whatever the weights.
        """
        own = flow.tenant
        if self.limit <= 0 or flow.queued >= self.session_limit:
            return None
        longest, excess = own, (own.queued + own.aside) * own.inverse_weight
        for tenant in self._tenants.values():
            other = (tenant.queued + tenant.aside - 1) * tenant.inverse_weight
            if other > excess and tenant is not own:
                longest, excess = tenant, other
        owner = longest.longest()
        if longest is own and owner.queued - 1 <= flow.queued:
            return None
        requests = list(owner.waiting.values())
        if owner.aside:
            requests += (queued for queued in self._without_turn() if queued.flow is owner)
        last = max(requests, key=lambda queued: queued.order)
        self._remove(last)
        value: T = last.value
        return value

    @property
    def in_line(self) -> int:
        """The number of waiting requests that were not set aside."""
        return len(self.queued) - len(self._aside)

    @property
    def aside(self) -> Iterator[T]:
        """The values of the requests that were set aside, in that order, without those held."""
        held = self._held
        return (queued.value for key, queued in self._aside.items() if key not in held)

    def set_aside(self, session: SessionId, request: RequestKey) -> None:
        """Let a waiting request have no turn until it is restored, so that others have theirs."""
        key = session, request
        queued = self.queued.get(key)
        if queued is not None and key not in self._aside:
            self._take_from_line(queued, key)
            self._aside[key] = queued

    def restore(self, session: SessionId, request: RequestKey, now: float) -> None:
        """Give a request that was set aside its turn again, at its old place in its session."""
        key = session, request
        queued = self._aside.pop(key, None)
        if queued is not None:
            queued.flow.aside -= 1
            queued.flow.tenant.aside -= 1
            self._enter(queued, now)
            queued.flow.add_again(queued)

    def move_first(self, session: SessionId, request: RequestKey) -> None:
        """Let a waiting request go before all others but those moved earlier, and release it."""
        key = session, request
        queued = self.queued.get(key)
        if queued is not None and key not in self._first_ones:
            self._held.discard(key)
            if self._aside.pop(key, None) is None:
                self._take_from_line(queued, key)
            self._first_ones[key] = queued

    def hold(self, session: SessionId, request: RequestKey) -> None:
        """Let a waiting request have no turn until it is released."""
        key = session, request
        if key in self.queued:
            self.set_aside(session, request)
            self._held.add(key)

    def release(self, session: SessionId, request: RequestKey, now: float) -> None:
        """Give a held request its turn again, at its old place in its session."""
        self._held.discard((session, request))
        self.restore(session, request, now)

    def is_held(self, session: SessionId, request: RequestKey) -> bool:
        return (session, request) in self._held

    def peek(self, now: float) -> T | None:
        """The value of the request whose turn it is; None if none waits."""
        queued = self._next(now)
        if queued is None:
            return None
        value: T = queued.value
        return value

    def take(self, now: float) -> T | None:
        """Remove the request that ``peek`` shows at this instant, and charge it."""
        queued = self._next(now)
        if queued is None:
            return None
        flow = queued.flow
        tenant = flow.tenant
        if self._first_ones:
            tenant.sessions.raise_to_virtual_time(flow)
            self._waiting.raise_to_virtual_time(tenant)
        elif queued is self._first():
            self._grants_since_guard += 1
            tenant.sessions.advance(flow)
            self._waiting.advance(tenant)
        else:
            # A session served before its turn has a start tag far ahead of the virtual time, and
            # no newcomer should have to start there.
            self._grants_since_guard = 0
        tenant.sessions.serve(flow, queued.cost * flow.inverse_weight)
        self._waiting.serve(tenant, queued.cost * tenant.inverse_weight)
        self._remove(queued)
        if flow.waiting:
            tenant.sessions.reorder(flow)
            del self._last_grant[flow]
            self._last_grant[flow] = now
        if tenant.queued:
            self._waiting.reorder(tenant)
        value: T = queued.value
        return value

    def remove(self, session: SessionId, request: RequestKey) -> T | None:
        """Remove a request without charging it; None if it does not wait."""
        queued = self.queued.get((session, request))
        if queued is None:
            return None
        self._remove(queued)
        value: T = queued.value
        return value

    def in_service_order(self) -> Iterator[T]:
        """All values in the order of ``take``, as if none came and no session waited too long.

        A reader that stops early looks only at the sessions that it has come to. If the queue
        changes meanwhile, those that it has not come to yet appear as they are then.
        """
        tenants = []
        for tenant in self._waiting.waiting():
            flows: list[tuple[float, int, Flow, list[QueuedRequest]]] = [
                (flow.start, flow.stamp, flow, _UNSEEN) for flow in tenant.sessions.waiting()
            ]
            heapq.heapify(flows)
            tenants.append((tenant.start, tenant.stamp, tenant.inverse_weight, flows))
        heapq.heapify(tenants)
        # After a grant, an owner comes behind all others with the same start tag, as in reorder().
        stamps = count(_LAST_STAMP)
        aside = [queued.value for queued in self._aside.values()]
        yield from [queued.value for queued in self._first_ones.values()]
        while tenants:
            start, _, inverse_weight, flows = tenants[0]
            flow_start, _, flow, remaining = flows[0]
            if remaining is _UNSEEN:
                remaining = sorted(flow.waiting.values(), key=_order, reverse=True)
            queued = remaining.pop() if remaining else None
            if remaining and queued is not None:
                finish = flow_start + queued.cost * flow.inverse_weight
                heapq.heapreplace(flows, (finish, next(stamps), flow, remaining))
            else:
                heapq.heappop(flows)
            if queued is None:
                # Its requests have left since the first value.
                if not flows:
                    heapq.heappop(tenants)
                continue
            if flows:
                finish = start + queued.cost * inverse_weight
                heapq.heapreplace(tenants, (finish, next(stamps), inverse_weight, flows))
            else:
                heapq.heappop(tenants)
            yield queued.value
        yield from aside

    def rank(self, flow: Flow) -> int:
        """About how many requests would be served before a new one of this flow.

        Uses the mean cost of each session's waiting requests: a walk over the sessions, not over
        their requests, and of many sessions over a sample.
        """
        own_tenant = flow.tenant
        start = max(flow.start, own_tenant.sessions.virtual_time)
        start += flow.queued_cost * flow.inverse_weight
        ahead = len(flow.waiting)
        ahead_cost = flow.queued_cost
        others = own_tenant.sessions.waiting()
        each_for = len(others) // SAMPLED_SESSIONS + 1
        for other in others[::each_for]:
            if other is not flow and other.start <= start:
                mean = other.queued_cost / len(other.waiting)
                turns = (start - other.start) / (mean * other.inverse_weight)
                served = min(len(other.waiting), int(turns) + 1) * each_for
                ahead += served
                ahead_cost += served * mean
        start = max(own_tenant.start, self._waiting.virtual_time)
        start += ahead_cost * own_tenant.inverse_weight
        for tenant in self._waiting.waiting():
            if tenant is not own_tenant and tenant.start <= start:
                mean = tenant.queued_cost / tenant.queued * tenant.inverse_weight
                ahead += min(tenant.queued, int((start - tenant.start) / mean) + 1)
        return min(ahead + len(self._first_ones), len(self.queued))

    @property
    def virtual_time(self) -> float:
        """The virtual time of the tenants."""
        return self._waiting.virtual_time

    @property
    def usual_cost(self) -> float:
        """The mean cost of the waiting requests; 1 if none waits."""
        waiting = [tenant for tenant in self._tenants.values() if tenant.queued]
        queued = sum(tenant.queued for tenant in waiting)
        return sum(tenant.queued_cost for tenant in waiting) / queued if queued else 1.0

    @property
    def sessions(self) -> int:
        """The number of sessions that it knows, with or without requests."""
        return sum(len(tenant.flows) for tenant in self._tenants.values())

    def first_ones(self) -> list[QueuedRequest]:
        """The requests that were moved before all others."""
        return list(self._first_ones.values())

    def known_tenants(self) -> list[Tenant]:
        """The tenants with sessions, whether these have requests or not."""
        return list(self._tenants.values())

    def estimate_rates(self, now: float) -> None:
        """Estimate how many requests a second each session sends; at most every RATE_EVERY_S."""
        elapsed_s = now - self._rates_at
        if elapsed_s < RATE_EVERY_S:
            return
        is_first, self._rates_at = self._rates_at == -inf, now
        part = 0.0 if is_first else 1 - exp(-elapsed_s / RATE_HORIZON_S)
        self._rates_known += part * (1 - self._rates_known)
        for tenant in self._tenants.values():
            for flow in tenant.flows.values():
                if not is_first:
                    # As if the time before the first estimate had been like that since then.
                    weight = part / self._rates_known
                    flow.rate += weight * (flow.arrived / elapsed_s - flow.rate)
                flow.arrived = 0

    def flows(self) -> Iterator[Flow]:
        """The sessions with waiting requests, those aside included."""
        return (flow for tenant in self.tenants() for flow in tenant.flows.values() if flow.queued)

    def tenants(self) -> Iterator[Tenant]:
        """The tenants with waiting requests, those aside included."""
        return (tenant for tenant in self._tenants.values() if tenant.queued or tenant.aside)

    def violations(self) -> Iterator[str]:
        """Each sum that differs from the records it counts, in words; none if all is well."""
        flows = [flow for tenant in self._tenants.values() for flow in tenant.flows.values()]
        if sum(len(flow.waiting) for flow in flows) > len(self.queued):
            yield "sessions have requests waiting that the queue does not know"
        for tenant in self._tenants.values():
            waiting = sum(len(flow.waiting) for flow in tenant.flows.values())
            if waiting != tenant.queued:
                yield f"{waiting} requests of a tenant wait where {tenant.queued} are counted"
            aside = sum(flow.aside for flow in tenant.flows.values())
            if aside != tenant.aside:
                yield f"{aside} requests of a tenant are aside where {tenant.aside} are counted"

    def _next(self, now: float) -> QueuedRequest | None:
        if self._first_ones:
            return next(iter(self._first_ones.values()))
        if self._grants_since_guard >= self._guard_every and self._last_grant:
            flow, last_grant = next(iter(self._last_grant.items()))
            if now - last_grant > self._max_wait_s:
                return flow.first()
        return self._first()

    def _first(self) -> QueuedRequest | None:
        tenant = self._waiting.first()
        if tenant is None:
            return None
        flow = tenant.sessions.first()
        assert flow is not None
        return flow.first()

    def _remove(self, queued: QueuedRequest) -> None:
        key = queued.flow.session, queued.request
        del self.queued[key]
        self._held.discard(key)
        if self._aside.pop(key, None) is None and self._first_ones.pop(key, None) is None:
            self._leave(queued)
        else:
            queued.flow.aside -= 1
            queued.flow.tenant.aside -= 1

    def _without_turn(self) -> Iterator[QueuedRequest]:
        """The requests that their flows count as aside."""
        return chain(self._aside.values(), self._first_ones.values())

    def _take_from_line(self, queued: QueuedRequest, key: tuple[SessionId, RequestKey]) -> None:
        if self._first_ones.pop(key, None) is None:
            self._leave(queued)
            queued.flow.aside += 1
            queued.flow.tenant.aside += 1

    def _enter(self, queued: QueuedRequest, now: float) -> None:
        """Count a request of its tenant and session, before it is added to the latter."""
        flow = queued.flow
        tenant = flow.tenant
        if not tenant.queued:
            self._waiting.enter(tenant)
        tenant.queued += 1
        tenant.queued_cost += queued.cost
        if not flow.waiting:
            tenant.sessions.enter(flow)
            self._last_grant[flow] = now

    def _leave(self, queued: QueuedRequest) -> None:
        flow = queued.flow
        tenant = flow.tenant
        flow.remove(queued)
        tenant.queued -= 1
        tenant.queued_cost -= queued.cost
        if not flow.waiting:
            tenant.sessions.leave(flow)
            del self._last_grant[flow]
        if not tenant.queued:
            tenant.queued_cost = 0.0
            self._waiting.leave(tenant)
