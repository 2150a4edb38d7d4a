from __future__ import annotations

import tomllib
from collections.abc import Iterator
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.daemon.config.toml_lines import KeyPath, locate


def paths_of(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths_of(inner, (*path, key))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths_of(inner, (*path, index))


TRICKY = [
    "",
    "# only a comment",
    "a = 1",
    "a.b.c = 1\na.b.d = 2",
    "a . b = 1",
    'a."b.c".d = 1',
    "'quoted' = 1\n\"esc\\u0061ped\" = 2",
    "[a]\nb = 1\n[a.c]\nd = 2",
    "[a.b.c]\nd = 1\n[a]\ne = 2",
    "[ a . b ]\nc = 1",
    "[[p]]\nn = 1\n[[p]]\nn = 2",
    "[[p]]\n[p.q]\nx = 1\n[[p.r]]\ny = 1\n[[p.r]]\ny = 2\n[[p]]\n[[p.r]]\ny = 3",
    'a = "# no comment [not.a.table] \\" = "\nb = 1',
    "a = '\\'\nb = '# no comment'",
    'a = """\n[no.table]\nb = 1\n"" \\""""\nc = 1',
    'a = """x"""""\nc = 1',
    "a = '''\n[no]\nb = 1\n'' '''''\nc = 1",
    'a = """\\\n   joined"""\nb = 2',
    "a = [1, 2,\n  3, # three ]\n  4,\n]\nb = 1",
    "a = [[1, 2], ['x', \"]\"], {b = 1, c = [{d = 1}]}]\ne = 1",
    "a = {b = 1, c.d = 'x}', e = {f = [1, 2]}}\ng = 1",
    "a = {}\nb = []\nc = 1",
    "d = 1979-05-27 07:32:00\ne = 1979-05-27T07:32:00Z # when\nf = 07:32:00",
    "a = 1\r\nb = 2\r\n[c]\r\nd = 3\r\n",
    "a = +1_000 # comment\nb = 0xdead_beef\nc = 1e-3\nd = inf\ne = nan\nf = true",
    "1234 = 1\n3.14 = 2\ntrue = 3",
    "\n\n\n   a = 1\n\t[b]   # here\n\tc = 1",
]


@pytest.mark.parametrize("document", TRICKY)
def test_every_key_of_tomllib_has_a_line(document: str) -> None:
    assert set(locate(document)) == set(paths_of(tomllib.loads(document)))


def test_each_key_has_its_own_line() -> None:
    document = dedent(
        '''\
        # a comment
        [server]
        port = 1

        motd = """
        port = 2
        """
        host = "x"
        [[provider]]
        name = "a"

        [[provider]]
        name = "b"
        models = [
          "m",  # the first
          "n",
        ]
        extra = {x = 1}
        '''
    )
    lines = locate(document)
    assert lines["server",] == 2
    assert lines["server", "port"] == 3
    assert lines["server", "motd"] == 5
    assert lines["server", "host"] == 8
    assert lines["provider",] == 9
    assert lines["provider", 0] == 9
    assert lines["provider", 1] == 12
    assert lines["provider", 1, "name"] == 13
    assert lines["provider", 1, "models"] == 14
    assert lines["provider", 1, "models", 1] == 16
    assert lines["provider", 1, "extra", "x"] == 18


BARE = st.text("abcXYZ019_-", min_size=1, max_size=5)
VALUES = st.sampled_from(
    [
        "1",
        "-2.5e3",
        "true",
        "1979-05-27 07:32:00",
        '"a # b = [c] \\" d"',
        "'\\ # ='",
        '"""\nx = 1\n[y]\n"""""',
        "'''\nx = 1\n# '''",
        "[1, 2]",
        "[\n 1, # ]\n [ 'a', ],\n]",
        "{ a = 1, 'b c' = [ 1 ] }",
        "{}",
        "[]",
    ]
)
FILLERS = st.sampled_from(["", "\n", "# note = 1\n", "  \n\t# [x]\n"])


@given(st.lists(st.tuples(FILLERS, BARE, VALUES), unique_by=lambda item: item[1]))
def test_keys_are_found_between_any_values_and_comments(items: list[tuple[str, str, str]]) -> None:
    document = ""
    expected: dict[KeyPath, int] = {}
    for filler, key, value in items:
        document += filler
        expected[(key,)] = document.count("\n") + 1
        document += f"{key} = {value}\n"
    lines = locate(document)
    assert set(lines) == set(paths_of(tomllib.loads(document)))
    assert {path: line for path, line in lines.items() if len(path) == 1} == expected
