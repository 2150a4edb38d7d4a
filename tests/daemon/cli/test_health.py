"""`exai health`: the tables, and their refreshing."""

from __future__ import annotations

import asyncio
import json
import signal
from asyncio.subprocess import PIPE
from typing import Any

import pytest

from exai_actors.core.capacity.changes import Pause
from exai_actors.daemon.cli.health_text import health_text, state_of
from exai_actors.testing.broker import running_broker
from tests.daemon.processes import EXAI, clean_environment, ended, exai

HOLD = {"code": "hold", "ends_in_s": 60.4, "text": "kimi: account refused for quota"}
PROVIDER = {
    "name": "kimi",
    "models": ["k2"],
    "mode": "open",
    "circuit": "closed",
    "trouble": None,
    "waits_for": None,
    "model_holds": [],
    "in_flight": 0,
    "limit": 3,
    "queued": 0,
    "gates": [],
    "failed": 0,
    "violations": 0,
    "next_free_s": 0.0,
}


def provider(**more: Any) -> dict[str, Any]:
    return {**PROVIDER, **more}


def gate(name: str, used: float, limit: int) -> dict[str, Any]:
    return {"name": name, "used": used, "limit": limit}


def health(*providers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "version": "1.2",
        "uptime_human": "0:12:03",
        "connections": 1,
        "sessions": 2,
        "draining": False,
        "providers": list(providers),
        "tenants": [],
        **more,
    }


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({}, "serving"),
        ({"waits_for": HOLD}, "held 61 s"),
        ({"circuit": "open", "waits_for": {"code": "circuit", "ends_in_s": 4.2}}, "down 4.2 s"),
        ({"circuit": "half_open", "waits_for": {"code": "circuit"}}, "testing"),
        ({"circuit": "open"}, "testing"),
        ({"mode": "paused", "waits_for": {"code": "paused"}}, "paused"),
        ({"mode": "draining", "waits_for": HOLD}, "draining"),
        ({"mode": "closed"}, "closed"),
        ({"trouble": "HTTP 401", "models": []}, "no models"),
        ({"trouble": "HTTP 500"}, "serving"),
        ({"waits_for": {"code": "requests_per_minute", "ends_in_s": 5.0}}, "serving"),
        ({"waits_for": {"code": "hold", "ends_in_s": 604_800.0}}, "held 7 d"),
        ({"waits_for": {"code": "hold", "ends_in_s": 840.0}}, "held 14 min"),
    ],
)
def test_the_state_is_one_word_and_its_time(more: dict[str, Any], state: str) -> None:
    assert state_of(provider(**more)) == state


def test_the_tables_as_a_whole() -> None:
    found = health(
        provider(
            waits_for=HOLD,
            in_flight=0,
            queued=2,
            failed=1,
            next_free_s=60.4,
            gates=[
                gate("requests_per_minute", 3, 3),
                gate("tokens_per_minute", 1_900_000, 2_000_000),
                gate("requests_per_day", 7, 1500),
            ],
        ),
        provider(
            name="a-provider-with-a-long-name",
            limit=50,
            in_flight=12,
            next_free_s=None,
            gates=[gate("tokens_per_minute", 12_500, 500_000)],
            model_holds=[{"model": "glm-5", "held_for_s": 9.0, "because": "rate_limited"}],
            trouble="answered HTTP 500",
            violations=1,
        ),
        connections=3,
        draining=True,
        tenants=[
            {
                "name": "editor",
                "weight": 3.0,
                "share": 0.75,
                "in_flight": 2,
                "queued": 1,
                "sessions": [{"session": "desk-1", "in_flight": 2, "queued": 1}],
            },
            {
                "name": "",
                "weight": 1.0,
                "share": None,
                "in_flight": 0,
                "queued": 0,
                "sessions": [],
            },
        ],
    )
    text = health_text(found)
    assert text.splitlines() == [
        "exai 1.2, up 0:12:03, 3 connections, 2 sessions, draining",
        "",
        "provider        state      running  waiting          minute     day  failed  next",
        "kimi            held 61 s      0/3        2             3/3  7/1500       1  in 61 s",
        "a-provider-wi…  serving      12/50        0  12.5k/500k tok       -       0  ?",
        "",
        "kimi: account refused for quota",
        "a-provider-with-a-long-name: model glm-5 held for 9 s (rate_limited)",
        "a-provider-with-a-long-name: could not list its models: answered HTTP 500",
        "a-provider-with-a-long-name: 1 violated invariants; see the broker's log",
        "",
        "tenant    weight  share  running  waiting",
        "editor         3    75%        2        1",
        "  desk-1                       2        1",
        "default        1      -        0        0",
    ]


def test_a_usual_account_fits_into_80_columns() -> None:
    found = health(
        provider(
            name="kimi-for-coding",
            waits_for=HOLD,
            limit=50,
            in_flight=50,
            queued=120,
            failed=250,
            next_free_s=60.4,
            gates=[gate("requests_per_minute", 150, 200), gate("requests_per_day", 900, 1500)],
        )
    )
    assert max(map(len, health_text(found).splitlines())) <= 80


