"""The commands on every page run, and its links and the names on it lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.blocks import ROOT, blocks, blocks_in, pages
from tests.docs.desk import desk

_LINK = re.compile(r"!?\[[^\]\n]*\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
PACKAGE = ROOT / "exai_actors"
ROOMS = tuple(f"{folder.name}/" for folder in PACKAGE.iterdir() if folder.is_dir())
_FENCED = re.compile(r"^ *(`{3,}).*?^ *\1 *$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    with desk(tmp_path) as reader:
        reader.read(blocks(page))


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    dead = []
    for link in links(page):
        target, _, fragment = link.partition("#")
        file = page if not target else (page.parent / unquote(target)).resolve()
        if not file.exists() or (fragment and fragment not in anchors(file)):
            dead.append(link)
    assert not dead


@pytest.fixture(scope="module")
def written() -> set[str]:
    """The names of all tests."""
    return {
        name
        for file in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"def (test_\w+)", file.read_text("utf-8"))
    }


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_a_test_that_a_page_names_exists(page: Path, written: set[str]) -> None:
    named = set(re.findall(r"`(test(?:_[^\W_]+){3,})`", _FENCED.sub("", page.read_text("utf-8"))))
    assert not named - written


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_a_file_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`([^`\n]+)`(?! \(new\))", _FENCED.sub("", page.read_text("utf-8")))
    assert not [path for path in named if is_path(path) and not exists(path)]


def is_path(text: str) -> bool:
    """Whether the text names a file of this repository, from its root or from the package."""
    if text.startswith("tools/"):  # MCP's methods begin like that
        return text.endswith((".py", ".txt"))
    return text.startswith(("tests/", "docs/", "exai_actors/", *ROOMS)) and " " not in text


def exists(path: str) -> bool:
    return any(any(place.glob(path)) or any(place.glob(f"{path}.py")) for place in (ROOT, PACKAGE))


def test_each_worked_change_names_at_most_five_files() -> None:
    page = (ROOT / "docs" / "how-to" / "change-the-code.md").read_text("utf-8")
    examples = [part for part in page.split("\n## ")[1:] if "| file | change |" in part]
    assert len(examples) == 5
    for example in examples:
        rows = re.findall(r"^\| `([^`]+)`( \(new\))? \|", example, re.MULTILINE)
        assert 3 <= len(rows) <= 5, example
        assert any(path.startswith("tests/") for path, _ in rows), example
        for path, new in rows:
            assert exists(path) != bool(new), path
            assert exists(path.rpartition("/")[0]), path


def test_a_path_is_distinguished_from_other_words() -> None:
    assert is_path("core/tools/table.py")
    assert is_path("tests/core")
    assert not is_path("tools/call")
    assert exists("core/tools/table")
    assert not exists("core/tools/tables.py")


def test_each_section_of_the_history_names_its_tests() -> None:
    why = (ROOT / "docs" / "explanation" / "why.md").read_text("utf-8")
    sections = re.split(r"^## (?=\d)", why.partition("## And it was slow")[0], flags=re.MULTILINE)
    assert len(sections) == 9
    assert all(re.search(r"^Tests: `tests/", each, re.MULTILINE) for each in sections[1:])


def test_each_promise_of_the_readme_has_a_test_on_the_page_that_says_why() -> None:
    _, _, promises = (ROOT / "README.md").read_text("utf-8").partition("## Guarantees")
    promised = re.findall(r"^- \*\*(.+?)\.\*\*", promises.partition("\n## ")[0], re.MULTILINE)
    why = (ROOT / "docs" / "explanation" / "why.md").read_text("utf-8")
    assert promised == re.findall(r"^\| ([^|`]+) \| `test_\w+` \|$", why, re.MULTILINE)


def test_the_index_of_decisions_gives_each_title() -> None:
    folder = ROOT / "docs" / "adr"
    listed = re.findall(
        r"^(\d+)\. \[(.+)\]\((.+)\)$", (folder / "README.md").read_text("utf-8"), re.MULTILINE
    )
    titles = [(number, name, f"# {number}. {title}") for number, title, name in listed]
    assert titles == [
        (str(int(page.name[:4])), page.name, page.read_text("utf-8").partition("\n")[0])
        for page in sorted(folder.glob("0*.md"))
    ]


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    to_read = [ROOT / "README.md"]
    while to_read:
        page = to_read.pop().resolve()
        if page not in reached:
            reached.add(page)
            to_read += [
                page.parent / unquote(link.partition("#")[0])
                for link in links(page)
                if ".md" in link
            ]
    assert not [name_of(page) for page in pages() if page.resolve() not in reached]


def links(page: Path) -> list[str]:
    """The targets within this repository."""
    text = re.sub(r"`[^`\n]*`", "", _FENCED.sub("", page.read_text("utf-8")))
    found = [match[1] or match[2] for match in _LINK.finditer(text)]
    return [link for link in found if "://" not in link and not link.startswith("mailto:")]


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub names them."""
    text = _FENCED.sub("", page.read_text("utf-8"))
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", each) for each in _HEADING.findall(text))
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in plain}


SAMPLE = """
1. First:

   <!-- docs-test: exits 7 -->
   ```sh
   exit 7
   ```

```python title="x"
print("hi")
```
"""


def test_a_block_has_its_language_note_and_line() -> None:
    first, second = blocks_in(SAMPLE, ROOT / "README.md")
    assert (first.language, first.kind, first.argument) == ("sh", "exits", "7")
    assert (first.body, first.line) == ("exit 7\n", 5)
    assert (second.language, second.kind, second.body) == ("python", "", 'print("hi")\n')


@pytest.mark.parametrize("note", ["skp, why", "skip,", "exits", "output of all", "background x"])
def test_an_invalid_note_is_an_error(note: str) -> None:
    with pytest.raises(ValueError, match=r"README\.md:2"):
        blocks_in(f"<!-- docs-test: {note} -->\n```sh\n:\n```\n", ROOT / "README.md")


@pytest.mark.parametrize(
    ("page", "why"),
    [
        ("```sh\nexit 3\n```", "exit code 3, not 0"),
        ("```python\nraise SystemExit(2)\n```", "exit code 2, not 0"),
        ("<!-- docs-test: exits 1 -->\n```sh\ntrue\n```", "exit code 0, not 1"),
        ("<!-- docs-test: skip, no key -->\n```sh\nif\n```", "syntax error"),
        ("<!-- docs-test: background -->\n```sh\necho hello\n```", "hello"),
        ("```toml\n[server]\nprot = 1\n```", "did you mean"),
        (
            "```sh\necho one; echo two\n```\n<!-- docs-test: output -->\n```text\ntwo\none\n```",
            "the page says",
        ),
        ("```console\n$ echo one\ntwo\n```", "the page says"),
        ("```console\n$ false\n```", "exit code 1, not 0"),
        ("```fish\nls\n```", "cannot check 'fish'"),
    ],
)
def test_a_page_with_a_failing_block_fails(page: str, why: str, tmp_path: Path) -> None:
    with desk(tmp_path) as reader, pytest.raises(AssertionError, match=why):
        reader.read(blocks_in(f"{page}\n", ROOT / "README.md"))


def test_later_blocks_use_the_broker_that_the_page_started(tmp_path: Path) -> None:
    page = """
<!-- docs-test: background -->
```sh
exai serve
```
```sh
exai ask --url ws://127.0.0.1:8079 hello | tr a-z A-Z
```
<!-- docs-test: output -->
```text
… NOT AN AI. YOU SAID: "HELLO"…
```
"""
    with desk(tmp_path) as reader:
        reader.read(blocks_in(page, ROOT / "README.md"))
