"""A provider is changed while clients use it."""

from __future__ import annotations

import asyncio

import pytest

from exai_actors.core.capacity.changes import Pause, Reopen, SetLimit
from exai_actors.daemon import live_changes
from exai_actors.daemon.live_changes import change_provider
from exai_actors.errors import UsageError
from exai_actors.runtime import ActorSystem, AsyncioDriver, Callback, LoopActor, PathRef
from exai_actors.testing.broker import broker_in_thread, running_broker

ONE_AT_A_TIME = {
    "provider": [{"kind": "synthetic", "name": "slow", "limit": 1, "delay_ms": 20}],
}


async def test_a_paused_provider_lets_wait_until_it_is_opened_again() -> None:
    async with running_broker(ONE_AT_A_TIME) as broker, broker.connect() as client:
        await broker.change("slow", Pause(), "maintenance")
        waits = asyncio.Event()
        asked = asyncio.create_task(
            client.call("chat", prompt="hello", on_progress=lambda _: waits.set())
        )
        await waits.wait()
        assert not asked.done()
        await broker.change("slow", Reopen(), "maintenance is over")
        assert "hello" in (await asked).text
        events = [(event.what, event.cause) for event in broker.statistics().providers[0].events]
    assert [cause for _, cause in events] == ["maintenance", "maintenance is over"]


async def test_what_makes_no_sense_is_refused_and_changes_nothing() -> None:
    async with running_broker(ONE_AT_A_TIME) as broker:
        with pytest.raises(UsageError, match="a limit is 0 to"):
            await broker.change("slow", SetLimit(-1))
        with pytest.raises(UsageError, match="choose from slow"):
            await broker.change("fast", SetLimit(2))
        assert broker.statistics().providers[0].limit == 1


def test_a_broker_on_its_own_thread_can_be_changed_from_the_test() -> None:
    with broker_in_thread(ONE_AT_A_TIME) as broker:
        broker.change("slow", SetLimit(3))
        assert broker.statistics().providers[0].limit == 3


PATH = "/providers/slow"


async def test_a_provider_that_is_not_running_cannot_be_changed() -> None:
    system = ActorSystem(AsyncioDriver(asyncio.get_running_loop()))
    with pytest.raises(UsageError, match="/providers/slow is not running"):
        await change_provider(PathRef(system, PATH), Pause(), "maintenance")


async def test_a_provider_that_ends_before_its_reply_is_named() -> None:
    system = ActorSystem(AsyncioDriver(asyncio.get_running_loop()))
    system.spawn(LoopActor, path=PATH).stop(block=False)
    with pytest.raises(UsageError, match="/providers/slow did not reply"):
        await change_provider(PathRef(system, PATH), Pause(), "maintenance")


async def test_a_provider_that_does_not_reply_in_time_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class StuckDriver(AsyncioDriver):
        def call_soon(self, callback: Callback, /) -> asyncio.Handle:
            """Do something else instead."""
            return super().call_soon(int)

    monkeypatch.setattr(live_changes, "REPLY_WITHIN_S", 0.01)
    system = ActorSystem(StuckDriver(asyncio.get_running_loop()))
    system.spawn(LoopActor, path=PATH)
    with pytest.raises(UsageError, match="/providers/slow did not reply"):
        await change_provider(PathRef(system, PATH), Pause(), "maintenance")
    system._abandon_all()
