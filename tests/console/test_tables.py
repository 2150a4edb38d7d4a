"""The rows of the tables: figures of real actors, and books that do not balance."""

from __future__ import annotations

from typing import Any

import pytest

from exai_actors.console.tables.actors import ACTORS, ActorRows
from exai_actors.console.tables.events import (
    DEAD_LETTERS,
    EVENTS,
    MAX_EVENTS,
    EventLog,
    dead_letter_rows,
    newest_first,
    provider_event_rows,
)
from exai_actors.console.tables.providers import PROVIDERS, RecentTimes, provider_rows
from exai_actors.core.calls import FailureKind
from exai_actors.core.capacity.changes import SetLimit
from exai_actors.core.capacity.settings import CapacitySettings, GateSettings, RetrySettings
from exai_actors.core.observe.query import Table
from exai_actors.core.observe.tables import Row
from exai_actors.testing.tree import ManualTree


def named(table: Table, row: Row) -> dict[str, Any]:
    assert len(row) == len(table.columns)
    return {column.name: cell for column, cell in zip(table.columns, row, strict=True)}


def providers(tree: ManualTree) -> dict[str, dict[str, Any]]:
    rows = provider_rows(tree.board.statistics(), RecentTimes(tree.overview.call_figures), 0.0)
    return {key: named(PROVIDERS, row) for key, row in rows}


def test_a_provider_shows_its_permits_queue_and_gates() -> None:
    capacity = CapacitySettings(limit=2, queue=4, gates=GateSettings(requests_per_minute=10))
    tree = ManualTree(capacity=capacity)
    client = tree.client()
    for name in "abc":
        client.call(name)
    kimi = providers(tree)["kimi"]
    assert (kimi["state"], kimi["limit"], kimi["in_flight"], kimi["free"]) == ("serving", 2, 2, 0)
    assert (kimi["queued"], kimi["full"], kimi["gate"], kimi["conserved"]) == (1, 0.25, 0.2, True)
    tree.upstream.calls[0].complete()
    tree.upstream.calls[1].close()
    tree.settle()
    kimi = providers(tree)["kimi"]
    assert (kimi["completed"], kimi["quarantined"], kimi["conserved"]) == (1, 1, True)


def test_a_provider_that_serves_nothing_says_why() -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=2, retry=RetrySettings(attempts=1)))
    tree.client().call("a")
    tree.upstream.calls[0].fail(FailureKind.QUOTA, retry_after=90.0)
    tree.settle()
    kimi = providers(tree)["kimi"]
    assert kimi["state"].startswith("held for")
    assert kimi["held_s"] >= 90.0
    assert providers(tree)["glm"]["state"] == "serving"


@pytest.mark.parametrize("counter", ["granted", "completed", "failed", "aborted"])
def test_a_counter_that_is_wrong_turns_the_check_red(counter: str) -> None:
    tree = ManualTree(limit=2)
    client = tree.client()
    client.call("a")
    client.call("b")
    tree.upstream.calls[0].complete()
    tree.settle()
    assert providers(tree)["kimi"]["conserved"] is True
    actor: Any = tree.actor("/providers/kimi")._cell.behaviour
    setattr(actor._counts, counter, getattr(actor._counts, counter) + 1)
    assert providers(tree)["kimi"]["conserved"] is False


def test_a_permit_without_a_call_turns_the_check_red() -> None:
    tree = ManualTree(limit=2)
    tree.client().call("a")
    actor: Any = tree.actor("/providers/kimi")._cell.behaviour
    actor._dispatcher.pools[0].ledger.held.clear()
    assert providers(tree)["kimi"]["conserved"] is False


def test_a_restarted_provider_is_conserved_with_the_calls_that_it_adopts() -> None:
    tree = ManualTree(limit=2)
    client = tree.client()
    client.call("a")
    tree.actor("/providers/kimi").tell(object())
    tree.settle()
    kimi = providers(tree)["kimi"]
    assert (kimi["incarnation"], kimi["in_flight"], kimi["conserved"]) == (2, 1, True)
    tree.advance(60.0)
    assert tree.statistics().violations == 0
    tree.upstream.calls[0].close(cut_off=False)
    tree.settle()
    assert providers(tree)["kimi"]["conserved"] is True


