"""The health reports of the EX-AI daemon, filled with this broker's figures.

The shapes are those of the old daemon; parts without a counterpart here say so. Its "semaphores"
are the providers' permits: ``current`` is the number of free ones, ``expected`` the limit. A permit
cannot leak, so there is no ``leak_detected``. Keys beyond those shapes are ours.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from typing import Any

import msgspec

from exai_actors.core.statistics import BrokerStatistics, ProviderStatistics

HIGH_UTILIZATION = 0.8
MEMORY_WARNING_PERCENT = 90.0
MEMORY_CRITICAL_PERCENT = 97.0
DISK_WARNING_PERCENT = 95.0
GROWTH_NEEDS_S = 600.0

_MB = 1024**2
_GB = 1024**3


class Health(StrEnum):
    """The state of a component or of the whole."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class Alert(StrEnum):
    """How full the permits or the memory are, in the terms of the old pages."""

    HEALTHY = "healthy"
    WARNING = "warning"
    DEGRADED = "degraded"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


class MachineFigures(msgspec.Struct, frozen=True):
    """Figures of the operating system in bytes; None where they are not available."""

    process_memory: int | None = None
    memory_total: int | None = None
    memory_available: int | None = None
    disk_total: int | None = None
    disk_free: int | None = None


class Report(msgspec.Struct, frozen=True):
    """A page's JSON object; ``good`` is False for HTTP 503."""

    content: dict[str, Any]
    good: bool


class MemoryGrowth:
    """The growth of the process per hour since the first observation."""

    __slots__ = ("_first", "_last")

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None

    def observe(self, now: float, process_memory: int | None) -> None:
        """``now`` is in seconds and monotonic."""
        if process_memory is not None:
            self._last = (now, process_memory)
            self._first = self._first or self._last

    @property
    def mb_per_hour(self) -> float | None:
        """None during the first ten minutes, while the process warms up."""
        if self._first is None or self._last is None:
            return None
        seconds = self._last[0] - self._first[0]
        if seconds < GROWTH_NEEDS_S:
            return None
        return round((self._last[1] - self._first[1]) / _MB / (seconds / 3600), 2)


def health(
    statistics: BrokerStatistics,
    figures: MachineFigures,
    growth_mb_per_hour: float | None,
    wall: float,
    zone: tzinfo,
) -> Report:
    """``/health``: all components. ``wall`` is seconds since the epoch.

    Not good only when no request would be served: draining, all queues full, or no model. A
    machine short of memory or disk is degraded, which is still good.
    """
    permits = semaphores(statistics)
    components: dict[str, dict[str, Any]] = {
        "storage": {
            "status": "not_used",
            "type": "none",
            "message": "not used: this broker stores nothing elsewhere",
        },
        "supabase": {
            "status": "not_used",
            "enabled": False,
            "message": "not used by this broker",
        },
        "providers": _providers(statistics.providers),
        "memory": memory(figures, growth_mb_per_hour).content,
        "disk": _disk(figures),
        "semaphores": permits.content,
    }
    states = {component["status"] for component in components.values()}
    if statistics.draining:
        status, message = (
            Health.UNHEALTHY,
            "draining: requests in flight finish, new ones are refused",
        )
    elif not permits.good or Health.UNHEALTHY in states:
        status, message = Health.UNHEALTHY, "no request would be served"
    elif Health.DEGRADED in states:
        status, message = Health.DEGRADED, "serving, but see the components"
    else:
        status, message = Health.HEALTHY, "serving"
    content = {
        "status": status,
        "message": message,
        "timestamp_utc": _iso(wall),
        "timestamp_melbourne": datetime.fromtimestamp(wall, zone).strftime("%Y-%m-%d %H:%M:%S %Z"),
        "version": statistics.version,
        "uptime_human": _uptime(statistics.uptime_s),
        "components": components,
    }
    return Report(content, good=status is not Health.UNHEALTHY)


def semaphores(statistics: BrokerStatistics) -> Report:
    """``/health/semaphores``: permits by provider. Not good when every provider would refuse."""
    providers = statistics.providers
    refusing = [_refuses(provider) for provider in providers]
    if not providers:
        status = Alert.UNKNOWN
    elif all(refusing):
        status = Alert.CRITICAL
    elif any(refusing):
        status = Alert.DEGRADED
    elif any(provider.queued for provider in providers):
        status = Alert.WARNING
    else:
        status = Alert.HEALTHY
    limit, in_flight = statistics.capacity, statistics.in_flight
    free = sum(_free(provider) for provider in providers)
    content = {
        "status": status,
        "global": {
            **_permits(limit, in_flight, free),
            "queued": sum(provider.queued for provider in providers),
        },
        "providers": {
            provider.name: {
                **_permits(provider.limit, provider.in_flight, _free(provider)),
                "queued": provider.queued,
                "queue_limit": provider.queue_limit,
                "refuses": refuses,
            }
            for provider, refuses in zip(providers, refusing, strict=True)
        },
    }
    return Report(content, good=status is not Alert.CRITICAL)


