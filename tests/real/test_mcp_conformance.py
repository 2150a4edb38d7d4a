"""The conformance suite of MCP judges our protocol, on a server with the handlers it prescribes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real import processes
from tests.real.conftest import PROGRAMS, need
from tools import judge_mcp, real_parts


@pytest.fixture(scope="module")
def fixtures_url(logs: Path) -> Iterator[str]:
    """The address of the server under test."""
    command: list[str | Path] = [sys.executable, PROGRAMS / "mcp_fixtures.py"]
    env = processes.environment(real_parts.ROOT)
    with processes.running(command, ready=r"^ready (\S+)", log=logs / "mcp.log", env=env) as url:
        yield url


@pytest.mark.parametrize(("revision", "required"), [("2025-11-25", 30), ("2026-07-28", 37)])
async def test_all_required_scenarios_pass(
    node: Path, fixtures_url: str, revision: str, required: int, tmp_path: Path
) -> None:
    need(real_parts.MCP_CONFORMANCE)
    words = ("server", "--url", fixtures_url, "--requirements", revision)
    output = await judged(node, tmp_path, words)
    passed, failed = judge_mcp.scenarios(output)
    assert failed == [], output
    assert len(passed) == required


@pytest.mark.parametrize(
    ("scenario", "count"), [*zip(judge_mcp.TASK_SCENARIOS, (8, 5, 4, 3, 5, 8), strict=True)]
)
async def test_tasks_pass_all_checks_but_those_of_tools_that_the_broker_has_not(
    node: Path, fixtures_url: str, scenario: str, count: int, tmp_path: Path
) -> None:
    need(real_parts.MCP_CONFORMANCE)
    output = await judged(node, tmp_path, judge_mcp.task_scenario(fixtures_url, scenario))
    passed, failed = judge_mcp.checks(output)
    assert failed == judge_mcp.TASK_SCENARIOS[scenario], output
    assert len(passed) == count


async def judged(node: Path, home: Path, words: tuple[str, ...]) -> str:
    """The output of the suite."""
    process = await asyncio.create_subprocess_exec(
        node,
        judge_mcp.CONFORMANCE,
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=home,
        env={**os.environ, "HOME": str(home)},
    )
    output, _ = await process.communicate()
    return output.decode()
