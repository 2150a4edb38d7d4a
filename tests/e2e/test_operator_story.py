"""What an operator does when a service has had enough, from the first 429 to the audit log.

The service allows one call at a time, the broker supposes three. Time passes for the alarms only
when the test says so: they count refusals in a minute.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from exai_actors.client import BrokerClient
from exai_actors.client.console import open_console
from exai_actors.client.errors import Unauthorized
from exai_actors.daemon.observing import parts
from exai_actors.daemon.observing.alarm_watch import AlarmWatch
from exai_actors.testing.broker import RunningBroker, running_broker
from exai_actors.testing.scripted_replies import Gate, Reply, answer, failure
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from exai_actors.testing.upstream_log import SeenRequest

ROLES = {"vera": "viewer", "otto": "operator", "ada": "admin"}
WORDS = "max organization concurrency: 1, please try again after 20 seconds"
REASON = "kimi takes one call at a time since noon"
LONG_MS = 600_000


class Minutes:
    """The alarms of the brokers that open from now on, which look when time passes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._later = 0.0
        self._watches: list[AlarmWatch] = []
        monkeypatch.setattr(parts, "AlarmWatch", self._watch)

    def _watch(self, *rules: Any, now: Callable[[], float], **sources: Any) -> AlarmWatch:
        self._watches.append(AlarmWatch(*rules, now=lambda: now() + self._later, **sources))
        return self._watches[-1]

    def look(self) -> None:
        for watch in self._watches:
            watch.look()

    def let_pass(self, seconds: int) -> None:
        """Let the alarms look at each of so many seconds."""
        for _ in range(seconds):
            self._later += 1
            self.look()