def memory(figures: MachineFigures, growth_mb_per_hour: float | None) -> Report:
    """``/health/memory``: the process and its machine. Not good when almost nothing is left."""
    total, available = figures.memory_total, figures.memory_available
    percent = None
    if total and available is not None:
        percent = round(100 * (total - available) / total, 1)
    alert, message = Alert.UNKNOWN, "not available on this operating system"
    if percent is not None:
        alert, message = Alert.HEALTHY, f"{percent} % of the machine's memory is in use"
        if percent >= MEMORY_CRITICAL_PERCENT:
            alert = Alert.CRITICAL
        elif percent >= MEMORY_WARNING_PERCENT:
            alert = Alert.WARNING
    short = alert in (Alert.WARNING, Alert.CRITICAL)
    content = {
        "status": Health.DEGRADED if short else Health.HEALTHY,
        "message": message,
        "process_memory_mb": _in(_MB, figures.process_memory),
        "system_memory_percent": percent,
        "growth_rate_mb_per_hour": growth_mb_per_hour,
        "alert_level": alert,
    }
    return Report(content, good=alert is not Alert.CRITICAL)


def monitor_status(statistics: BrokerStatistics, wall: float) -> dict[str, Any]:
    """``/status`` of the monitoring port."""
    return {
        "status": "ok",
        "service": "monitoring",
        "clients_connected": statistics.connections,
        "timestamp": _iso(wall),
    }


def health_record(
    statistics: BrokerStatistics, *, wall: float, pid: int, host: str, port: int, tool_count: int
) -> dict[str, Any]:
    """The content of ``ws_daemon.health.json``; ``t`` and ``started_at`` are epoch seconds."""
    return {
        "t": wall,
        "pid": pid,
        "host": host,
        "port": port,
        "started_at": wall - statistics.uptime_s,
        "uptime_human": _uptime(statistics.uptime_s),
        "sessions": statistics.sessions,
        "global_capacity": statistics.capacity,
        "global_inflight": statistics.in_flight,
        "tool_count": tool_count,
    }


def _permits(limit: int, in_flight: int, free: int) -> dict[str, Any]:
    utilization = in_flight / limit if limit else 1.0
    if free == 0:
        status = "exhausted"
    elif utilization >= HIGH_UTILIZATION:
        status = "high_utilization"
    else:
        status = "healthy"
    return {
        "current": free,
        "expected": limit,
        "utilization": round(utilization, 3),
        "status": status,
        "in_flight": in_flight,
    }


def _free(provider: ProviderStatistics) -> int:
    return max(0, provider.limit - provider.in_flight)


def _refuses(provider: ProviderStatistics) -> bool:
    return _free(provider) == 0 and provider.queued >= provider.queue_limit


def _providers(providers: tuple[ProviderStatistics, ...]) -> dict[str, Any]:
    without = [provider.name for provider in providers if not provider.models]
    if len(without) == len(providers):
        return {"status": Health.UNHEALTHY, "message": "no provider has listed a model yet"}
    if without:
        message = f"no model listed yet by {', '.join(without)}"
        return {"status": Health.DEGRADED, "message": message}
    return {"status": Health.HEALTHY, "message": f"all {len(providers)} serve models"}


def _disk(figures: MachineFigures) -> dict[str, Any]:
    total, free = figures.disk_total, figures.disk_free
    percent = None
    status, message = Health.HEALTHY, "not available on this operating system"
    if total and free is not None:
        percent = round(100 * (total - free) / total, 1)
        message = f"{percent} % of the disk is in use"
        if percent >= DISK_WARNING_PERCENT:
            status = Health.DEGRADED
    return {
        "status": status,
        "message": message,
        "disk_percent": percent,
        "disk_free_gb": _in(_GB, free),
        "disk_total_gb": _in(_GB, total),
    }


def _in(unit: int, size: int | None) -> float | None:
    return None if size is None else round(size / unit, 2)


def _iso(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat()


def _uptime(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
