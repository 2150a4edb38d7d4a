"""llmock, a service of others that injects faults, records every attempt and judges its client."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

# Long enough that a client which leaves at a broken chunk is gone before llmock has sent all of it:
# llmock counts a stream that it has sent completely as read completely.
LONG_REPLY = " ".join(f"word{number}" for number in range(60))
PATIENCE = 6
FIRST_BACKOFF_S = 0.1
STREAM_FAULTS = {
    "cut off before any text": {"kind": "truncate", "after_chunks": 1},
    "cut off after some text": {"kind": "truncate", "after_chunks": 4},
    "disconnected before any text": {"kind": "disconnect", "after_chunks": 0},
    "disconnected after some text": {"kind": "disconnect", "after_chunks": 4},
    "malformed at once": {"kind": "malformed", "after_chunks": 0},
    "malformed after some text": {"kind": "malformed", "after_chunks": 4},
}
MIXED_FAULTS: tuple[dict[str, object], ...] = (
    {"type": "fail", "status": 429, "retry_after": 1, "times": 2},
    {"type": "fail", "status": 503},
    *({"type": "stream_fault", **fault} for fault in STREAM_FAULTS.values()),
)


class Llmock:
    """Controls llmock's faults and reads its records over its HTTP interface."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.http = http

    async def _ask(self, method: str, path: str, body: object = None) -> Any:
        async with self.http.request(method, f"{self.url}/_llmock/{path}", json=body) as response:
            answer = await response.json()
            assert response.status < 300, answer
            return answer

    async def reset(self) -> None:
        await self._ask("POST", "reset")

    async def will(self, *behaviors: dict[str, object]) -> None:
        """Queue faults; one upstream call uses up each, unless it has ``times``."""
        await self._ask("POST", "scenario", {"behaviors": behaviors})

    async def statuses(self) -> list[int]:
        """The HTTP statuses of all attempts, in order."""
        return [seen["status"] for seen in (await self._ask("GET", "requests"))["requests"]]

    async def findings(self) -> list[str]:
        """The findings of its verdict, both errors and warnings."""
        verdict = await self._ask("GET", "verdict")
        return [f"{found['code']}: {found['title']}" for found in verdict["findings"]]

    async def report_strictly(
        self, command: Sequence[str | Path], environment: Mapping[str, str]
    ) -> None:
        """Run ``llmock report --strict``; AssertionError with the report if it does not pass."""
        report = [*command, "report", "--strict", "--url", self.url]
        process = await asyncio.create_subprocess_exec(
            *map(str, report), env=environment, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
