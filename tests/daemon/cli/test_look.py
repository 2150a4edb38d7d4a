"""`exai why`, `usage`, `tree`, `inspect` and `events`: what people and scripts read."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from exai_actors.client.console import WatchedTable
from exai_actors.core.capacity.changes import SetLimit
from exai_actors.daemon.cli.look import _indent
from exai_actors.daemon.cli.top_text import table_text
from exai_actors.daemon.cli.why import why_lines
from exai_actors.testing.broker import RunningBroker, running_broker
from tests.daemon.processes import EXAI, clean_environment, exai

CONFIG = {"provider": [{"kind": "synthetic", "name": "kimi", "limit": 1, "delay_ms": 3_600_000}]}


@asynccontextmanager
async def busy_broker() -> AsyncIterator[RunningBroker]:
    """A broker with one request that runs and one that waits for it."""
    async with running_broker(CONFIG) as broker, broker.connect() as client:
        calls = [
            asyncio.create_task(client.call("chat", {"prompt": "my secret"}, request_id=name))
            for name in ("first\n9/9  forged\tr\x1b[2J", "second")
        ]
        async with asyncio.timeout(10):
            # Statistics can only be polled.
            while broker.statistics().providers[0].queued < 1:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        yield broker
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def test_a_waiting_request_is_explained_to_people_and_to_scripts() -> None:
    async with busy_broker() as broker:
        text = await exai("why", "second", "--timeline", "--url", broker.url)
        as_json = await exai("why", "second", "--timeline", "--json", "--url", broker.url)
        by_number = await exai("why", "1/1", "--url", broker.url)
        unknown = await exai("why", "third", "--url", broker.url)
        top = await exai("top", "requests", "--once", "--url", broker.url)
        inspected = await exai("inspect", "providers/kimi", "--json", "--url", broker.url)
        nowhere = await exai("inspect", "/providers/glm", "--url", broker.url)
        usage = await exai("usage", "--json", "--url", broker.url)
        events = await exai("events", "--filter", "event:none", "--url", broker.url)
        tree = await exai("tree", "--url", broker.url)
    assert text.code == 0
    assert "waits for permit: kimi: 1 of 1 calls in flight" in text.out
    assert max(map(len, text.out.splitlines())) <= 100
    assert "\x1b" not in text.out
    answer = json.loads(as_json.out)
    assert (answer["reason"], answer["position"], answer["request"]) == ("permit", 1, "1/2")
    assert [each["event"] for each in answer["timeline"]][:2] == ["received", "accepted"]
    assert "running, waited 0.0 s, runs now" in by_number.out
    assert (unknown.code, unknown.out) == (7, "")
    assert unknown.err == "exai: there is no request 'third' without an outcome\n"
    assert "second" in top.out
    for printed in (by_number, top):
        assert "forged" in printed.out
        assert not any(line.startswith("9/9") for line in printed.out.splitlines())
        assert not set("\t\x1b") & set(printed.out)
    assert "my secret" not in text.out + as_json.out + top.out + inspected.out
    assert json.loads(inspected.out)["path"] == "/providers/kimi"
    assert events.out.startswith("no events")
    assert "Allowed" in tree.out.splitlines()[0]
    assert nowhere.code == 7
    assert "there is no actor at /providers/glm" in nowhere.err
    (used,) = json.loads(usage.out)
    assert (used["provider"], used["calls_now"], used["tokens_hour"]) == ("kimi", 1, 0)


async def test_events_are_printed_as_they_happen() -> None:
    async with running_broker(CONFIG) as broker:
        await broker.change("kimi", SetLimit(3))
        # A busy machine makes events of its own: slow handlers.
        only = ("--filter", "event:provider.capacity_changed")
        process = await asyncio.create_subprocess_exec(
            *EXAI,
            "events",
            "--follow",
            *only,
            "--url",
            broker.url,
            stdout=PIPE,
            stderr=PIPE,
            env=clean_environment(),
        )
        assert process.stdout is not None
        async with asyncio.timeout(20):
            first = await process.stdout.readline()
            once = await exai("events", "--json", *only, "--url", broker.url)
            await broker.change("kimi", SetLimit(5))
            second = await process.stdout.readline()
        process.send_signal(2)
        await process.communicate()
    (event,) = json.loads(once.out)
    assert (event["event"], event["where"]) == ("provider.capacity_changed", "kimi")
    assert b"provider.capacity_changed  kimi" in first
    assert b"5" in second
    assert process.returncode == 0


def why(**facts: Any) -> list[str]:
    answer = {
        "request": "17/3",
        "request_id": "r-1",
        "tenant": "alice",
        "session": "s-alice",
        "provider": "kimi",
        "model": "moon",
        "state": "queued",
        "waited_s": 12.34,
        "starts_in_s": 40.2,
        "position": 25,
        "position_is_estimate": False,
        "queued": 60,
        "reason": "tenant_share",
        "text": "kimi: all permits are in use",
        "figures": {},
        "also": [],
        "ahead": [],
        "running": [],
    }
    return why_lines(answer | facts)


AHEAD = {"request": "2/1", "tenant": "bob", "session": "s-bob", "because": "it came earlier"}


def test_the_place_the_wait_and_the_reason_are_in_three_lines() -> None:
    assert why() == [
        "request 17/3, called r-1 by its client",
        "tenant alice, session s-alice",
        "for kimi/moon: queued, 25 of 60 in line, waited 12.3 s, runs in about 40 s",
        "waits for tenant_share: kimi: all permits are in use",
    ]


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"position_is_estimate": True, "position": 9_000}, "about 9000 of 60 in line"),
        ({"starts_in_s": None}, "waited 12.3 s"),
        ({"also": [{"code": "hold", "text": "held"}]}, "also for hold: held"),
        ({"ahead": [AHEAD]}, "  2/1  bob  s-bob  it came earlier"),
        ({"ahead": [AHEAD]}, "  and 23 more"),
        ({"running": [AHEAD]}, "  2/1  bob  s-bob"),
    ],
)
def test_further_facts_have_lines_of_their_own(facts: dict[str, Any], line: str) -> None:
    assert line in "\n".join(why(**facts))


def test_the_tree_is_indented_by_its_depth() -> None:
    kinds = {"path": "text", "depth": "count", "strategy": "text", "restarts": "total"}
    table = WatchedTable(
        [{"name": name, "title": name.title(), "kind": kind} for name, kind in kinds.items()]
    )
    table.rows = {
        "/": ["/", 0, "rest_for_one", 0],
        "/providers": ["/providers", 1, "one_for_one", 2],
        "/providers/kimi": ["/providers/kimi", 2, "", 2],
    }
    table.matching = table.total = 3
    _indent(table)
    assert table_text(table, width=80).splitlines() == [
        "Path         Strategy      Restarts",
        "/            rest_for_one         0",
        "  providers  one_for_one          2",
        "    kimi                          2",
    ]
