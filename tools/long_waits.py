"""Let clients wait long in the queue: ``.venv/bin/python tools/long_waits.py``.

A broker has one permit, and a request that holds it for ``--seconds`` (330). Meanwhile the SDKs of
OpenAI and Anthropic for Python and Node wait for it, each with a whole and a streamed answer and
with the timeouts that they come with, and so do the programs that are named (of those of
``tools/real_clients.py``; else Claude Code, Codex and opencode). Then the permit is free, and the
table says how many requests each client has sent, how many of them were ended by it in the queue,
and how many calls the service got. Everything runs unmodified in a network namespace with nothing
but loopback. Exits with 1 if a client did not get its answer, or if the service got a call during
the wait, or the same one twice. Needs what ``tools/real_clients.py`` needs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import openai

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.real.node_sdks import NodeSdks, Sdk, node_sdks  # noqa: E402
from tools import real_clients, real_parts  # noqa: E402
from tools.real_clients import FIRST, MODEL, SETUPS, TOKEN, WORD, Service  # noqa: E402

NODE_SDKS = ROOT / "tests" / "real" / "programs" / "node_sdks.mjs"
ACCESS_LOG = "access.log"
REST_S = 90
KINDS = {"whole": False, "streamed": True}
SDK_NAMES = ("openai-python", "anthropic-python", "openai-node", "anthropic-node")
ASKED = [{"role": "user", "content": real_clients.PROMPT}]


@dataclass
class Waited:
    """A client, the seconds until its answer, and the error if it got none."""

    client: str
    seconds: float
    error: str


@dataclass
class Requests:
    """The requests of one client: all, those that it has ended itself, and the service's calls."""

    sent: int = 0
    left: int = 0
    calls: int = 0


@dataclass(frozen=True)
class Place:
    """The broker, the tokens of clients by name, and the folders of programs and of this run."""

    url: str
    tokens: dict[str, str]
    folder: Path
    work: Path

    @property
    def http(self) -> str:
        return self.url.replace("ws://", "http://")


async def openai_python(place: Place, token: str, kind: str) -> str:
    async with openai.AsyncOpenAI(base_url=f"{place.http}/v1", api_key=token) as client:
        asked: Any = {"model": MODEL, "messages": ASKED, "stream": KINDS[kind]}
        got = await client.chat.completions.create(**asked)
        return "".join([str(each) async for each in got]) if KINDS[kind] else str(got)


async def anthropic_python(place: Place, token: str, kind: str) -> str:
    async with anthropic.AsyncAnthropic(base_url=place.http, api_key=token) as client:
        asked: Any = {"model": MODEL, "messages": ASKED, "max_tokens": 99, "stream": KINDS[kind]}
        got = await client.messages.create(**asked)
        return "".join([str(each) async for each in got]) if KINDS[kind] else str(got)


async def in_node(sdks: NodeSdks, sdk: Sdk, token: str, kind: str) -> str:
    sdks.clients[sdk]["apiKey"] = token
    asked: dict[str, Any] = {"model": MODEL, "messages": ASKED, "stream": KINDS[kind]}
    if sdk == "openai":
        call = sdks.start(sdk, "chat.completions.create", asked)
    else:
        call = sdks.start(sdk, "messages.create", {**asked, "max_tokens": 99})
    await call.ended.wait()
    if call.error is not None:
        raise RuntimeError(f"{call.error.name}: {call.error.message}")
    return f"{call.events} {call.value}"


async def in_program(name: str, place: Place, timeout_s: float) -> str:
    home = place.work / name
    home.mkdir()
    env = real_clients.environment(name, place.url, place.folder, home)
    env["EXAI_TOKEN"] = place.tokens[name]
    command = (*real_clients.EXAI, "run", name, "--", *SETUPS[name].asking)
    return await asyncio.to_thread(real_clients.output, command, env, home, timeout_s)


async def waited(client: str, answering: Awaitable[str]) -> Waited:
    """The outcome of one client."""
    began, error = time.monotonic(), ""
    try:
        said = await answering
        error = "" if WORD in said else f"no answer in: {said[-2000:]}"
    except (openai.OpenAIError, anthropic.AnthropicError, RuntimeError, OSError) as failure:
        error = f"{type(failure).__name__}: {failure}"
    return Waited(client, time.monotonic() - began, error)


