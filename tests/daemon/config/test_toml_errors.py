"""What a file that is not TOML gets to read: the line, the mistake and the cure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.daemon.config.toml_errors import explain
from tests.daemon.configs import errors, reading

QUOTES = "this is no value; put text into quotes, and write true or false small"
AFTER = "there is more after the value; put text into quotes, once"
UNQUOTED = "the text lacks its closing quote"
BACKSLASH = "write a backslash twice, or the text in single quotes"
TWICE = "the key is there twice; remove one"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a = ", 1, QUOTES),
        ("a = b\n", 1, f"{QUOTES} (column 5)"),
        ("[server]\nhost = localhost\n", 2, f"{QUOTES} (column 8)"),
        ("[compat]\n\nhttp = True\n", 3, QUOTES),
        ("[server]\nport = 1\nport = 2\n[chat]", 3, TWICE),
        ("a = { b = 1, b = 2 }", 1, TWICE),
        ("[server]\nport = 1\n[server]\n", 3, "[server] is there twice; write its keys into one"),
        ("a.b = 1\n[a]\n", 2, "[a] is there twice"),
        (
            "[[provider]]\n[provider]\n",
            2,
            "[provider] is not the first provider; write each one as [[",
        ),
        ("[provider]\nx = 1\n[[provider]]\n", 3, "write each one as [[provider]]"),
        ("[route]\nmodel = 1\n[route]\n", 3, "write each one as [[route]]"),
        ("a = 1\n[a.b]\n", 2, "[a.b] is already something else above it; rename one"),
        ('a = "x\nb = 1\n', 1, UNQUOTED),
        ("a = 'x", 1, UNQUOTED),
        ('a = """x', 1, UNQUOTED),
        ("port = 8079 # fine\nhost = 127.0.0.1\n", 2, AFTER),
        ('a = "x" "y"', 1, AFTER),
        ("a = [1, 2\n", 1, 'the list lacks its end "]", or a comma'),
        ("a = [1 2]", 1, 'the list lacks its end "]", or a comma'),
        ("a = { b = 1", 1, 'the table lacks its end "}", or a comma'),
        ("[server\nport = 1", 1, 'the name of a table ends in "]", as in [server]'),
        ("[[provider]\n", 1, 'the name of a list of tables ends in "]]"'),
        ("port 8079\n", 1, 'a key needs a value after "="'),
        ("port: 8079\n", 1, 'a key needs a value after "="'),
        ("= 3\n", 1, "a line must be a key, as in port = 8079, or a [table]"),
        ('a = "C:\\x"\n', 1, BACKSLASH),
        ('a = "\\uZZZZ"', 1, BACKSLASH),
    ],
)
def test_a_mistake_has_its_line_and_its_cure(text: str, line: int, words: str) -> None:
    (found,) = errors(text)
    assert found.startswith(f"exai.toml:{line}: is not TOML: ")
    assert words in found


def test_words_that_the_parser_may_learn_are_passed_on() -> None:
    assert explain("Something new (at line 2, column 1)", "a = 1\nb\n") == (
        2,
        "is not TOML: Something new (at line 2, column 1)",
    )


@given(st.text(alphabet="[]{}=\"'\n.# ab1\\"))
def test_no_file_breaks_the_explanation(text: str) -> None:
    for problem in reading(text).problems:
        assert str(problem).startswith("exai.toml")
