"""Start everything in this package; the one function that the daemon calls."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog

from exai_actors.compat.health import health_record
from exai_actors.compat.health_file import HealthFile
from exai_actors.compat.http_pages import CompatHttp
from exai_actors.core.statistics import BrokerStatistics
from exai_actors.ports import Clock

log = structlog.get_logger()


async def start_compat(
    stack: AsyncExitStack,
    *,
    http_ports: tuple[int, int] | None,
    health_file: str,
    host: str,
    broker_port: int,
    tool_count: Callable[[], int],
    statistics: Callable[[], BrokerStatistics],
    clock: Clock,
) -> None:
    """Serve the pages on ``http_ports`` (health, monitor) and write ``health_file``.

    None or an empty name leaves that part out; ``stack`` gets the callbacks that stop the others.
    Raises UsageError for a port that cannot be listened on or a file that cannot be written.
    """
    if http_ports is not None:
        health_port, monitor_port = http_ports
        pages = CompatHttp(
            host=host,
            health_port=health_port,
            monitor_port=monitor_port,
            statistics=statistics,
            clock=clock,
        )
        await pages.start()
        stack.push_async_callback(pages.stop)
        log.info(
            "compat.pages_started",
            health_port=pages.health_port,
            monitor_port=pages.monitor_port,
        )
    if health_file:

        def record() -> dict[str, Any]:
            return health_record(
                statistics(),
                wall=clock.wall(),
                pid=os.getpid(),
                host=host,
                port=broker_port,
                tool_count=tool_count(),
            )

        file = HealthFile(Path(health_file), record)
        await file.start()
        stack.push_async_callback(file.stop)
