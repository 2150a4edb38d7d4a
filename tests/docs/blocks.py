"""The code blocks of a Markdown page, and what the page's author says of each.

A block is checked by its language: ``sh`` and ``python`` are run, in order, in one folder a page;
of ``console`` the lines after ``$`` are run and have to print the others; ``toml`` has to pass
``exai config check``; ``json`` has to be JSON. ``text`` and no language mean that there is nothing
to check. An HTML comment right above a block, ``<!-- docs-test: NOTE -->``, says otherwise:

    background      keep it running until the next such block or the end of the page, and go on
                    once it has said ``ready URL``; a broker listens on a free port, and 8079 in
                    later blocks of the page stands for that port
    file NAME       write it under this name, for a later block to run or use
    exits N         it ends with this exit code instead of 0
    runs as LINE    run this instead, for what a person would end or would wait for
    output          the block before printed this; a line of … stands for any lines, … within a
                    line for any text
    skip, REASON    it cannot run here; its syntax is checked all the same
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
    """One fenced block. ``kind`` is the note's first word or words, ``argument`` the rest."""

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
    """Of a ``console`` block what is typed and what is printed, each as a block."""
    if block.language != "console":
        return [block]
    lines = block.body.splitlines(keepends=True)
    typed = "".join(line.removeprefix("$ ") for line in lines if line.startswith("$ "))
    printed = "".join(line for line in lines if not line.startswith("$ "))
    asked = replace(block, language="sh", body=typed)
    if not printed or block.kind == "skip":
        return [asked]
    return [asked, replace(block, language="text", body=printed, kind="output", argument="")]


def _note(note: str | None, where: str) -> tuple[str, str]:
    if note is None:
        return "", ""
    text = note.strip()
    kind = next((kind for kind in _KINDS if text.startswith(kind)), None)
    if kind is None:
        raise ValueError(f"{where}: {text!r} is no note; there are: {', '.join(_KINDS)}")
    argument = text.removeprefix(kind).strip()
    if bool(argument) == (kind in ("background", "output")):
        raise ValueError(f"{where}: {kind!r} {'takes nothing' if argument else 'lacks the rest'}")
    return kind.rstrip(","), argument