class Desk:
    """The questions and actions of people with tokens of their own."""

    def __init__(self, broker: RunningBroker) -> None:
        self._url = broker.url

    async def table(self, name: str, **query: Any) -> list[dict[str, Any]]:
        """The rows of a table as a viewer sees them."""
        async with open_console(self._url, token_of("vera")) as console:
            async for table in console.watch(name, **query):
                columns = [column["name"] for column in table.columns]
                return [dict(zip(columns, row, strict=True)) for row in table.rows.values()]
        raise AssertionError("a watched table has a first state")

    async def sees_alarms(self, *names: str) -> None:
        """Wait until these alarms of the provider are raised and no other; the header counts them.

        Consoles share rows for a tenth of a second.
        """
        async with asyncio.timeout(10):
            # Tables can only be polled.
            while await self._alarms() != (set(names), len(names)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def _alarms(self) -> tuple[set[str], int]:
        (broker,) = await self.table("broker")
        rows = await self.table("alarms")
        return {each["name"] for each in rows if each["subject"] == "kimi"}, broker["alarms"]

    async def why(self, request: str) -> dict[str, Any]:
        async with open_console(self._url, token_of("vera")) as console:
            return await console.ask("why", request)

    async def act(self, who: str, action: str, **how: Any) -> dict[str, Any]:
        async with open_console(self._url, token_of(who)) as console:
            return await console.act(action, ["kimi"], **how)


def token_of(name: str) -> str:
    return f"the-token-of-{name}"


def settings(service: ScriptedUpstream, folder: Path) -> dict[str, Any]:
    operators = []
    for name, role in ROLES.items():
        file = folder / f"{name}.token"
        file.write_text(token_of(name))
        file.chmod(0o600)
        operators.append({"name": name, "token_file": str(file), "role": role})
    kimi = {
        "kind": "openai",
        "name": "kimi",
        "base_url": service.base_url,
        "models": ["k2"],
        "limit": 3,
        "circuit_failures": 100,
    }
    return {
        "provider": [kimi],
        "operator": operators,
        "audit": {"file": str(folder / "audit.jsonl")},
        "alarms": {"rate_limited_per_minute": 2, "ignore": ["loop_lag", "memory"]},
    }


def ask(client: BrokerClient, name: str) -> asyncio.Task[Any]:
    return asyncio.create_task(
        client.call("chat", prompt=name, request_id=name, deadline_ms=LONG_MS), name=name
    )


async def test_an_operator_ends_the_refusals_of_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minutes = Minutes(monkeypatch)
    gate = Gate()

    def one_at_a_time(request: SeenRequest) -> Reply:
        if service.in_flight > 1:
            return failure(429, WORDS, headers={"Retry-After": "20"})
        return answer("echo: ", gate, request.prompt)

    async with (
        ScriptedUpstream(default=one_at_a_time) as service,
        running_broker(settings(service, tmp_path)) as broker,
        broker.connect() as client,
    ):
        desk = Desk(broker)
        minutes.look()
        await desk.sees_alarms()

        # The service begins to answer 429.
        calls = [ask(client, "first")]
        await gate.reached()
        calls.append(ask(client, "second"))
        await refused(desk, 1)
        minutes.look()
        await desk.sees_alarms("provider_held")
        why = await desk.why("second")
        assert (why["reason"], why["provider"]) == ("hold", "kimi")
        assert WORDS in why["text"]
        assert WORDS in why["figures"]["cause"]

        # To lift the hold is no remedy: it refuses again.
        await desk.act("otto", "provider.lift_hold")
        await refused(desk, 2)
        minutes.look()
        await desk.sees_alarms("provider_held", "rate_limited")

        # A viewer can change nothing, and this change is for admins.
        for who in ("vera", "otto"):
            with pytest.raises(Unauthorized, match=f"needs the role admin; yours is {ROLES[who]}"):
                await desk.act(who, "provider.limit", arguments={"limit": 1}, reason="let me")
        with pytest.raises(Unauthorized, match="needs the role operator; yours is viewer"):
            await desk.act("vera", "provider.lift_hold")
        assert await limit_and_failures(desk) == (3, 2)

        # The limit is lowered; from now on the service is not asked for more than it allows.
        began = datetime.now(UTC)
        lowered = await desk.act("ada", "provider.limit", arguments={"limit": 1}, reason=REASON)
        (effect,) = lowered["effects"]
        assert effect["text"].startswith("limit 3 -> 1")
        await desk.act("otto", "provider.lift_hold", reason="the limit is right now")
        calls.append(ask(client, "third"))
        assert (await desk.why("second"))["reason"] == "permit"
        minutes.let_pass(20)
        await desk.sees_alarms("rate_limited")
        gate.open()
        assert [(await call).text for call in calls] == [
            f"echo: {call.get_name()}" for call in calls
        ]
        minutes.let_pass(120)
        await desk.sees_alarms()
        assert await limit_and_failures(desk) == (1, 2)

        # The record has it all.
        lift, limit, *tries, first_lift = await desk.table("audit")
        assert (limit["operator"], limit["role"], limit["outcome"]) == ("ada", "admin", "done")
        assert (limit["action"], limit["target"]) == ("provider.limit", "kimi")
        assert (limit["reason"], limit["effect"]) == (REASON, effect["text"])
        assert "limit 3" in limit["before"]
        assert began <= datetime.fromisoformat(limit["at"]) <= datetime.now(UTC)
        assert [(each["operator"], each["outcome"]) for each in (lift, *tries, first_lift)] == [
            ("otto", "done"),
            ("vera", "refused"),
            ("otto", "refused"),
            ("vera", "refused"),
            ("otto", "done"),
        ]
        events = [each["what"] for each in await desk.table("events")]
        assert f"limit 3 -> 1: ada: {REASON}" in events
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    kept = [each for each in lines if each["action"] == "provider.limit"][-1]
    assert (kept["operator"], kept["reason"], kept["time"]) == ("ada", REASON, limit["at"])
    assert kept["effects"][0]["before"] == limit["before"]


async def limit_and_failures(desk: Desk) -> tuple[int, int]:
    (kimi,) = await desk.table("providers")
    return kimi["limit"], kimi["failed"]


async def refused(desk: Desk, times: int) -> None:
    """Wait until the broker has taken note of so many refusals."""
    async with asyncio.timeout(10):
        # A table can only be polled.
        while (await limit_and_failures(desk))[1] < times:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
