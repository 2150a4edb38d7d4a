"""The reports of the old daemon, filled with this broker's figures."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.compat.health import (
    MachineFigures,
    MemoryGrowth,
    health,
    health_record,
    memory,
    monitor_status,
    semaphores,
)
from exai_actors.core.statistics import BrokerStatistics, ProviderStatistics

GB = 1024**3
ROOMY = MachineFigures(
    process_memory=50 * 1024**2,
    memory_total=16 * GB,
    memory_available=8 * GB,
    disk_total=100 * GB,
    disk_free=75 * GB,
)
WALL = 1_763_000_000.5
AEDT = timezone(timedelta(hours=11), "AEDT")


def provider(
    name: str = "kimi",
    limit: int = 4,
    in_flight: int = 0,
    queued: int = 0,
    queue_limit: int = 10,
    models: tuple[str, ...] = ("k2",),
) -> ProviderStatistics:
    return ProviderStatistics(
        name=name,
        kind="openai",
        models=models,
        limit=limit,
        in_flight=in_flight,
        queued=queued,
        queue_limit=queue_limit,
        over=max(0, in_flight - limit),
        anomalies=0,
        granted=0,
        completed=0,
        failed=0,
        aborted=0,
        refused=0,
        mean_service_s=None,
        incarnation=1,
    )


def broker(*providers: ProviderStatistics, draining: bool = False) -> BrokerStatistics:
    return BrokerStatistics(
        version="1.2.3",
        uptime_s=3725.9,
        connections=3,
        sessions=2,
        draining=draining,
        dead_letters=0,
        providers=providers,
    )


FULL = provider("full", limit=1, in_flight=1, queued=5, queue_limit=5)


def health_of(
    statistics: BrokerStatistics, figures: MachineFigures = ROOMY
) -> tuple[bool, dict[str, Any]]:
    report = health(statistics, figures, 1.5, WALL, AEDT)
    return report.good, report.content


def test_a_serving_broker_is_healthy_and_has_every_field_of_the_old_page() -> None:
    good, content = health_of(broker(provider(in_flight=1)))
    assert good
    assert content == {
        "status": "healthy",
        "message": "serving",
        "timestamp_utc": "2025-11-13T02:13:20.500000+00:00",
        "timestamp_melbourne": "2025-11-13 13:13:20 AEDT",
        "version": "1.2.3",
        "uptime_human": "1:02:05",
        "components": {
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
            "providers": {"status": "healthy", "message": "all 1 serve models"},
            "memory": {
                "status": "healthy",
                "message": "50.0 % of the machine's memory is in use",
                "process_memory_mb": 50.0,
                "system_memory_percent": 50.0,
                "growth_rate_mb_per_hour": 1.5,
                "alert_level": "healthy",
            },
            "disk": {
                "status": "healthy",
                "message": "25.0 % of the disk is in use",
                "disk_percent": 25.0,
                "disk_free_gb": 75.0,
                "disk_total_gb": 100.0,
            },
            "semaphores": {
                "status": "healthy",
                "global": {
                    "current": 3,
                    "expected": 4,
                    "utilization": 0.25,
                    "status": "healthy",
                    "in_flight": 1,
                    "queued": 0,
                },
                "providers": {
                    "kimi": {
                        "current": 3,
                        "expected": 4,
                        "utilization": 0.25,
                        "status": "healthy",
                        "in_flight": 1,
                        "queued": 0,
                        "queue_limit": 10,
                        "refuses": False,
                    }
                },
            },
        },
    }


def test_a_draining_broker_is_unhealthy() -> None:
    good, content = health_of(broker(provider(), draining=True))
    assert not good
    assert content["status"] == "unhealthy"
    assert content["message"].startswith("draining")


def test_a_broker_whose_every_provider_refuses_is_unhealthy() -> None:
    good, content = health_of(broker(FULL))
    assert not good
    assert content["status"] == "unhealthy"


def test_one_refusing_provider_of_two_is_degraded_but_good() -> None:
    good, content = health_of(broker(FULL, provider()))
    assert good
    assert content["status"] == "degraded"


def test_waiting_requests_are_healthy() -> None:
    good, content = health_of(broker(provider(limit=1, in_flight=1, queued=3)))
    assert good
    assert content["status"] == "healthy"
    assert content["components"]["semaphores"]["status"] == "warning"


@pytest.mark.parametrize(
    ("providers", "status", "message"),
    [
        ((provider(models=()),), "unhealthy", "no provider has listed a model yet"),
        ((), "unhealthy", "no provider has listed a model yet"),
        ((provider(models=()), provider("glm")), "degraded", "no model listed yet by kimi"),
    ],
)
def test_providers_without_models_are_reported(
    providers: tuple[ProviderStatistics, ...], status: str, message: str
) -> None:
    good, content = health_of(broker(*providers))
    assert good is (status != "unhealthy")
    assert content["status"] == status
    assert content["components"]["providers"] == {"status": status, "message": message}


@pytest.mark.parametrize("scarce", [{"memory_available": GB // 2}, {"disk_free": GB}])
def test_a_machine_short_of_resources_is_degraded_but_good(scarce: dict[str, int]) -> None:
    good, content = health_of(broker(provider()), msgspec.structs.replace(ROOMY, **scarce))
    assert good
    assert content["status"] == "degraded"


def test_missing_system_figures_are_null_and_healthy() -> None:
    good, content = health_of(broker(provider()), MachineFigures())
    assert good
    assert content["status"] == "healthy"
    assert content["components"]["disk"]["disk_percent"] is None
    assert content["components"]["memory"]["process_memory_mb"] is None
    assert content["components"]["memory"]["alert_level"] == "unknown"


@pytest.mark.parametrize(
    ("available", "level", "good"),
    [(16 * GB, "healthy", True), (GB, "warning", True), (GB // 4, "critical", False)],
)
def test_only_critically_low_memory_is_not_good(available: int, level: str, good: bool) -> None:
    report = memory(msgspec.structs.replace(ROOMY, memory_available=available), None)
    assert report.content["alert_level"] == level
    assert report.good is good


@pytest.mark.parametrize(
    ("limit", "in_flight", "free", "utilization", "status"),
    [
        (10, 7, 3, 0.7, "healthy"),
        (10, 8, 2, 0.8, "high_utilization"),
        (10, 10, 0, 1.0, "exhausted"),
        (2, 3, 0, 1.5, "exhausted"),
        (0, 0, 0, 1.0, "exhausted"),
    ],
)
def test_permits_are_reported_as_semaphores(
    limit: int, in_flight: int, free: int, utilization: float, status: str
) -> None:
    content = semaphores(broker(provider(limit=limit, in_flight=in_flight))).content
    permits = content["providers"]["kimi"]
    assert (permits["current"], permits["expected"]) == (free, limit)
    assert (permits["utilization"], permits["status"]) == (utilization, status)


def test_the_global_permits_are_the_sum_of_all_providers() -> None:
    content = semaphores(
        broker(provider("kimi", limit=4, in_flight=4, queued=2), provider("glm", limit=6))
    ).content
    assert list(content["providers"]) == ["kimi", "glm"]
    assert content["global"] == {
        "current": 6,
        "expected": 10,
        "utilization": 0.4,
        "status": "healthy",
        "in_flight": 4,
        "queued": 2,
    }


@pytest.mark.parametrize(
    ("providers", "status"),
    [
        ((), "unknown"),
        ((provider(in_flight=4),), "healthy"),
        ((provider(in_flight=4, queued=1),), "warning"),
        ((FULL, provider()), "degraded"),
        ((FULL, FULL), "critical"),
    ],
)
def test_only_all_providers_refusing_is_critical(
    providers: tuple[ProviderStatistics, ...], status: str
) -> None:
    report = semaphores(broker(*providers))
    assert report.content["status"] == status
    assert report.good is (status != "critical")


def test_a_refusing_provider_is_marked() -> None:
    providers = semaphores(broker(FULL, provider())).content["providers"]
    assert {name: permits["refuses"] for name, permits in providers.items()} == {
        "full": True,
        "kimi": False,
    }


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12), st.integers(0, 3)), max_size=4),
    st.booleans(),
)
def test_every_report_is_json_with_the_old_status_words(
    providers: list[tuple[int, int, int]], draining: bool
) -> None:
    statistics = broker(
        *(
            provider(f"p{number}", limit, in_flight, queued, queue_limit=3)
            for number, (limit, in_flight, queued) in enumerate(providers)
        ),
        draining=draining,
    )
    report = health(statistics, ROOMY, None, WALL, UTC)
    content = msgspec.json.decode(msgspec.json.encode(report.content))
    assert content["status"] in ("healthy", "degraded", "unhealthy")
    assert report.good is (content["status"] != "unhealthy")
    permits = content["components"]["semaphores"]
    assert permits["status"] in ("healthy", "warning", "degraded", "critical", "unknown")
    for each in (permits["global"], *permits["providers"].values()):
        assert each["status"] in ("healthy", "exhausted", "high_utilization")
        assert 0 <= each["current"] <= each["expected"]


def test_growth_per_hour_needs_ten_minutes_of_observation() -> None:
    growth = MemoryGrowth()
    assert growth.mb_per_hour is None
    growth.observe(100.0, 50 * 1024**2)
    growth.observe(400.0, 80 * 1024**2)
    assert growth.mb_per_hour is None
    growth.observe(1900.0, 53 * 1024**2)
    assert growth.mb_per_hour == 6.0


def test_a_failed_measurement_does_not_change_the_growth() -> None:
    growth = MemoryGrowth()
    growth.observe(0.0, None)
    growth.observe(100.0, 50 * 1024**2)
    growth.observe(3700.0, 51 * 1024**2)
    growth.observe(9000.0, None)
    assert growth.mb_per_hour == 1.0


def test_the_monitors_status_counts_the_connections() -> None:
    assert monitor_status(broker(provider()), WALL) == {
        "status": "ok",
        "service": "monitoring",
        "clients_connected": 3,
        "timestamp": "2025-11-13T02:13:20.500000+00:00",
    }


def test_the_health_record_has_the_fields_of_the_old_file() -> None:
    record = health_record(
        broker(provider(limit=4, in_flight=3), provider("glm", limit=2)),
        wall=WALL,
        pid=4711,
        host="127.0.0.1",
        port=8079,
        tool_count=7,
    )
    assert record == {
        "t": WALL,
        "pid": 4711,
        "host": "127.0.0.1",
        "port": 8079,
        "started_at": WALL - 3725.9,
        "uptime_human": "1:02:05",
        "sessions": 2,
        "global_capacity": 6,
        "global_inflight": 3,
        "tool_count": 7,
    }