async def test_the_state_of_a_running_broker_with_gates_tenants_and_connections() -> None:
    table = {"kind": "synthetic", "name": "slow", "limit": 2, "requests_per_minute": 1}
    table["tokens_per_second"] = 0
    async with running_broker({"provider": [table]}) as broker, broker.connect() as client:
        await client.call("chat", prompt="hello")
        queued = asyncio.Event()
        waits = asyncio.ensure_future(
            client.call("chat", prompt="waits", on_progress=lambda _: queued.set())
        )
        async with asyncio.timeout(10):
            await queued.wait()
        result = await exai("health", "--url", broker.url)
        as_json = json.loads((await exai("health", "--json", "--url", broker.url)).out)
        waits.cancel()
    lines = result.out.splitlines()
    assert "2 connections" in lines[0]
    assert " ".join(lines[3].split()).startswith("slow serving 0/2 1 1/1 - 0 in ")
    assert "slow: 1 of 1 requests this minute used, next in " in result.out
    assert any(line.split() == ["default", "1", "100%", "0", "1"] for line in lines)
    (tenant,) = as_json["tenants"]
    assert (tenant["queued"], len(tenant["sessions"])) == (1, 1)
    assert as_json["providers"][0]["waits_for"]["code"] == "requests_per_minute"
    assert set(as_json) >= {"version", "uptime_s", "connections", "sessions", "tool_count"}


@pytest.mark.parametrize("arguments", [(), ("--json",)])
async def test_watch_refreshes_until_it_is_interrupted(arguments: tuple[str, ...]) -> None:
    async with running_broker() as broker:
        command = [*EXAI, "health", "--watch", "--every", "0.5", *arguments, "--url", broker.url]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=PIPE, stderr=PIPE, env=clean_environment()
        )
        assert process.stdout is not None
        mark = b'"version"' if arguments else b"connection"
        async with asyncio.timeout(20):
            for _ in range(2):
                while mark not in await process.stdout.readline():
                    pass
        process.send_signal(signal.SIGINT)
        result = await ended(process)
    assert (result.code, result.err) == (0, "")
    assert "\x1b" not in result.out


@pytest.mark.parametrize("every", ["0", "-1", "nan", "3601"])
async def test_the_interval_of_watch_is_bounded(every: str) -> None:
    result = await exai("health", "--watch", "--every", every)
    assert result.code == 2
    assert "--every" in result.err


@pytest.mark.parametrize("width", [24, 40, 50, 64, 65, 80, 100])
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_lost(width: int) -> None:
    gates = [gate("requests_per_minute", 2, 3), gate("tokens_per_day", 12_345_678, 99_000_000)]
    tenant = {"name": "editor", "weight": 3, "share": 0.75, "in_flight": 1, "queued": 12}
    session = {"session": "desk-1", "in_flight": 0, "queued": 7}
    found = health(
        provider(waits_for=HOLD, gates=gates, queued=17, failed=5),
        provider(name="a-long-name-of-a-provider", next_free_s=61.0),
        tenants=[{**tenant, "sessions": [session]}],
    )
    text = health_text(found, width)
    assert max(map(len, text.splitlines())) <= width
    for figure in ("held 61 s", "2/3", "12.3M/99M", "17", "5", "75%", "desk-1", "7", "61 s"):
        assert figure in " ".join(text.split()), figure
    assert (width < 90) is ("running 0/3" in " ".join(text.split()))


def test_a_narrow_terminal_gets_a_block_for_each_provider() -> None:
    text = health_text(health(provider(queued=2), provider(name="glm")), 40)
    assert text.splitlines()[3:] == [
        "kimi  serving",
        "  running 0/3, waiting 2, minute -, day",
        "  -, failed 0, next now",
        "glm  serving",
        "  running 0/3, waiting 0, minute -, day",
        "  -, failed 0, next now",
    ]


async def test_readiness_is_an_exit_code() -> None:
    async with running_broker() as running:
        ready = await exai_at(running.url)
        await running.change("synthetic", Pause())
        paused = await exai_at(running.url)
        as_json = await exai_at(running.url, "--json")
        url = running.url
    gone = await exai_at(url)
    assert ready[:2] == (0, "ready\n")
    assert paused[:2] == (8, "not ready: synthetic is paused\n")
    assert json.loads(as_json[1]) == {"ready": False, "reasons": ["synthetic is paused"]}
    assert gone[0] == 5
    assert gone[2] == (
        f"exai: cannot connect to {url}: connection refused. Is the broker running there? "
        "`exai serve` starts one.\n"
    )
    assert (await exai_at("http://127.0.0.1:1"))[0] == 2


async def exai_at(url: str, *arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *EXAI,
        "health",
        "--ready",
        *arguments,
        "--url",
        url,
        env=clean_environment(),
        stdout=PIPE,
        stderr=PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()
