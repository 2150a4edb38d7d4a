"""Reject words that the glossary replaces, and limit words that make English read translated.

The glossary page (docs/reference/glossary.md) is the list. In the last column of its tables a word
in code font is rejected everywhere: in the names the code defines, comments, docstrings, strings
and pages. A word in *italics* is ordinary English and rejected in defined names only. Other words
there are advice to the reader. The table "Exempt" on the same page lists the exceptions.

Words are compared as whole words and without regard to case, hyphens and underscores: a rejected
``big thing`` is also found as BigThing and big_things.

``python tools/lint_words.py`` prints each finding as ``file:line: text`` and exits with 1 if there
is one; ``--list`` also prints where the limited words are.
"""

from __future__ import annotations

import argparse
import ast
import fnmatch
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GLOSSARY = Path("docs/reference/glossary.md")
FOLDERS = ("exai_actors", "tests", "tools", "docs")
UNREAD = {GLOSSARY, Path("tests/project/test_lint_words.py")}

# Use of these words per 10,000 words of prose: websockets 3, aiohttp 4, pykka 2.
LIMITED = "what told tells who whoever whom whose nobody everybody somebody anew hears heard"
LIMITS = {
    "exai_actors": 20,
    "docs": 20,
}

_ENDINGS = "(?:s|es|d|ed|ing|er|ers)?"
_LIMITED = re.compile(rf"\b(?:{LIMITED.replace(' ', '|')})\b", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_FENCED = re.compile(r"^ *(`{3,}).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
_LINK_TARGET = re.compile(r"\]\([^)]*\)")


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text with the line it starts on; ``defined`` for a name that the code defines."""

    line: int
    text: str
    defined: bool = False
    prose: bool = False


@dataclass(frozen=True, slots=True)
class Exemption:
    """A word that stays allowed in files that match a pattern, because it is not our word."""

    pattern: re.Pattern[str]
    files: str


@dataclass
class Glossary:
    """The rejected words of the page: pattern to the term to use instead."""

    everywhere: dict[re.Pattern[str], str] = field(default_factory=dict)
    defined_only: dict[re.Pattern[str], str] = field(default_factory=dict)
    exempt: list[Exemption] = field(default_factory=list)

    @cached_property
    def _any(self) -> re.Pattern[str]:
        patterns = (pattern.pattern for pattern in self.everywhere | self.defined_only)
        return re.compile("|".join(patterns) or r"(?!)", re.IGNORECASE)

    def findings(self, text: Text, path: Path) -> Iterator[str]:
        """Describe each rejected word in ``text``."""
        shown = _spaced(text.text)
        for exemption in self.exempt:
            if fnmatch.fnmatch(path.as_posix(), exemption.files):
                shown = exemption.pattern.sub(" ", shown)
        patterns = self.everywhere | self.defined_only if text.defined else self.everywhere
        if not self._any.search(shown):
            return
        for pattern, term in patterns.items():
            for match in pattern.finditer(shown):
                line = text.line + shown.count("\n", 0, match.start())
                yield f"{path}:{line}: {match[0]!r}: the glossary says {term!r}"


def read_glossary(page: str) -> Glossary:
    """Read the tables of the glossary page.

    Raises ValueError for a row with the wrong number of columns or an exemption of nothing.
    """
    found = Glossary()
    section = ""
    for number, line in enumerate(page.splitlines(), 1):
        if line.startswith("## "):
            section = line.removeprefix("## ").strip()
        if not line.startswith("|") or set(line) <= set("|-: "):
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 3:
            raise ValueError(f"{GLOSSARY}:{number}: {len(cells)} columns instead of 3")
        if section == "Exempt":
            if cells[0] != "word":
                found.exempt += _exemptions(cells[0], cells[1], number)
            continue
        term = cells[0].replace("`", "").replace("**", "")
        for word in re.findall(r"`([^`]+)`", cells[2]):
            found.everywhere[_pattern(word, _ENDINGS)] = term
        for word in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", cells[2]):
            found.defined_only[_pattern(word, "s?")] = term
    return found


def _exemptions(words: str, files: str, line: int) -> list[Exemption]:
    globs = re.findall(r"`([^`]+)`", files)
    found = [
        Exemption(_exact(word), glob) for word in re.findall(r"`([^`]+)`", words) for glob in globs
    ]
    if not found:
        raise ValueError(f"{GLOSSARY}:{line}: an exemption needs a word and files in code font")
    return found


def _exact(words: str) -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(_spaced(words))}\b", re.IGNORECASE)


def _pattern(words: str, endings: str) -> re.Pattern[str]:
    """The words as a pattern; the last one may have one of the endings."""
    *first, last = map(re.escape, _spaced(words).split())
    if endings == _ENDINGS and last.endswith("e"):
        last = last.removesuffix("e") + "(?:e|(?=[ei]))"
    together = r"[\s-]+".join([*first, last])
    return re.compile(rf"\b{together}{endings}\b", re.IGNORECASE)


def _spaced(text: str) -> str:
    """The text with the words of identifiers apart."""
    return _CAMEL.sub(" ", text).replace("_", " ")


def texts_of(path: Path, source: str) -> Iterator[Text]:
    """Every text of a file that the lint reads."""
    yield Text(1, path.stem, defined=path.suffix == ".py")
    if path.suffix == ".py":
        yield from _texts_of_python(source)
    else:
        blank = _FENCED.sub(lambda match: "\n" * match[0].count("\n"), source)
        prose = _LINK_TARGET.sub("]", blank)
        yield from (Text(n, line, prose=True) for n, line in enumerate(prose.splitlines(), 1))


def _texts_of_python(source: str) -> Iterator[Text]:
    tree = ast.parse(source)
    docstrings = {id(node) for node in _docstrings(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield Text(node.lineno, node.value, prose=id(node) in docstrings)
        yield from (Text(line, name, defined=True) for line, name in _defined(node))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Text(token.start[0], token.string, prose=True)


def _docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    """Docstrings, and the strings below attributes that document these."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                yield statement.value


def _defined(node: ast.AST) -> Iterator[tuple[int, str]]:
    """The names that a node gives to something of ours."""
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            yield node.lineno, node.name
        case ast.arg():
            yield node.lineno, node.arg
        case ast.Name(ctx=ast.Store()):
            yield node.lineno, node.id
        case ast.Attribute(ctx=ast.Store()):
            yield node.lineno, node.attr
        case ast.alias(asname=str(name)):
            yield node.lineno, name
        case _:
            pass


def files() -> list[Path]:
    """All Python files and pages of the project, except those about rejected words."""
    found = list(ROOT.glob("*.md"))
    for folder in FOLDERS:
        found += [*(ROOT / folder).rglob("*.py"), *(ROOT / folder).rglob("*.md")]
    return sorted({path.relative_to(ROOT) for path in found} - UNREAD)


def read(paths: Iterable[Path], root: Path = ROOT) -> dict[Path, list[Text]]:
    """The texts of the files."""
    return {path: list(texts_of(path, (root / path).read_text("utf-8"))) for path in paths}


def rejected(glossary: Glossary, texts: dict[Path, list[Text]]) -> list[str]:
    """All findings of rejected words."""
    return [
        finding
        for path in texts
        for text in texts[path]
        for finding in glossary.findings(text, path)
    ]


@dataclass(frozen=True, slots=True)
class Usage:
    """How often the limited words occur in prose, and where."""

    words: int
    places: list[str]

    @property
    def per_10_000(self) -> float:
        return len(self.places) * 10_000 / max(1, self.words)


def usage(texts: dict[Path, list[Text]]) -> Usage:
    """Count the limited words in comments, docstrings and pages."""
    words = 0
    places = []
    for path, pieces in texts.items():
        for text in pieces:
            if text.prose:
                words += len(_WORD.findall(text.text))
                places += [
                    f"{path}:{text.line + text.text.count(chr(10), 0, match.start())}: {match[0]}"
                    for match in _LIMITED.finditer(text.text)
                ]
    return Usage(words, places)


def part_of(path: Path) -> str | None:
    """The part in LIMITS that a file belongs to: the package, the pages, or neither."""
    if path.parts[0] == "exai_actors":
        return "exai_actors"
    return "docs" if path.suffix == ".md" else None


def main(arguments: list[str] | None = None) -> int:
    """Print findings; returns 1 if there are any."""
    parser = argparse.ArgumentParser(prog="tools/lint_words.py", description=__doc__)
    parser.add_argument("--list", action="store_true", help="print where the limited words are")
    options = parser.parse_args(arguments)
    texts = read(files())
    findings = rejected(read_glossary((ROOT / GLOSSARY).read_text("utf-8")), texts)
    for part, limit in LIMITS.items():
        used = usage({path: texts[path] for path in texts if part_of(path) == part})
        print(f"{part}: {used.per_10_000:.0f} limited words per 10,000, {limit} allowed")
        if options.list:
            print("\n".join(used.places))
        if used.per_10_000 > limit:
            findings.append(f"{part}: too many of: {LIMITED}; see --list")
    print("\n".join(findings) or "no rejected word")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
