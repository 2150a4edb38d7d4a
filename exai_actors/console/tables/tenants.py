"""The tenants and their shares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from exai_actors.console.tables.cells import COUNT, SHARE, TEXT, share
from exai_actors.core.observe.query import Column, Table
from exai_actors.core.observe.tables import Keyed
from exai_actors.core.statistics import TenantStatistics
from exai_actors.ids import TenantName, shown_tenant

TENANTS = Table(
    "tenants",
    (
        Column("tenant", "Tenant", TEXT, "its name in the configuration"),
        Column("weight", "Weight", COUNT, "its part of the capacity, compared with others"),
        Column("sessions", "Sessions", COUNT, "its sessions with requests"),
        Column("in_flight", "In flight", COUNT, "its calls that run"),
        Column("queued", "Queued", COUNT, "its requests that wait"),
        Column("share_received", "Received", SHARE, "its part of the tokens of the last minutes"),
        Column(
            "share_entitled", "Entitled", SHARE, "its part by weight among those that competed then"
        ),
    ),
)


def tenant_rows(
    tenants: Iterable[TenantStatistics], tokens: Mapping[TenantName, int]
) -> Iterator[Keyed]:
    """One row for each tenant with requests, or with a configured weight.

    ``tokens`` are those that each has had of all providers in the last minutes.
    """
    all_tenants = tuple(tenants)
    total = sum(tokens.values())
    competing = {
        tenant.name
        for tenant in all_tenants
        if tenant.in_flight or tenant.queued or tokens.get(TenantName(tenant.name))
    }
    weights = sum(tenant.weight for tenant in all_tenants if tenant.name in competing)
    for tenant in all_tenants:
        received = tokens.get(TenantName(tenant.name), 0)
        name = shown_tenant(tenant.name)
        yield (
            name,
            (
                name,
                tenant.weight,
                len(tenant.sessions),
                tenant.in_flight,
                tenant.queued,
                share(received, total),
                share(tenant.weight, weights) if tenant.name in competing else None,
            ),
        )
