"""The tables that a console watches: a snapshot each, then numbered changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.client.console import WatchedTable
from exai_actors.console.feed import MOST_KEPT_ROWS, ROWS_A_TURN, Feed, Sources
from exai_actors.core.observe.query import Column, Kind, QueryError, Table
from exai_actors.core.observe.tables import Keyed, ManyRows, Row
from exai_actors.wire.console.protocol import Resync, Unwatch, Watch

TABLE = Table(
    "providers",
    (Column("name", "Name", Kind.TEXT, ""), Column("queued", "Queued", Kind.COUNT, "")),
)


class Broker:
    """A source of rows, and a console's view of them made of frames alone."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {"a": ("kimi", 1), "b": ("glm", 2)}
        self.reads = 0
        self.sources = Sources()
        self.sources.add(TABLE, self._read)
        self.feed = Feed(self.sources)
        self.table = WatchedTable([])
        self.number = -1

    def _read(self) -> list[tuple[str, Row]]:
        self.reads += 1
        return list(self.rows.items())

    @property
    def seen(self) -> dict[str, list[Any]]:
        return self.table.rows

    def frames(self, now: float) -> list[dict[str, Any]]:
        frames = [msgspec.json.decode(each) for each in self.feed.frames(now, 1000.0 + now)]
        for frame in frames:
            self._apply(frame)
        return frames

    def _apply(self, frame: dict[str, Any]) -> None:
        if frame["op"] != "snapshot":
            assert frame["seq"] == self.number + 1
        self.table.apply(frame)
        self.number = frame["seq"]


def test_a_watched_table_arrives_whole_and_then_as_changes() -> None:
    broker = Broker()
    broker.feed.watch(Watch("providers"))
    [snapshot] = broker.frames(0.0)
    assert snapshot == {
        "op": "snapshot",
        "table": "providers",
        "seq": 0,
        "time": 1000.0,
        "rows": [["a", "kimi", 1], ["b", "glm", 2]],
        "matching": 2,
        "total": 2,
    }
    broker.rows = {"a": ("kimi", 5), "c": ("local", 0)}
    [delta] = broker.frames(1.0)
    assert delta == {
        "op": "delta",
        "table": "providers",
        "seq": 1,
        "time": 1001.0,
        "matching": 2,
        "total": 2,
        "rows": [["c", "local", 0]],
        "cells": {"a": {"1": 5}},
        "gone": ["b"],
    }


def test_a_table_that_stays_the_same_causes_no_frame() -> None:
    broker = Broker()
    broker.feed.watch(Watch("providers"))
    broker.frames(0.0)
    assert broker.frames(1.0) == []
    assert broker.frames(1.5) == []


def test_rows_beyond_the_window_are_counted() -> None:
    broker = Broker()
    broker.feed.watch(Watch("providers", sort="-queued", limit=1))
    broker.frames(0.0)
    broker.rows["c"] = ("local", 0)
    [delta] = broker.frames(1.0)
    assert (delta["matching"], delta["total"], broker.seen) == (3, 3, {"b": ["glm", 2]})


def test_each_table_is_read_in_its_own_interval() -> None:
    broker = Broker()
    assert broker.feed.next_due() is None
    broker.feed.watch(Watch("providers", every_s=5.0))
    broker.frames(0.0)
    assert broker.feed.next_due() == 5.0
    broker.rows["a"] = ("kimi", 9)
    assert broker.frames(4.9) == []
    assert len(broker.frames(5.0)) == 1


def test_only_watched_tables_are_read_and_once_for_all_consoles() -> None:
    broker = Broker()
    other = Feed(broker.sources)
    broker.frames(0.0)
    assert broker.reads == 0
    for feed in (broker.feed, other):
        feed.watch(Watch("providers"))
        feed.frames(1.0, 0.0)
    assert broker.reads == 1
    other.unwatch(Unwatch("providers"))
    assert other.next_due() is None


def test_a_new_query_shows_few_rows_as_they_are_now() -> None:
    broker = Broker()
    other = Feed(broker.sources)
    other.watch(Watch("providers", every_s=60.0))
    other.frames(1.0, 0.0)
    broker.rows["a"] = ("kimi", 7)
    broker.feed.watch(Watch("providers"))
    broker.frames(1.2)
    assert broker.seen["a"] == ["kimi", 7]


@pytest.mark.parametrize("leave", [Feed.close, lambda feed: feed.unwatch(Unwatch("providers"))])
def test_rows_are_kept_until_the_last_console_has_left(leave: Callable[[Feed], None]) -> None:
    broker = Broker()
    other = Feed(broker.sources)
    for feed in (broker.feed, other):
        feed.watch(Watch("providers"))
        feed.watch(Watch("providers", limit=1))
        feed.frames(1.0, 0.0)
    leave(other)
    leave(other)
    broker.sources.rows("providers", 1.0)
    assert broker.reads == 1
    leave(broker.feed)
    broker.sources.rows("providers", 1.0)
    assert broker.reads == 2


def test_a_resync_sends_the_whole_table_and_the_numbers_go_on() -> None:
    broker = Broker()
    broker.feed.watch(Watch("providers"))
    broker.frames(0.0)
    broker.rows["a"] = ("kimi", 9)
    broker.frames(1.0)
    broker.feed.resync(Resync("providers"))
    assert broker.frames(1.1) == []
    [snapshot] = broker.frames(1.25)
    assert (snapshot["op"], snapshot["seq"]) == ("snapshot", 1)
    with pytest.raises(QueryError, match="is not watched"):
        broker.feed.resync(Resync("actors"))