@pytest.mark.parametrize(("limit", "lowered"), [(1, 1), (2, 2), (4, 4), (3, 1), (2, 1)])
def test_a_closed_provider_is_conserved_without_the_calls_that_ended_with_it(
    limit: int, lowered: int
) -> None:
    tree = ManualTree(limit=limit)
    client = tree.client()
    client.call("a")
    client.call("b")
    client.call("c")
    tree.change(SetLimit(lowered))
    for _ in range(6):
        tree.advance(1.0)
        tree.actor("/providers/kimi").tell("an unknown message")
        tree.settle()
    kimi = providers(tree)["kimi"]
    assert (kimi["state"], kimi["in_flight"], kimi["queued"]) == ("closed", 0, 0)
    assert kimi["conserved"] is True


def test_actors_show_their_lanes_and_their_work() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a")
    rows = {key: named(ACTORS, row) for key, row in ActorRows(tree.system)}
    kimi = rows["/providers/kimi#1"]
    assert (kimi["class"], kimi["state"], kimi["user"], kimi["incarnation"]) == (
        "ProviderActor",
        "idle",
        0,
        1,
    )
    assert kimi["processed"] >= 1
    assert rows["/broker#1"]["message"] is None


def test_failures_and_dead_letters_become_events() -> None:
    tree = ManualTree()
    events = EventLog(started_at=tree.driver.now())
    tree.system.on_event(events.add)
    client = tree.client()
    tree.advance(5.0)
    tree.actor("/providers/kimi").tell(object())
    tree.settle()
    client.vanish()
    client.ref.tell(object())
    tree.settle()
    shown = [named(EVENTS, row) for _, row in events.rows()]
    found = {(each["event"], each["where"]) for each in shown}
    assert ("actor.failed", "/providers/kimi") in found
    assert ("actor.restarted", "/providers/kimi") in found
    assert shown[0]["at_s"] == 5.0
    letters = [
        named(DEAD_LETTERS, row)
        for _, row in dead_letter_rows(tree.system.dead_letters.recent(), tree.driver.now())
    ]
    assert len(letters) == len(tree.system.dead_letters)


def test_the_event_log_is_bounded() -> None:
    events = EventLog(0.0)
    for number in range(MAX_EVENTS + 5):
        events.note(float(number), "provider.held", "kimi", "")
    rows = list(events.rows())
    assert len(rows) == MAX_EVENTS
    assert rows[0][1][0] == float(MAX_EVENTS + 4)


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        (FailureKind.QUOTA, "provider.held"),
        (FailureKind.RATE_LIMITED, "provider.held"),
        (FailureKind.SERVER_ERROR, "provider.circuit_opened"),
    ],
)
def test_changes_of_a_provider_become_events_beside_those_of_the_runtime(
    kind: FailureKind, event: str
) -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=2, retry=RetrySettings(attempts=1)))
    log = EventLog(started_at := tree.driver.now())
    tree.system.on_event(log.add)
    client = tree.client()
    for number in range(5):
        client.call(f"call-{number}")
        if len(tree.upstream.calls) > number:
            tree.upstream.calls[number].fail(kind)
            tree.settle()
    tree.advance(3.0)
    tree.actor("/providers/glm").tell(object())
    tree.settle()
    keyed = newest_first(log.rows(), provider_event_rows(tree.board.statistics(), started_at))
    rows = [named(EVENTS, row) for _, row in keyed]
    assert (event, "kimi") in {(row["event"], row["where"]) for row in rows}
    assert "actor.failed" in {row["event"] for row in rows}
    assert [row["at_s"] for row in rows] == sorted((row["at_s"] for row in rows), reverse=True)
    assert len({key for key, _ in keyed}) == len(keyed)


@pytest.mark.parametrize("at_s", [1.25, 5_025.5, 86_400.001])
def test_events_keep_their_instants_after_hours(at_s: float) -> None:
    events = EventLog(100.0)
    events.note(100.0 + at_s, "actor.failed", "/providers/kimi", "")
    [(_, row)] = events.rows()
    assert row[0] == at_s
