"""Who goes next: shares counted by cost, of tenants by their weights, of their sessions alike.

A session is charged an estimate when it is granted and what it really cost at the end. Priority
counts inside a session only. A session that has waited too long for any grant at all goes first now
and then, so that no weight starves anyone. It is not the age of a request that counts: where all
wait long, the oldest are those of the most expensive sessions, which would get more than their
share.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Generic, TypeVar

from exai_actors.core.capacity.flows import Flow, QueuedRequest, Tenant
from exai_actors.core.capacity.virtual_time import StartTimeClock
from exai_actors.ids import RequestKey, SessionId, TenantName

T = TypeVar("T")


class FairQueue(Generic[T]):
    """At most ``limit`` waiting entries over all, ``session_limit`` of one session.

    ``entries`` are all that wait, the longest waiting first. A session that waits and has had no
    grant for more than ``max_wait_s`` goes first, but only once in ``guard_every`` grants.
    """

    __slots__ = (
        "_entries",
        "_guard_every",
        "_max_wait_s",
        "_neglected",
        "_since_guard",
        "_tenants",
        "_waiting",
        "_weights",
        "entries",
        "limit",
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
    ) -> None:
        self.limit = limit
        self.session_limit = limit if session_limit is None else session_limit
        self.entries: dict[tuple[SessionId, RequestKey], T] = {}
        self._entries: dict[tuple[SessionId, RequestKey], QueuedRequest] = {}
        self._max_wait_s = max_wait_s
        self._guard_every = guard_every
        self._since_guard = 0
        # Who has something waiting, the longest without a grant first, and since when.
        self._neglected: dict[Flow, float] = {}
        self._weights = dict(weights or {})
        self._tenants: dict[TenantName, Tenant] = {}
        self._waiting: StartTimeClock[Tenant] = StartTimeClock()

    def __len__(self) -> int:
        return len(self.entries)

    def flow(self, session: SessionId, tenant: TenantName) -> Flow:
        """The session's place in the shares, made when it is not there yet."""
        found = self._tenants.get(tenant)
        if found is None:
            found = self._tenants[tenant] = Tenant(tenant, self.weight(tenant))
        flow = found.flows.get(session)
        if flow is None:
            flow = found.flows[session] = Flow(session, found)
        return flow

    def forget(self, session: SessionId) -> None:
        """The session is gone, and what it owed with it; nothing of it may be waiting.

        A flow that somebody still holds goes on to work.
        """
        for tenant in tuple(self._tenants.values()):
            tenant.flows.pop(session, None)
            if not tenant.flows:
                del self._tenants[tenant.name]

    def weight(self, tenant: TenantName) -> float:
        """A tenant's share beside the others'; 1 unless something else was set."""
        return self._weights.get(tenant, 1.0)

    def set_weight(self, tenant: TenantName, weight: float) -> None:
        """Holds for what is granted from now on. Raises ValueError unless above zero."""
        if not weight > 0:
            raise ValueError(f"a weight is a number above 0, got {weight}")
        self._weights[tenant] = weight
        found = self._tenants.get(tenant)
        if found is not None:
            found.inverse_weight = 1 / weight

    def charge(self, flow: Flow, cost: float) -> None:
        """A grant that needed no waiting."""
        tenant = flow.owner
        tenant.sessions.charge(flow.share, cost)
        self._waiting.charge(tenant.share, cost * tenant.inverse_weight)

    def settle(
        self, flow: Flow, estimated: float, actual: float, inverse_weight: float | None = None
    ) -> None:
        """A call of this flow has ended and cost this much instead of its estimate.

        ``inverse_weight`` is what its tenant's was at the grant, if it may have changed.
        """
        tenant, more = flow.owner, actual - estimated
        if inverse_weight is None:
            inverse_weight = tenant.inverse_weight
        tenant.sessions.settle(flow.share, estimated, more)
        self._waiting.settle(tenant.share, estimated * inverse_weight, more * inverse_weight)

    def transfer(self, former: Flow, flow: Flow, cost: float, inverse_weight: float) -> None:
        """A call that was charged to one flow is another's from now on."""
        self.settle(former, cost, 0.0, inverse_weight)
        tenant = flow.owner
        self.charge(flow, cost)
        if flow.share.stamp:
            tenant.sessions.moved(flow.share)
        if tenant.share.stamp:
            self._waiting.moved(tenant.share)

    def put(
        self,
        flow: Flow,
        request: RequestKey,
        value: T,
        cost: float,
        now: float,
        priority: int = 0,
        *,
        again: bool = False,
    ) -> bool:
        """Let an entry wait behind its session's others of no lower priority.

        ``cost`` is above zero. One that was granted before and comes ``again`` goes before its
        session's others and finds room always. False, and no change, when full. Raises ValueError
        when this request waits already.
        """
        key = (flow.session, request)
        if key in self.entries:
            raise ValueError(f"request {request!r} of session {flow.session!r} already waits")
        if not again and (
            len(self.entries) >= self.limit or len(flow.waiting) >= self.session_limit
        ):
            return False
        entry = QueuedRequest(flow, request, value, cost)
        tenant = flow.owner
        if not tenant.count:
            self._waiting.enter(tenant.share)
        tenant.count += 1
        tenant.cost += cost
        if not flow.waiting:
            tenant.sessions.enter(flow.share)
            self._neglected[flow] = now
        flow.add(entry, priority, again=again)
        self.entries[key] = value
        self._entries[key] = entry
        return True

    def peek(self, now: float) -> T | None:
        """Whose turn it is at this instant."""
        entry = self._next(now)
        if entry is None:
            return None
        value: T = entry.value
        return value

    def take(self, now: float) -> T | None:
        """Take out what peek() shows at this instant, and charge it; None when nothing waits."""
        entry = self._next(now)
        if entry is None:
            return None
        flow = entry.flow
        tenant = flow.owner
        if entry is self._turn():
            self._since_guard += 1
            tenant.sessions.pass_clock(flow.share)
            self._waiting.pass_clock(tenant.share)
        else:
            # Who goes before its turn is far ahead, where no newcomer must be made to begin.
            self._since_guard = 0
        tenant.sessions.grant(flow.share, entry.cost)
        self._waiting.grant(tenant.share, entry.cost * tenant.inverse_weight)
        self._take_out(entry)
        if flow.waiting:
            tenant.sessions.moved(flow.share)
            del self._neglected[flow]
            self._neglected[flow] = now
        if tenant.count:
            self._waiting.moved(tenant.share)
        value: T = entry.value
        return value

    def remove(self, session: SessionId, request: RequestKey) -> T | None:
        """Take one entry out, charging nothing; None when it does not wait."""
        entry = self._entries.get((session, request))
        if entry is None:
            return None
        self._take_out(entry)
        value: T = entry.value
        return value

    def remove_session(self, session: SessionId) -> tuple[T, ...]:
        """Take all entries of a session out."""
        flows = [tenant.flows.get(session) for tenant in self._tenants.values()]
        keys = [
            (session, request) for flow in flows if flow is not None for request in flow.waiting
        ]
        gone = tuple(self.entries[key] for key in keys)
        for key in keys:
            self._take_out(self._entries[key])
        return gone

    def in_service_order(self) -> Iterator[T]:
        """All entries as take() would give them if nobody else came and nobody grew too old."""
        tenants = []
        for tenant in self._waiting.waiting():
            flows = [
                (flow.share.tag, flow.share.stamp, flow.in_order())
                for flow in tenant.sessions.waiting()
            ]
            heapq.heapify(flows)
            tenants.append((tenant.share.tag, tenant.share.stamp, tenant.inverse_weight, flows))
        heapq.heapify(tenants)
        # Who was served comes behind all others of the same tag, as with moved().
        stamps = count(1 << 62)
        while tenants:
            tag, _, inverse_weight, flows = tenants[0]
            own_tag, _, entries = flows[0]
            entry = entries.pop()
            if entries:
                heapq.heapreplace(flows, (own_tag + entry.cost, next(stamps), entries))
            else:
                heapq.heappop(flows)
            if flows:
                moved = (tag + entry.cost * inverse_weight, next(stamps), inverse_weight, flows)
                heapq.heapreplace(tenants, moved)
            else:
                heapq.heappop(tenants)
            yield entry.value

    def rank(self, flow: Flow) -> int:
        """About how many would be served before a newcomer of this flow.

        Reckons with the mean cost of what each session has waiting: a walk over the sessions, not
        over their requests.
        """
        mine = flow.owner
        tag = max(flow.share.tag, mine.sessions.clock) + flow.cost
        ahead = len(flow.waiting)
        ahead_cost = flow.cost
        for other in mine.sessions.waiting():
            if other is not flow and other.share.tag <= tag:
                mean = other.cost / len(other.waiting)
                count = min(len(other.waiting), int((tag - other.share.tag) / mean) + 1)
                ahead += count
                ahead_cost += count * mean
        tag = max(mine.share.tag, self._waiting.clock) + ahead_cost * mine.inverse_weight
        for tenant in self._waiting.waiting():
            if tenant is not mine and tenant.share.tag <= tag:
                mean = tenant.cost / tenant.count * tenant.inverse_weight
                ahead += min(tenant.count, int((tag - tenant.share.tag) / mean) + 1)
        return ahead

    def faults(self) -> Iterator[str]:
        """Where the sums that are kept differ from what is there; nothing if all is well."""
        if self.entries.keys() != self._entries.keys():
            yield "the queue lists other requests than it holds"
        flows = [flow for tenant in self._tenants.values() for flow in tenant.flows.values()]
        if sum(len(flow.waiting) for flow in flows) > len(self.entries):
            yield "sessions have requests waiting that the queue does not know"
        for tenant in self._tenants.values():
            count = sum(len(flow.waiting) for flow in tenant.flows.values())
            if count != tenant.count:
                yield f"{count} requests of a tenant wait where {tenant.count} are counted"

    def _next(self, now: float) -> QueuedRequest | None:
        if self._since_guard >= self._guard_every and self._neglected:
            flow, since = next(iter(self._neglected.items()))
            if now - since > self._max_wait_s:
                return flow.first()
        return self._turn()

    def _turn(self) -> QueuedRequest | None:
        tenant = self._waiting.first()
        if tenant is None:
            return None
        flow = tenant.sessions.first()
        assert flow is not None
        return flow.first()

    def _take_out(self, entry: QueuedRequest) -> None:
        flow = entry.flow
        tenant = flow.owner
        key = (flow.session, entry.request)
        del self.entries[key]
        del self._entries[key]
        flow.take_out(entry)
        tenant.count -= 1
        tenant.cost -= entry.cost
        if not flow.waiting:
            tenant.sessions.leave(flow.share)
            del self._neglected[flow]
        if not tenant.count:
            tenant.cost = 0.0
            self._waiting.leave(tenant.share)
