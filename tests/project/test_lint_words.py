"""The word lint finds what the glossary rejects, with file and line, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import lint_words
from tools.lint_words import read, read_glossary, rejected, usage

PAGE = """
| term | meaning | not |
|---|---|---|
| **mailbox** | An actor's lanes. | `inbox`, queue |
| **refuse** | Say no. | `throttle`, *job* |
| **slow consumer** | It does not read. | `slow reader` |

## Exempt

| word | files | why |
|---|---|---|
| `actor_inbox` | `kernel/*`, `*.md` | pykka's name. |
"""


def findings(tmp_path: Path, name: str, text: str) -> list[str]:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return rejected(read_glossary(PAGE), read([Path(name)], tmp_path))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x = 1\n# goes to the inbox\n", 2),
        ('def f():\n    """Look.\n\n    All inboxes are full.\n    """\n', 4),
        ('LOG = "actor.inbox_full"\n', 1),
        ("class SlowReader: ...\n", 1),
        ("\ndef drop_slow_readers(): ...\n", 2),
        ("def f(actor_inbox): ...\n", 1),
        ("x = 1  # requests are throttled\n", 1),
        ("x = 1  # by throttling\n", 1),
        ("for job in []: ...\n", 1),
        ("self = 0\nself.jobs = 1\n", 2),
        ("import a as inbox\n", 1),
    ],
)
def test_a_rejected_word_is_found_with_file_and_line(tmp_path: Path, text: str, line: int) -> None:
    assert [each.split(": ")[0] for each in findings(tmp_path, "a.py", text)] == [f"a.py:{line}"]


@pytest.mark.parametrize(
    "text",
    [
        "x = 1  # the queue of a job\n",  # advice, and a word rejected in names only
        "from asyncio import inbox\ninbox(1)\n",  # another library's name
        "x = 1  # the outboxes\n",
        "# a slow, careful reader\n",
        "jobless = 1\n",
    ],
)
def test_other_uses_of_a_word_pass(tmp_path: Path, text: str) -> None:
    assert findings(tmp_path, "a.py", text) == []


def test_an_exemption_holds_in_its_files_only(tmp_path: Path) -> None:
    text = "self = 0\nself.actor_inbox = 1\n"
    assert findings(tmp_path, "kernel/a.py", text) == []
    assert len(findings(tmp_path, "actors/a.py", text)) == 1
    assert len(findings(tmp_path, "kernel/b.py", "inbox = 1\n")) == 1


def test_a_page_is_read_without_its_code_blocks_and_link_targets(tmp_path: Path) -> None:
    text = "See [it](inbox.md).\n```python\ninbox = 1\n```\nThe inbox is full.\n"
    assert findings(tmp_path, "a.md", text) == ["a.md:5: 'inbox': the glossary says 'mailbox'"]


def test_the_name_of_a_module_is_a_name(tmp_path: Path) -> None:
    assert len(findings(tmp_path, "slow_reader.py", "")) == 1


def test_limited_words_are_counted_in_prose_only(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        '"""One two three.\n\nFour is told what.\n"""\nwhat = "told"  # nobody\n'
    )
    used = usage(read([Path("a.py")], tmp_path))
    assert used.words == 8
    assert used.places == ["a.py:3: told", "a.py:3: what", "a.py:5: nobody"]


def test_more_limited_words_than_allowed_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lint_words, "files", lambda: [Path("docs/README.md")])
    monkeypatch.setattr(lint_words, "LIMITS", {"docs": -1})
    assert lint_words.main([]) == 1
    assert "docs: too many" in capsys.readouterr().out
    monkeypatch.setattr(lint_words, "LIMITS", {"docs": 10_000})
    assert lint_words.main([]) == 0


@pytest.mark.parametrize(
    "row", ["| a | b |", "## Exempt\n| a | `*` | c |", "## Exempt\n| `a` | all | c |"]
)
def test_a_row_that_cannot_be_read_is_an_error(row: str) -> None:
    with pytest.raises(ValueError, match=r"glossary\.md:\d"):
        read_glossary(row)


def test_every_term_of_the_glossary_is_given_once() -> None:
    page = (lint_words.ROOT / lint_words.GLOSSARY).read_text("utf-8")
    lines = [
        line for line in page.partition("## Exempt")[0].splitlines() if line.startswith("| **")
    ]
    terms = [term.strip("* ") for line in lines for term in line.split("|")[1].split(",")]
    assert len(terms) > 60
    assert len(set(terms)) == len(terms)
