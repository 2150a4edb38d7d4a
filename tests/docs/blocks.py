"""The code blocks of a Markdown page, each with its author's note.

The language decides how a block is checked: ``sh`` and ``python`` run, in order, in one folder per
page; of ``console`` the lines after ``$`` run and must print the other lines; ``toml`` must pass
``exai config check``; ``json`` must be JSON. ``text`` and no language are not checked. An HTML
comment directly above a block, ``<!-- docs-test: NOTE -->``, overrides this:

    background      keep it running until the next such block or the end of the page, and continue
                    once it has printed ``ready URL``; a broker listens on a free port, which
                    replaces 8079 in later blocks of the page
    file NAME       write it under this name, for a later block to run or use
    exits N         it ends with this exit code instead of 0
    runs as LINE    run this instead, for commands that a person would end or wait for
    output          the previous block printed this; a line of … matches any lines, … within a
                    line any text
    skip, REASON    it cannot run here; only its syntax is checked
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(
    r"(?:^[ ]*<!--\s*docs-test:(?P<note>.*?)-->[ ]*\n\s*)?"
    r"^(?P<indent>[ ]*)(?P<ticks>`{3,})(?P<language>[^\n`]*)\n(?P<body>.*?)^[ ]*(?P=ticks)[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_KINDS = ("background", "file", "exits", "runs as", "output", "skip,")


@dataclass(frozen=True)
class Block:
    """One fenced block. ``kind`` is the keyword of its note, ``argument`` the rest of the note."""

    page: Path
    line: int
    language: str
    body: str
    kind: str = ""
    argument: str = ""

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """README and every page under docs, in a fixed order."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page. Raises ValueError for a note that is not one of ours."""
    return blocks_in(page.read_text("utf-8"), page)


def blocks_in(text: str, page: Path) -> list[Block]:
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("ticks")) + 1
        language = match["language"].split(maxsplit=1)[0] if match["language"].strip() else ""
        indent = len(match["indent"])
        body = "".join(
            each[indent:] if each[:indent].isspace() else each
            for each in match["body"].splitlines(keepends=True)
        )
        kind, argument = _note(match["note"], f"{page.name}:{line}")
        found += _typed(Block(page, line, language, body, kind, argument))
    return found


def _typed(block: Block) -> list[Block]:
    """Split a ``console`` block into the commands and their output."""
    if block.language != "console":
        return [block]
    lines = block.body.splitlines(keepends=True)
    typed = "".join(line.removeprefix("$ ") for line in lines if line.startswith("$ "))
    printed = "".join(line for line in lines if not line.startswith("$ "))
    commands = replace(block, language="sh", body=typed)
    if not printed or block.kind == "skip":
        return [commands]
    return [commands, replace(block, language="text", body=printed, kind="output", argument="")]


def _note(note: str | None, where: str) -> tuple[str, str]:
    if note is None:
        return "", ""
    text = note.strip()
    kind = next((kind for kind in _KINDS if text.startswith(kind)), None)
    if kind is None:
        raise ValueError(f"{where}: {text!r} is not a note; valid: {', '.join(_KINDS)}")
    argument = text.removeprefix(kind).strip()
    if bool(argument) == (kind in ("background", "output")):
        raise ValueError(f"{where}: {kind!r} {'takes nothing' if argument else 'lacks the rest'}")
    return kind.rstrip(","), argument
