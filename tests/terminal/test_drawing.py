"""The parts of a picture: cells, plots, columns that fit, letters that sort, folded trees."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.terminal.answers import answer_lines, row_lines
from exai_actors.terminal.cells import Level, cell_text, level
from exai_actors.terminal.header import alarm_text
from exai_actors.terminal.layout import GAP, fit, order_of, sort_letters
from exai_actors.terminal.lines import PLAIN, spread
from exai_actors.terminal.plots import bar, plot, rates
from exai_actors.terminal.source import SeenTable, Window
from exai_actors.terminal.view import TableView, TreeView
from tests.terminal.scripted import columns


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (None, "count", "-"),
        (0.256, "share", "26%"),
        (9_999_999, "count", "9999999"),
        (12_345_678, "total", "12M"),
        (0.5, "count", "0.5"),
        (3.0, "count", "3"),
        (0.0000021, "seconds", "2 µs"),
        (0.0123, "seconds", "12 ms"),
        (61.0, "seconds", "61 s"),
        (61.25, "seconds", "61.2 s"),
        (4_000.0, "seconds", "1 h 06 m"),
        (90_061.0, "seconds", "1 d 01 h"),
        (-1.5, "seconds", "-1.50 s"),
        (1_536, "bytes", "1.5 KiB"),
        (3, "bytes", "3 B"),
        (True, "flag", "yes"),
        (False, "flag", "no"),
        ("held", "text", "held"),
    ],
)
def test_cells_are_written_by_their_kind(value: Any, kind: str, text: str) -> None:
    assert cell_text(value, kind) == text


@pytest.mark.parametrize(
    ("value", "column", "expected"),
    [
        (0.849, "full share", Level.WARN),
        (0.85, "full share", Level.BAD),
        (1.0, "gate share", Level.BAD),
        (0.69, "full share", Level.PLAIN),
        (0.95, "share_received share", Level.PLAIN),
        (False, "conserved flag", Level.BAD),
        (True, "conserved flag", Level.GOOD),
        (True, "paused flag", Level.WARN),
        (False, "paused flag", Level.DIM),
        ("serving", "state text", Level.GOOD),
        ("held for 20 s", "state text", Level.WARN),
        ("its circuit is open", "state text", Level.BAD),
        ("degraded: glm is held", "health text", Level.BAD),
        ("critical", "severity text", Level.BAD),
        ("closed", "state text", Level.BAD),
        ("closed", "phase text", Level.BAD),
        ("closed", "circuit text", Level.GOOD),
        ("open", "circuit text", Level.BAD),
        ("serving", "name text", Level.PLAIN),
        (0, "queued count", Level.DIM),
        (None, "state text", Level.DIM),
    ],
)
def test_the_level_of_a_cell(value: Any, column: str, expected: Level) -> None:
    assert level(value, columns(column)[0]) is expected


def sparkline(values: list[float | None], width: int, top: float | None = None) -> str:
    return plot(values, width, 1, top)[0]


def test_a_plot_of_one_line_shows_the_latest_values_at_the_right() -> None:
    assert sparkline([0, 4, 8], 5) == "  ▁▄█"
    assert sparkline([None, 8], 2) == " █"
    assert sparkline([1, 9, 1, 1], 2) == "█▁"
    assert sparkline([4], 1, top=8) == "▄"
    assert sparkline([8, 4, 4, 8, 8], 4) == "▄▄██"
    assert sparkline([8, 4, 4, 4, 8, 8, 1, 2], 4) == "█▄█▂"
    assert sparkline([1], 0) == ""


@given(st.lists(st.none() | st.floats(0, 1e6), max_size=50), st.integers(1, 30), st.integers(1, 4))
def test_a_plot_has_its_size_and_no_gap_below_a_block(
    values: list[float | None], width: int, height: int
) -> None:
    lines = plot(values, width, height)
    assert [len(line) for line in lines] == [width] * height
    for column in zip(*lines, strict=True):
        filled = "".join(column).lstrip(" ")
        assert " " not in filled
        assert set(filled[1:]) <= {"█"}


def test_bars_show_any_part_and_never_more_than_all() -> None:
    assert bar(0, 5, 4) == "····"
    assert bar(1, 1_000, 4) == "█···"
    assert bar(9, 5, 4) == "████"
    assert bar(1, 0, 4) == "····"


def test_rates_are_unknown_after_a_restart() -> None:
    assert rates([0.0, 1.0, 3.0, 4.0], [0, 5, 9, 2]) == [5.0, 2.0, None]
    assert rates([0.0, 1.0], [None, 5]) == [None]


@given(
    st.lists(
        st.tuples(st.sampled_from(["text", "count", "share"]), st.integers(3, 60)),
        min_size=2,
        max_size=20,
    ),
    st.integers(20, 200),
    st.integers(1, 30),
)
def test_columns_fit_any_screen(found: list[tuple[str, int]], width: int, first: int) -> None:
    table = columns(*(f"c{at} {kind}" for at, (kind, _) in enumerate(found)))
    widths = {at: room for at, (_, room) in enumerate(found)}
    fitted = fit(table, widths, width, first=first)
    assert fitted.places[0] == 0
    assert len(fitted.places) + fitted.before + fitted.after == len(table)
    line = sum(fitted.widths[at] for at in fitted.places) + GAP * (len(fitted.places) - 1)
    numbers = sum(fitted.widths[at] for at in fitted.places if found[at][0] != "text")
    assert line <= width or len(fitted.places) == 2 or numbers > width - 30


def test_the_column_that_rows_are_sorted_by_is_always_there() -> None:
    table = columns(*(f"c{at} count" for at in range(10)))
    fitted = fit(table, dict.fromkeys(range(10), 10), 40, keep="c9")
    assert fitted.places[-1] == 9


def test_important_columns_come_first_and_none_is_lost() -> None:
    table = columns("request text", "connection text", "reason text", "tenant text", "new text")
    order = order_of("requests", table)
    assert [table[at]["name"] for at in order] == [
        "request", "tenant", "reason", "connection", "new",
    ]  # fmt: skip
    assert order_of("unknown", table) == [0, 1, 2, 3, 4]


def test_each_column_has_a_letter_of_its_own() -> None:
    letters = sort_letters(columns("a text Full", "b text Free", "c text Fr", "d text G"))
    assert letters == {"F": "a", "R": "b", "A": "c", "B": "d"}


def tree(*rows: tuple[str, int, str | None]) -> TreeView:
    table = columns("path text", "depth count", "last_error text")
    view = TreeView("tree", table)
    seen = SeenTable(table, Window())
    seen.rows = {path: [path, depth, error] for path, depth, error in rows}
    seen.matching = seen.total = len(rows)
    view.take(seen)
    return view


def test_a_fold_hides_everything_below_but_the_way_to_trouble() -> None:
    view = tree(
        ("/", 0, None),
        ("/a", 1, None),
        ("/a/1", 2, None),
        ("/a/1/x", 3, "boom"),
        ("/a/2", 2, None),
        ("/b", 1, None),
    )
    view.fold("/a")
    assert view.keys == ["/", "/a", "/a/1", "/a/1/x", "/b"]
    view.fold("/")
    assert view.keys == ["/", "/a", "/a/1", "/a/1/x"]
    assert view.has_children("/a")
    assert not view.has_children("/b")


def test_the_screen_never_leaves_the_rows() -> None:
    view = TableView("actors", columns("path text"))
    view.page = 5
    seen = SeenTable(view.columns, Window())
    seen.rows = {str(at): [str(at)] for at in range(8)}
    seen.matching = seen.total = 8
    view.take(seen)
    view.move_to(100)
    assert (view.cursor, view.top, view.key) == (7, 3, "7")
    view.scroll(-100)
    assert (view.cursor, view.top) == (4, 0)
    seen.rows, seen.matching = {"0": ["0"]}, 1
    view.take(seen)
    assert (view.cursor, view.top, view.key) == (0, 0, "0")


def test_answers_of_any_shape_become_lines() -> None:
    answer = {
        "text": "It waits.",
        "waited_s": 1.5,
        "ahead": [{"request": "1/2", "because": "it\ncame first"}, {"request": "1/3"}],
        "figures": {"limit": 6, "names": ["a", "b"], "free": False},
        "notes": ["one", 2],
        "none": [],
        "nothing": {},
    }
    lines = ["".join(text for text, _ in line) for line in answer_lines(answer, 60)]
    text = "\n".join(lines)
    assert lines[0] == "It waits."
    for part in ("waited  1.50 s", "1/2      it·came first", "1/3      -", "names  a, b", "free"):
        assert part in text
    assert max(map(len, lines)) <= 60


def test_the_explanation_of_a_cell_is_cut_with_a_mark_and_its_text_is_wrapped() -> None:
    described = [
        {"name": "state", "title": "State", "kind": "text", "help": "running, queued or retrying"},
        {"name": "detail", "title": "Detail", "kind": "text", "help": "the reason in words"},
    ]
    row = ["queued", "all permits are in use, and this tenant has its share of them"]
    lines = ["".join(text for text, _ in line) for line in row_lines(described, row, 50)]
    assert lines == [
        "State   queued                          running, …",
        "Detail  all permits are in use, and this tenant",
        "        has its share of them",
    ]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("connected again", "connected again     ? help"),
        ("there is no such pane", "there is no such p… ? help"),
    ],
)
def test_a_message_gives_way_to_the_keys_and_ends_with_a_mark(message: str, shown: str) -> None:
    line = spread([(message, PLAIN)], [(" ? help", PLAIN)], 26)
    assert "".join(text for text, _ in line) == shown


@pytest.mark.parametrize(
    ("subject", "shown"),
    [("kimi", "kimi: requests wait"), ("", "requests wait"), (None, "requests wait")],
)
def test_the_header_says_what_an_alarm_is_about(subject: str | None, shown: str) -> None:
    assert alarm_text(subject, "requests wait") == shown
