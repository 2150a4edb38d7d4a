"""Draw the package as rooms, one row a layer, from the tree alone.

The layers come from the first import contract in setup.cfg, the rooms from the folders, the lines
in them from the docstrings of the packages, the arrows from the import statements. The drawing
stands between two marker lines in docs/explanation/architecture.md; ``--write`` brings it up to
date. tests/docs checks that packages, docstrings and imports are those of the tree and that every
module shown exists; a new module may be missing until the next ``--write``.
"""

from __future__ import annotations

import argparse
import ast
import configparser
import sys
import textwrap
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "exai_actors"
PAGE = ROOT / "docs" / "explanation" / "architecture.md"
BEGIN = "<!-- drawn by tools/draw_architecture.py --write -->"
END = "<!-- end of drawing -->"
WIDTH = 100


@dataclass(frozen=True, slots=True)
class Room:
    """A package or a single module of the first level, with its text."""

    name: str
    lines: tuple[str, ...]
    imports: tuple[str, ...]


def layers() -> list[list[str]]:
    """The names of each layer, outermost first, as the import contract lists them."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", "utf-8")
    listed = parser["importlinter:contract:layers"]["layers"].split("\n")
    rows = [[name.strip(" ()") for name in line.split("|")] for line in listed if line.strip()]
    there = [[name for name in row if _path(name).exists()] for row in rows]
    return [row for row in there if row]


def room(name: str, shown: Container[str]) -> Room:
    """Describe one package or module; of its modules those that are ``shown``."""
    path = _path(name)
    if path.is_file():
        return Room(f"{name}.py", (_title(path),), tuple(_imports(name, [path])))
    lines = [_title(path / "__init__.py")]
    own = _modules(path, shown)
    if own:
        lines += ["", " ".join(own)]
    for folder in sorted(child for child in path.iterdir() if child.is_dir()):
        if (folder / "__init__.py").is_file():
            lines += ["", f"{folder.name}/ {_title(folder / '__init__.py')}"]
            below = [
                f"{child.name}/({' '.join(_modules(child, shown))})"
                for child in sorted(folder.iterdir())
                if (child / "__init__.py").is_file()
            ]
            lines.append("  " + " ".join([*_modules(folder, shown), *below]))
        elif folder.name != "__pycache__":
            files = sorted(file.name for file in folder.iterdir() if file.is_file())
            lines += ["", f"{folder.name}/ {' '.join(files)}"]
    return Room(f"{name}/", tuple(lines), tuple(_imports(name, sorted(path.rglob("*.py")))))


def drawing(shown: Container[str] | None = None) -> str:
    """The drawing as text, with all modules or those that are ``shown``."""
    if shown is None:
        shown = {path.stem for path in PACKAGE.rglob("*.py")}
    rows: list[str] = []
    for names in layers():
        rooms = [room(name, shown) for name in names]
        width = WIDTH // len(rooms)
        boxes = [_box(each, width) for each in rooms]
        height = max(len(box) for box in boxes)
        for box in boxes:
            box[-1:-1] = [f"│{' ' * (width - 2)}│"] * (height - len(box))
        rows += ["".join(parts).rstrip() for parts in zip(*boxes, strict=True)]
    return "\n".join(rows)


def _box(room: Room, width: int) -> list[str]:
    inner = width - 4
    text: list[str] = []
    for line in room.lines:
        indent = line[: len(line) - len(line.lstrip())]
        text += textwrap.wrap(line, inner, subsequent_indent=indent, break_on_hyphens=False) or [""]
    if room.imports:
        text += ["", *textwrap.wrap("→ " + " ".join(room.imports), inner, subsequent_indent="  ")]
    head = f"┌─ {room.name} "
    return [
        head + "─" * (width - len(head) - 1) + "┐",
        *(f"│ {line:<{inner}} │" for line in text),
        "└" + "─" * (width - 2) + "┘",
    ]


def _path(name: str) -> Path:
    folder = PACKAGE / name
    return folder if folder.is_dir() else PACKAGE / f"{name}.py"


def _modules(folder: Path, shown: Container[str]) -> list[str]:
    names = {file.stem for file in folder.glob("*.py")} - {"__init__"}
    return sorted(name for name in names if name in shown)


def _title(path: Path) -> str:
    """The first line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return docstring.partition("\n\n")[0].replace("\n", " ")


def _imports(own: str, paths: list[Path]) -> Iterator[str]:
    """The other rooms that these files import, innermost last."""
    found = {name for path in paths for name in _imported(path)}
    yield from (name for row in layers() for name in row if name in found and name != own)


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.ImportFrom(module=str(module)):
                parts = module.split(".")
                if parts == [PACKAGE.name]:
                    yield from (alias.name for alias in node.names)
                elif parts[0] == PACKAGE.name:
                    yield parts[1]
            case ast.Import():
                for alias in node.names:
                    parts = alias.name.split(".")
                    if parts[0] == PACKAGE.name and len(parts) > 1:
                        yield parts[1]
            case _:
                pass


def drawing_in(page: str) -> str:
    """The drawing that the page has. Raises ValueError if it lacks the markers."""
    _, begin, rest = page.partition(f"{BEGIN}\n```text\n")
    found, end, _ = rest.partition(f"\n```\n{END}")
    if not (begin and end):
        raise ValueError(f"the page lacks {BEGIN} or {END}")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print the drawing or write it into its page."""
    parser = argparse.ArgumentParser(prog="tools/draw_architecture.py", description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the drawing in the page")
    if parser.parse_args(arguments).write:
        page = PAGE.read_text("utf-8")
        PAGE.write_text(page.replace(drawing_in(page), drawing()), "utf-8")
    else:
        print(drawing())
    return 0


if __name__ == "__main__":
    sys.exit(main())
