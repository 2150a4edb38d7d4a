"""Choosing rows of a table by filter, order and window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.observe.query import (
    MAX_FILTER_CHARACTERS,
    MAX_FILTER_TERMS,
    MAX_ROWS,
    MAX_SKIP,
    Column,
    Kind,
    PreparedQuery,
    Query,
    QueryError,
    Selection,
    Table,
)
from exai_actors.core.observe.tables import Row

TABLE = Table(
    "providers",
    (
        Column("name", "Name", Kind.TEXT, "its name"),
        Column("state", "State", Kind.TEXT, "its state"),
        Column("queued", "Queued", Kind.COUNT, "waiting requests"),
    ),
)
ROWS: list[tuple[str, Row]] = [
    ("1", ("kimi", "held", 12)),
    ("2", ("glm", "serving", 3)),
    ("3", ("Kimi-plan", "serving", None)),
    ("4", ("local", "down", 7)),
]


def select(**query: object) -> Selection:
    return PreparedQuery(TABLE, Query(**query)).select(ROWS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", "1234"),
        ("kimi", "13"),
        ("KIMI serving", "3"),
        ("!serving", "14"),
        ("state:serv", "23"),
        ("name:serv", ""),
        ("!state:held !state:down", "23"),
        ("queued>3", "14"),
        ("queued>=3", "124"),
        ("queued<=3", "2"),
        ("queued<7", "2"),
        ("queued=7", "4"),
        ("!queued>3", "23"),
        ("12", "1"),
        ('"other:thing"', ""),
        ('"queued>=x"', ""),
        ('"Kimi-plan"', "3"),
        ('!"serving"', "14"),
        ('state:"held"', "1"),
        ('"held" kimi', "1"),
        ('"kimi serving"', ""),
        ("192.0.2.7:80", ""),
        ("!", ""),
    ],
)
def test_a_filter_keeps_the_rows_that_match_all_its_terms(text: str, keys: str) -> None:
    selection = select(filter=text)
    assert "".join(selection.rows) == keys
    assert (selection.matching, selection.total) == (len(keys), 4)


def test_rows_are_sorted_by_a_column_in_either_direction() -> None:
    assert "".join(select(sort="queued").rows) == "3241"
    assert "".join(select(sort="-queued").rows) == "1423"
    assert "".join(select(sort="name").rows) == "3214"


def test_a_window_is_cut_from_the_sorted_rows() -> None:
    selection = select(sort="queued", limit=2, skip=1)
    assert "".join(selection.rows) == "24"
    assert selection.matching == 4


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=30),
    st.integers(0, 10),
    st.integers(1, 10),
)
def test_a_window_is_the_same_part_of_the_whole_order(
    numbers: list[int | None], skip: int, limit: int
) -> None:
    rows: list[tuple[str, Row]] = [(str(n), ("", "", each)) for n, each in enumerate(numbers)]
    whole = list(PreparedQuery(TABLE, Query(sort="-queued", limit=100)).select(rows).rows)
    part = list(
        PreparedQuery(TABLE, Query(sort="-queued", skip=skip, limit=limit)).select(rows).rows
    )
    assert part == whole[skip : skip + limit]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query(sort="wait"), "no column 'wait' in providers; choose from name, state, queued"),
        (Query(filter="wait>3"), "no column 'wait'"),
        (Query(filter="other:thing"), "'other' in providers; choose .* quote it: \"other:thing\""),
        (Query(filter="!other:thing"), "no column 'other'"),
        (Query(filter="queued>=x"), "^queued>= needs a number, and 'x' is none"),
        (Query(filter="!queued<"), "^queued< needs a number, and '' is none"),
        (Query(filter="kimi queued=1e3"), "'1e3' is none"),
        (Query(filter="queued>10s"), "'10s' is none"),
        (Query(filter='queued="7"'), "needs a number"),
        (Query(filter="name>3"), "^name is text and cannot be compared; use name:3"),
        (Query(filter="wait>=x"), "no column 'wait' .* quote it: \"wait>=x\""),
        (Query(filter='ws://host "x"'), "no column 'ws'"),
        (Query(filter='kimi "held'), "quotation mark of the filter is not closed"),
        (Query(filter='name:"'), "quotation mark"),
        (Query(limit=0), "limit must be"),
        (Query(limit=MAX_ROWS + 1), "limit must be"),
        (Query(skip=-1), "skip from 0 to"),
        (Query(skip=MAX_SKIP + 1), "skip from 0 to"),
        (Query(skip=2**63), "skip from 0 to"),
        (Query(sort="name", skip=10**400), "skip from 0 to"),
        (Query(filter="x" * (MAX_FILTER_CHARACTERS + 1)), "at most"),
        (Query(filter="!x " * (MAX_FILTER_TERMS + 1)), "at most 16 terms"),
    ],
)
def test_a_query_that_does_not_fit_the_table_is_refused(query: Query, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        PreparedQuery(TABLE, query)
