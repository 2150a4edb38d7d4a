"""The bare aiohttp client against that upstream: the least that a call can cost any broker.

``bench_aiohttp.py URL CONCURRENCY REQUESTS`` prints one JSON object with its own figures.
"""

from __future__ import annotations

import asyncio
import sys
import time

import aiohttp
import orjson
import uvloop

from tools.bench_dialects import PROMPT


async def main(url: str, concurrency: int, requests: int) -> None:
    body = orjson.dumps({"model": "instant", "messages": [{"role": "user", "content": PROMPT}]})
    headers = {"Content-Type": "application/json"}
    left = requests

    async def client(session: aiohttp.ClientSession, count: int) -> None:
        for _ in range(count):
            async with session.post(url, data=body, headers=headers) as response:
                answer = orjson.loads(await response.read())
                assert answer["choices"][0]["message"]["content"] == PROMPT

    async def clients(session: aiohttp.ClientSession, count: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(client(session, count // concurrency))

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        await clients(session, left // 10)
        began, cpu = time.perf_counter(), time.process_time()
        await clients(session, left)
        done = left // concurrency * concurrency
        print(
            orjson.dumps(
                {
                    "cpu_us": (time.process_time() - cpu) / done * 1e6,
                    "per_second": done / (time.perf_counter() - began),
                }
            ).decode()
        )


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
