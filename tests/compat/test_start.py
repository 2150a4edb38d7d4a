"""`exai serve` starts the old daemon's pages and health file as configured."""

from __future__ import annotations

import json
from pathlib import Path

from tests.daemon.processes import serving

PROVIDER = '[[provider]]\nkind = "synthetic"\nname = "synthetic"\n'


async def test_serve_logs_the_ports_of_its_pages_and_writes_the_health_file(tmp_path: Path) -> None:
    path = tmp_path / "health.json"
    config = (
        "[compat]\nhttp = true\nhttp_health_port = 0\nhttp_monitor_port = 0\n"
        f'health_file = "{path}"\n{PROVIDER}'
    )
    async with serving(config, tmp_path) as broker:
        record = json.loads(path.read_text())
        ended = await broker.stop()
    entries = [json.loads(line) for line in ended.err.splitlines()]
    (pages,) = [entry for entry in entries if entry["message"] == "compat.pages_started"]
    assert pages["health_port"] > 0
    assert pages["monitor_port"] > 0
    assert record["pid"] == broker.process.pid
    assert record["port"] == int(broker.url.rpartition(":")[2])
    assert record["tool_count"] > 0
