"""The statistics of a provider: its configuration, its work, and its guards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from msgspec.structs import replace

from exai_actors.actors.provider.settings import ProviderSettings
from exai_actors.core.capacity.dispatcher import Dispatcher
from exai_actors.core.capacity.explain_wait import WaitExplainer
from exai_actors.core.capacity.holds import Hold
from exai_actors.core.capacity.scheduled_call import ScheduledCall
from exai_actors.core.statistics import HoldStatistics, ModelStatistics, ProviderStatistics
from exai_actors.core.wait_reasons import clipped, facts

C = TypeVar("C", bound=ScheduledCall)


@dataclass(slots=True)
class Counts:
    """Counts of this incarnation."""

    granted: int = 0
    completed: int = 0
    failed: int = 0
    aborted: int = 0
    refused: int = 0
    displaced: int = 0
    retried: int = 0
    shared: int = 0
    violations: int = 0


def describe(
    settings: ProviderSettings,
    dispatcher: Dispatcher[C],
    counts: Counts,
    *,
    models: tuple[str, ...],
    incarnation: int,
    trouble: str | None,
    now: float,
) -> ProviderStatistics:
    """The statistics at ``now``, in seconds of the driver's clock."""
    pools, account = dispatcher.pools, dispatcher.account
    ledgers = [pool.ledger for pool in pools]
    hold = account.hold
    reason = WaitExplainer(dispatcher.guards, now).of_account()
    in_flight = sum(ledger.in_flight for ledger in ledgers)
    # An earlier incarnation counted the beginning of an adopted call, and nothing counts its end.
    adopted = sum(not call.attempts for ledger in ledgers for call in ledger.held.values())
    ended = counts.completed + counts.failed + counts.aborted
    return ProviderStatistics(
        name=settings.name,
        kind=settings.kind,
        models=models,
        limit=sum(ledger.limit for ledger in ledgers),
        configured_limit=account.limit + sum(account.model_limits.values()),
        in_flight=in_flight,
        free=sum(ledger.free for ledger in ledgers),
        unaccounted=counts.granted - ended - (in_flight - adopted),
        queued=dispatcher.queued,
        queue_limit=settings.capacity.queue,
        over=sum(ledger.over for ledger in ledgers),
        anomalies=sum(ledger.anomalies for ledger in ledgers),
        reserved=account.reserved,
        quarantined=sum(len(ledger.quarantined) for ledger in ledgers),
        mean_service_s=pools[0].service_time.mean_s,
        incarnation=incarnation,
        trouble=trouble,
        mode=account.mode.value,
        circuit=dispatcher.guards.circuit.state,
        held_for_s=max(0.0, hold.until - now),
        held_because=hold.because if hold.is_active(now) else "",
        model_holds=tuple(
            HoldStatistics(model, each.until - now, each.because)
            for model, each in account.model_holds.items()
            if each.is_active(now)
        ),
        holds=tuple(_hold(each, now) for each in account.holds() if each.is_active(now)),
        gates=account.gates.statistics(now),
        model_limits=tuple(
            ModelStatistics(pool.model, pool.ledger.limit, pool.ledger.in_flight, len(pool.queue))
            for pool in pools
            if pool.model is not None
        ),
        weights={str(tenant): weight for tenant, weight in account.weights.items()},
        events=tuple(account.events),
        granted=counts.granted,
        completed=counts.completed,
        failed=counts.failed,
        aborted=counts.aborted,
        refused=counts.refused,
        displaced=counts.displaced,
        retried=counts.retried,
        shared=counts.shared,
        next_free_s=dispatcher.next_free_s(now),
        waits_for=None if reason is None else facts(replace(reason, provider=settings.name), now),
        violations=counts.violations,
    )


def _hold(hold: Hold, now: float) -> HoldStatistics:
    probe_at = hold.opens_at(now)
    return HoldStatistics(
        hold.model or "",
        hold.until - now,
        hold.because,
        clipped(hold.words),
        probe_at - now if probe_at < hold.until else None,
    )