@asynccontextmanager
async def node_process(broker_port: int) -> AsyncIterator[NodeSdks]:
    """The SDKs for Node, in a process of their own."""
    process = await asyncio.create_subprocess_exec(
        real_parts.NODE_PROGRAM,
        NODE_SDKS,
        real_parts.NODE_SDKS.folder,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        port = int((await process.stdout.readline()).split()[1])
        async with node_sdks(port, broker_port) as sdks:
            yield sdks
    finally:
        process.kill()
        await process.communicate()


def configuration(service: Service, tokens: dict[str, str], work: Path) -> str:
    """A broker whose service may be silent for an hour, with a tenant for each client."""
    lines = [
        real_clients.configuration(service.url),
        "first_byte_timeout_s = 3600\ntotal_timeout_s = 3600\n",
        f'[logging]\naccess = "json"\naccess_file = "{ACCESS_LOG}"\n',
    ]
    for name, token in tokens.items():
        (work / f"{name}.token").write_text(token)
        lines.append(f'[[access]]\nname = "{name}"\ntoken_file = "{name}.token"\n')
    return "".join(lines)


async def inside(folder: Path, names: list[str], seconds: float) -> int:
    """In the namespace: start service and broker, let everybody wait, and report."""
    service = Service()
    service.is_open.clear()
    sdk_names = [f"{sdk}-{kind}" for kind in KINDS for sdk in SDK_NAMES]
    tokens = {name: f"the-token-of-{name}-{os.getpid()}" for name in [*sdk_names, *names]}
    with tempfile.TemporaryDirectory(prefix="exai-waits-") as temporary:
        work = Path(temporary)
        with real_clients.broker(configuration(service, tokens, work), work) as url:
            place = Place(url, tokens, folder, work)
            results, early = await _all_wait(place, service, names, seconds)
        requests = _read_access_log(work / ACCESS_LOG)
    bodies = [seen.body for seen in service.requests]
    twice = len(bodies) - len(set(bodies))
    print(f"calls at the service during the wait: {early}, which is the one that held the permit\n")
    _print_table(results, requests)
    print(f"\nthe same request twice at the service: {twice}")
    return 1 if early != 1 or twice or any(each.error for each in results) else 0


async def _all_wait(
    place: Place, service: Service, names: list[str], seconds: float
) -> tuple[list[Waited], int]:
    """The outcomes, and how many calls the service had before the permit was free."""
    port = int(place.url.rpartition(":")[2])
    async with node_process(port) as sdks, aiohttp.ClientSession() as http:
        holder = asyncio.create_task(_hold(http, place))
        while not service.requests:  # noqa: ASYNC110 - it is in another thread
            await asyncio.sleep(0.05)
        asking: dict[str, Awaitable[str]] = {
            name: in_program(name, place, seconds + REST_S) for name in names
        }
        for kind in KINDS:
            for sdk in SDK_NAMES:
                name = f"{sdk}-{kind}"
                asking[name] = _asking(sdk, place, sdks, place.tokens[name], kind)
        tasks = [asyncio.create_task(waited(*each)) for each in asking.items()]
        await asyncio.sleep(seconds)
        early = len(service.requests)
        service.is_open.set()
        results = [await task for task in tasks]
        await holder
    return results, early


def _asking(sdk: str, place: Place, sdks: NodeSdks, token: str, kind: str) -> Awaitable[str]:
    match sdk:
        case "openai-python":
            return openai_python(place, token, kind)
        case "anthropic-python":
            return anthropic_python(place, token, kind)
        case "openai-node":
            return in_node(sdks, "openai", token, kind)
        case _:
            return in_node(sdks, "anthropic", token, kind)


async def _hold(http: aiohttp.ClientSession, place: Place) -> None:
    fields = {"Authorization": f"Bearer {TOKEN}", "x-exai-deadline-ms": "3600000"}
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hold the permit."}]}
    timeout = aiohttp.ClientTimeout(total=None)
    url = f"{place.http}/v1/chat/completions"
    async with http.post(url, json=body, headers=fields, timeout=timeout) as got:
        assert got.status == 200, await got.text()


def _read_access_log(log: Path) -> dict[str, Requests]:
    found: dict[str, Requests] = {}
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        own = found.setdefault(entry["tenant"], Requests())
        own.sent += 1
        own.left += entry["outcome"] == "cancelled"
        own.calls += entry["attempts"]
    return found


def _print_table(results: list[Waited], requests: dict[str, Requests]) -> None:
    print(f"{'client':<26} {'seconds':>7} {'sent':>5} {'left':>5} {'calls':>6}  outcome")
    for each in results:
        own = requests.get(each.client, Requests())
        print(
            f"{each.client:<26} {each.seconds:>7.1f} {own.sent:>5} {own.left:>5} {own.calls:>6}  "
            f"{each.error or 'answered'}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SETUPS)}; else {', '.join(FIRST)}")
    parser.add_argument("--seconds", type=float, default=330)
    parser.add_argument("--folder", type=Path, help="install them there, or use those there")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    names: list[str] = chosen.names or list(FIRST)
    if unknown := set(names) - SETUPS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if chosen.inside:
        real_clients.loopback_up()
        return asyncio.run(inside(chosen.folder, names, chosen.seconds))
    with tempfile.TemporaryDirectory(prefix="exai-clients-") as temporary:
        folder = (chosen.folder or Path(temporary)).absolute()
        folder.mkdir(exist_ok=True)
        real_clients.install(folder, names)
        if not real_parts.NODE_SDKS.is_there() and not real_parts.NODE_SDKS.fetch():
            return 1
        again = [sys.executable, str(Path(__file__).resolve()), "--inside"]
        again += ["--folder", str(folder), "--seconds", str(chosen.seconds), *names]
        return real_clients.in_namespace(again)


if __name__ == "__main__":
    sys.exit(main())
