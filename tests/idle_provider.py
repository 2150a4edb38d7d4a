"""The statistics of a provider that serves and has nothing to do."""

from __future__ import annotations

from exai_actors.core.statistics import ProviderStatistics

IDLE = ProviderStatistics(
    name="kimi",
    kind="manual",
    models=("moon",),
    limit=2,
    free=2,
    in_flight=0,
    queued=0,
    queue_limit=10,
    over=0,
    anomalies=0,
    granted=0,
    completed=0,
    failed=0,
    aborted=0,
    refused=0,
    mean_service_s=None,
    incarnation=1,
)
