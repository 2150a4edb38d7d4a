"""Rows of text as aligned lines."""

from __future__ import annotations

from exai_actors.daemon.cli.columns import aligned


def test_columns_are_as_wide_as_their_longest_cell() -> None:
    assert aligned([("a", "1", "x"), ("long", "22", "")]) == ["a     1   x", "long  22"]


def test_a_column_can_be_aligned_to_the_right() -> None:
    assert aligned([("a", "1"), ("b", "22")], [False, True]) == ["a   1", "b  22"]


def test_a_cell_beyond_the_maximum_shifts_only_its_own_line() -> None:
    assert aligned([("overlong", "x"), ("a", "y")], max_width=3) == ["overlong  x", "a    y"]


def test_no_rows_are_no_lines() -> None:
    assert aligned([]) == []
