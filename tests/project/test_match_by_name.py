"""Actors match the attributes of messages by name.

A pattern with attributes by place looks up ``__match_args__``, under a name made for each match.
Each takes a place in CPython's cache of methods and stays there: 800 names among the objects of
thousands of sessions kept 6 MB of memory from the system.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "exai_actors"
FILES = sorted(path for part in ("actors", "runtime") for path in (PACKAGE / part).rglob("*.py"))


def by_place(source: str) -> list[str]:
    """The patterns of classes with attributes by place."""
    nodes = ast.walk(ast.parse(source))
    return [
        ast.unparse(node) for node in nodes if isinstance(node, ast.MatchClass) and node.patterns
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_attributes_are_matched_by_name(path: Path) -> None:
    assert by_place(path.read_text()) == []


def test_patterns_with_attributes_by_place_are_found() -> None:
    source = "match m:\n case A(): 0\n case B(x=1): 1\n case [C(x) | D(y, z=1)]: 2\n"
    assert by_place(source) == ["C(x)", "D(y, z=1)"]
