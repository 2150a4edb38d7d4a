"""Alarms of a running broker: in the log, in the table of the consoles, and at the webhook."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import pytest
import structlog
from aiohttp import web

from exai_actors.console.tables.alarms import ALARMS, alarm_rows
from exai_actors.console.tables.events import EventLog
from exai_actors.core.alarm_readings import ProcessFigures, Thresholds
from exai_actors.core.calls import FailureKind
from exai_actors.core.capacity.changes import Pause, Reopen
from exai_actors.core.observe.alarms import AlarmChange
from exai_actors.daemon.observing.alarm_watch import AlarmWatch, alarm_message
from exai_actors.edges.webhook import MAX_WAITING, Webhook
from exai_actors.testing.broker import running_broker
from exai_actors.testing.tree import ManualTree

TOKEN = "w" * 16
Answer = Callable[[int], int]


class Receiver:
    """A local server that takes webhooks; ``answer`` gives the status for each attempt from 1."""

    def __init__(self, answer: Answer) -> None:
        self.messages: list[dict[str, Any]] = []
        self.tokens: list[str | None] = []
        self.attempts = 0
        self.url = ""
        self._answer = answer
        self._more = asyncio.Condition()

    async def take(self, request: web.Request) -> web.Response:
        async with self._more:
            self.attempts += 1
            status = self._answer(self.attempts)
            if status < 300:
                self.messages.append(await request.json())
                self.tokens.append(request.headers.get("Authorization"))
            self._more.notify_all()
        return web.Response(status=status)

    async def wait_for(self, is_there: Callable[[], bool]) -> None:
        async with self._more:
            await self._more.wait_for(is_there)


@asynccontextmanager
async def receiver(answer: Answer = lambda _: 200) -> AsyncIterator[Receiver]:
    taken = Receiver(answer)
    app = web.Application()
    app.router.add_post("/hook", taken.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    taken.url = f"http://127.0.0.1:{port}/hook"
    try:
        yield taken
    finally:
        await runner.cleanup()


def watch(tree: ManualTree, *, ignored: frozenset[str] = frozenset()) -> AlarmWatch:
    return AlarmWatch(
        Thresholds(),
        ignored,
        statistics=tree.board.statistics,
        calls=lambda: tree.board.call_figures,
        process=lambda: ProcessFigures(0, 0.0, 0.0, (0.0, "")),
        now=tree.driver.now,
    )


def test_a_closed_provider_is_logged_shown_and_cleared() -> None:
    tree = ManualTree()
    alarms = watch(tree)
    changes: list[AlarmChange] = []
    alarms.observers = (changes.append,)
    with structlog.testing.capture_logs() as entries:
        alarms.look()
        tree.board.close_provider(next(iter(tree.accounts)), "it failed too often")
        tree.advance(1.0)
        alarms.look()
        rows = dict(alarm_rows(alarms.raised, tree.driver.now() + 4))
    (raised,) = entries
    assert raised == {
        "event": "alarm.raised",
        "log_level": "warning",
        "alarm": "provider_closed",
        "subject": "kimi",
        "severity": "critical",
        "value": 1.0,
        "threshold": 1.0,
        "text": "it failed too often",
    }
    shown = dict(
        zip((column.name for column in ALARMS.columns), rows["provider_closed/kimi"], strict=True)
    )
    assert shown == {
        "name": "provider_closed",
        "subject": "kimi",
        "severity": "critical",
        "since_s": 4,
        "value": "1",
        "threshold": "1",
        "text": "it failed too often",
    }
    assert [alarm_message(change, 12.3456)["state"] for change in changes] == ["raised"]


def test_an_alarm_clears_in_the_log_with_its_duration() -> None:
    tree = ManualTree()
    alarms, events = watch(tree), EventLog(tree.driver.now())
    alarms.observers = (events.add_alarm,)
    tree.change(Pause())
    tree.change(Pause(), "glm")
    with structlog.testing.capture_logs() as entries:
        for _ in range(20):
            alarms.look()
            tree.advance(1.0)
        tree.change(Reopen())
        for _ in range(20):
            alarms.look()
            tree.advance(1.0)
    raised, cleared = (each for each in entries if each["event"].startswith("alarm."))
    assert raised["text"] == "kimi is paused; glm is paused"
    assert cleared == {
        "event": "alarm.cleared",
        "log_level": "info",
        "alarm": "no_usable_provider",
        "subject": "",
        "seconds": 22.0,
    }
    assert alarms.raised == ()
    assert [row[1:] for _, row in events.rows()] == [
        ("alarm.cleared", "", "no_usable_provider: after 22 s"),
        ("alarm.raised", "", "no_usable_provider: kimi is paused; glm is paused"),
    ]


def test_an_ignored_alarm_is_never_raised() -> None:
    tree = ManualTree()
    alarms = watch(tree, ignored=frozenset({"no_usable_provider"}))
    tree.change(Pause())
    tree.change(Pause(), "glm")
    for _ in range(20):
        alarms.look()
        tree.advance(1.0)
    assert alarms.raised == ()


async def test_a_running_broker_reports_to_its_consoles_and_its_webhook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", TOKEN)
    monkeypatch.setattr("exai_actors.daemon.observing.alarm_watch.EVERY_S", 0.01)
    async with receiver() as taken:
        config = {
            "alarms": {
                "webhook_url": taken.url,
                "webhook_token_env": "HOOK_TOKEN",
                "mailbox_share": 0.5,
                "memory_share": 0.000001,
                "ignore": ["loop_lag"],
            }
        }
        async with running_broker(config) as running:
            await taken.wait_for(lambda: bool(taken.messages))
            consoles = running.broker._consoles
            assert [alarm.rule for alarm in consoles.alarms()] == ["memory"]
            assert consoles.process().alarms == 1
            assert [row[0] for _, row in consoles.sources.rows("alarms", inf)] == ["memory"]
            events = [row[1:3] for _, row in consoles.sources.rows("events", inf)]
            assert ("alarm.raised", "process") in events
    (message,) = taken.messages
    assert taken.tokens == [f"Bearer {TOKEN}"]
    assert (message["alarm"], message["state"], message["severity"]) == (
        "memory",
        "raised",
        "critical",
    )
    assert message["text"].startswith("exai: memory (process) raised: the process has ")


async def test_a_message_is_tried_again_and_the_next_ones_wait_in_order() -> None:
    async with receiver(lambda attempt: 503 if attempt < 3 else 200) as taken:
        hook = Webhook(taken.url, retry_after_s=(0.0, 0.0, 0.0))
        hook.send({"n": 1})
        hook.send({"n": 2})
        await taken.wait_for(lambda: len(taken.messages) == 2)
        await hook.aclose()
    assert (taken.messages, taken.attempts, hook.dropped) == ([{"n": 1}, {"n": 2}], 4, 0)
    assert taken.tokens == [None, None]


async def test_a_message_is_given_up_after_its_attempts_and_the_log_names_only_the_host() -> None:
    async with receiver(lambda attempt: 404 if attempt < 3 else 200) as taken:
        hook = Webhook(f"{taken.url}?secret=1", retry_after_s=(0.0,))
        with structlog.testing.capture_logs() as entries:
            hook.send({"n": 1})
            hook.send({"n": 2})
            await taken.wait_for(lambda: len(taken.messages) == 1)
            await hook.aclose()
    assert (taken.messages, hook.dropped) == ([{"n": 2}], 1)
    (entry,) = entries
    assert (entry["event"], entry["host"], entry["cause"]) == (
        "alarm.webhook_failed",
        "127.0.0.1",
        "HTTP 404",
    )


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/hook", "http://no-such-host.invalid/"])
async def test_an_address_that_does_not_answer_costs_the_message_only(address: str) -> None:
    hook = Webhook(address, retry_after_s=())
    with structlog.testing.capture_logs() as entries:
        hook.send({"n": 1})
        assert hook._task is not None
        await hook._task
        await hook.aclose()
    assert hook.dropped == 1
    assert "Error" in entries[0]["cause"]


async def test_messages_that_wait_are_bounded_and_the_end_does_not_wait_for_them() -> None:
    hook = Webhook("http://127.0.0.1:1/", retry_after_s=(3600.0,), close_s=0.0)
    for number in range(MAX_WAITING + 7):
        hook.send({"n": number})
    assert hook.dropped == 7
    await hook.aclose()


def test_a_service_that_refuses_calls_for_their_rate_raises_alarms_until_it_serves_again() -> None:
    tree = ManualTree(limit=4)
    alarms = watch(tree)
    seen: list[set[str]] = []

    def pass_time(seconds: int) -> None:
        for _ in range(seconds):
            tree.advance(1.0)
            alarms.look()
            seen.append({alarm.rule for alarm in alarms.raised})

    client = tree.client()
    pass_time(1)
    for number in range(12):
        client.call(f"call-{number}")
        for call in tree.upstream.running:
            call.fail(FailureKind.RATE_LIMITED, "HTTP 429: slow down", retry_after=2.0)
        tree.settle()
        pass_time(3)
    assert {"provider_held"} in seen
    held = next(each for each in alarms.raised if each.rule == "provider_held")
    assert "rate_limited" in held.text
    assert {"provider_held", "rate_limited"} in seen
    for _ in range(30):
        for call in tree.upstream.running:
            call.complete()
        tree.settle()
        pass_time(5)
    assert alarms.raised == ()


async def test_figures_that_cannot_be_read_are_logged_once_and_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("exai_actors.daemon.observing.alarm_watch.EVERY_S", 0.001)
    tree = ManualTree()
    alarms = watch(tree)
    looks = asyncio.Queue[int]()
    look, failures = alarms.look, [ValueError("half-changed")] * 3

    def failing() -> None:
        looks.put_nowait(len(failures))
        if failures:
            raise failures.pop()
        look()

    monkeypatch.setattr(alarms, "look", failing)
    with structlog.testing.capture_logs() as entries, alarms.watching():
        while await looks.get():
            pass
        await looks.get()
    (entry,) = entries
    assert (entry["event"], entry["error"]) == ("alarm.look_failed", "half-changed")
