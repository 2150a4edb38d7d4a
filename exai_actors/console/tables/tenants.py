"""The tenants and their shares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from exai_actors.console.tables.cells import COUNT, SHARE, TEXT
from exai_actors.core.observe.query import Column, Table
from exai_actors.core.observe.tables import Keyed
from exai_actors.core.statistics import TenantStatistics

TENANTS = Table(
    "tenants",
    (
        Column("tenant", "Tenant", TEXT, "its name in the configuration"),
        Column("weight", "Weight", COUNT, "its part of the capacity, compared with others"),
        Column("sessions", "Sessions", COUNT, "its sessions with requests"),
        Column("in_flight", "In flight", COUNT, "its calls that run"),
        Column("queued", "Queued", COUNT, "its requests that wait"),
        Column("share_received", "Received", SHARE, "its part of the permits in use"),
        Column("share_entitled", "Entitled", SHARE, "its part by weight among those with requests"),
    ),
)


def tenant_rows(tenants: Iterable[TenantStatistics]) -> Iterator[Keyed]:
    """One row for each tenant with requests, or with a configured weight."""
    all_tenants = tuple(tenants)
    running = sum(tenant.in_flight for tenant in all_tenants)
    for tenant in all_tenants:
        yield (
            tenant.name,
            (
                tenant.name or "default",
                tenant.weight,
                len(tenant.sessions),
                tenant.in_flight,
                tenant.queued,
                round(tenant.in_flight / running, 3) if running else None,
                tenant.share,
            ),
        )