def test_the_snapshot_names_the_watch_that_it_answers() -> None:
    broker = Broker()
    broker.feed.watch(Watch("providers", id=7))
    assert broker.frames(0.0)[0]["id"] == 7
    broker.feed.watch(Watch("providers", skip=1, id=8))
    [snapshot] = broker.frames(1.0)
    assert (snapshot["id"], snapshot["rows"]) == (8, [["b", "glm", 2]])


@pytest.mark.parametrize(
    ("watch", "message"),
    [
        (Watch("nothing"), "no table 'nothing'; choose from providers"),
        (Watch("providers", sort="wait"), "no column 'wait'"),
        (Watch("providers", every_s=0.1), "every_s must be from 0.25"),
        (Watch("providers", every_s=61), "every_s must be from 0.25"),
    ],
)
def test_a_watch_that_makes_no_sense_is_refused(watch: Watch, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        Broker().feed.watch(watch)


TABLES = st.dictionaries(
    st.sampled_from("abcde"), st.tuples(st.sampled_from(["x", "y"]), st.integers(0, 3)), max_size=5
)


@given(st.lists(TABLES, min_size=1, max_size=8), st.sampled_from(["", "queued", "-queued"]))
def test_a_console_that_applies_all_frames_sees_the_present_table(
    states: list[dict[str, tuple[str, int]]], sort: str
) -> None:
    broker = Broker()
    broker.feed.watch(Watch("providers", filter="x", sort=sort, limit=3))
    for second, state in enumerate(states):
        broker.rows = dict(state)
        broker.frames(float(second))
        visible = [(key, row) for key, row in state.items() if row[0] == "x"]
        if sort:
            visible.sort(key=lambda each: each[1][1], reverse=sort.startswith("-"))
        assert list(broker.seen.items()) == [(key, list(row)) for key, row in visible[:3]]


class Many(ManyRows):
    """Rows of which only those that are read are made."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.made = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Keyed]:
        for number in range(self.count):
            self.made += 1
            yield str(number), ("kimi" if number % 2 else "glm", number)


def many(count: int) -> tuple[Many, Feed]:
    rows = Many(count)
    sources = Sources()
    sources.add(TABLE, lambda: rows)
    return rows, Feed(sources)


def test_of_many_rows_in_their_order_only_the_window_is_made() -> None:
    rows, feed = many(50_000)
    feed.watch(Watch("providers", limit=10, skip=5))
    (frame,) = feed.frames(0.0, 0.0)
    snapshot = msgspec.json.decode(frame)
    assert [row[2] for row in snapshot["rows"]] == list(range(5, 15))
    assert (snapshot["matching"], snapshot["total"]) == (50_000, 50_000)
    assert rows.made <= 15


@pytest.mark.parametrize(
    ("query", "found", "matching"),
    [
        ({"sort": "-queued"}, [4_999, 4_998], 5_000),
        ({"sort": "queued"}, [0, 1], 5_000),
        ({"filter": "name:kimi"}, [1, 3], 2_500),
        ({"filter": "name:kimi", "sort": "-queued"}, [4_999, 4_997], 2_500),
        ({"filter": "queued>=4998"}, [4_998, 4_999], 2),
        ({"filter": "nothing"}, [], 0),
    ],
)
def test_many_rows_are_read_in_parts_and_sent_once(
    query: dict[str, Any], found: list[int], matching: int
) -> None:
    rows, feed = many(5_000)
    feed.watch(Watch("providers", limit=2, every_s=1.0, **query))
    turns = 0
    while not (frames := feed.frames(0.0, 0.0)):
        turns += 1
        assert feed.next_due() == 0.0
        assert rows.made <= turns * ROWS_A_TURN
    assert turns >= 5_000 / ROWS_A_TURN - 1
    (snapshot,) = map(msgspec.json.decode, frames)
    assert [row[2] for row in snapshot["rows"]] == found
    assert (snapshot["matching"], snapshot["total"]) == (matching, 5_000)
    assert feed.next_due() == 1.0


def test_a_new_query_chooses_among_rows_that_are_there() -> None:
    rows, feed = many(5_000)
    feed.watch(Watch("providers", filter="name:kimi", limit=1))
    while not feed.frames(0.0, 0.0):
        pass
    made = rows.made
    for second, fresh in ((2.5, 0), (3.5, 5_000)):
        feed.watch(Watch("providers", sort="-queued", limit=1))
        while not (frames := feed.frames(second, 0.0)):
            pass
        assert [row[2] for row in msgspec.json.decode(frames[0])["rows"]] == [4_999]
        assert rows.made == made + fresh


def test_after_an_action_no_row_of_before_is_shown() -> None:
    rows, feed = many(5_000)
    feed.watch(Watch("providers", limit=1))
    while not feed.frames(0.0, 0.0):
        pass
    made = rows.made
    feed._sources.forget()
    feed.watch(Watch("providers", sort="-queued", limit=1))
    while not feed.frames(1.0, 0.0):
        pass
    assert rows.made == made + 5_000


def test_too_many_rows_are_not_kept() -> None:
    rows, feed = many(MOST_KEPT_ROWS)
    for _ in range(2):
        feed.watch(Watch("providers", filter="nothing"))
        while not feed.frames(0.0, 0.0):
            pass
    assert rows.made == 2 * MOST_KEPT_ROWS


def test_a_new_query_reads_from_the_beginning() -> None:
    _, feed = many(5_000)
    feed.watch(Watch("providers", filter="name:kimi"))
    assert feed.frames(0.0, 0.0) == []
    feed.watch(Watch("providers", limit=1))
    frames = feed.frames(1.0, 0.0)
    assert [row[2] for row in msgspec.json.decode(frames[0])["rows"]] == [0]
    feed.unwatch(Unwatch("providers"))
    assert feed.next_due() is None
