"""The architecture page shows the present tree, actors and names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from exai_actors.testing.broker import running_broker
from tools import draw_architecture
from tools.draw_architecture import PACKAGE, PAGE, drawing, drawing_in

FOREIGN = {"DRAINING"}


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text("utf-8")


def section(page: str, title: str) -> str:
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The body rows of all tables."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells[2:] if set(row[0]) - set("-: ")]


def test_the_drawing_shows_the_present_tree_except_for_new_modules(page: str) -> None:
    shown = drawing_in(page)
    present = drawing(set(re.findall(r"\w+", shown)))
    assert shown == present, "run: python tools/draw_architecture.py --write"


def test_every_package_is_in_the_drawing_and_nearly_every_module(page: str) -> None:
    shown = set(re.findall(r"\w+", drawing_in(page)))
    packages = {path.parent.name for path in PACKAGE.rglob("*/__init__.py")}
    modules = {path.stem for path in PACKAGE.rglob("*.py")} - {"__init__", "__main__"}
    assert packages <= shown
    assert len(modules - shown) < 5, "run: python tools/draw_architecture.py --write"


def test_a_module_that_is_new_or_moved_changes_the_drawing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("core/__init__.py", "core/new_idea.py", "wire/deep/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('"""Described here."""\n')
    (tmp_path / "wire/__init__.py").write_text("from exai_actors.core import new_idea\n")
    monkeypatch.setattr(draw_architecture, "PACKAGE", tmp_path / "exai_actors")
    (tmp_path / "exai_actors").symlink_to(tmp_path)
    lines = drawing().splitlines()
    assert any("new_idea" in line for line in lines)
    assert any("deep/ Described here." in line for line in lines)
    assert any("→ core" in line for line in lines)
    assert "new_idea" not in drawing({"core"})


async def test_the_tree_of_actors_is_that_of_a_running_broker(page: str) -> None:
    drawn = dict(re.findall(r"^(?:│  )?(?:[├└]─ )?(/\S*) +([A-Z]\w+Actor)", page, re.MULTILINE))
    providers = [{"kind": "synthetic", "name": name, "models": [name]} for name in ("kimi", "glm")]
    async with running_broker({"provider": providers}) as running, running.connect() as client:
        await client.call("version", {})
        living = {each.path: each.actor_class for each in running.broker.system.statistics()}
    assert _kinds(drawn) == _kinds(living)


def _kinds(actors: dict[str, str]) -> set[tuple[str, str]]:
    return {(path.split("/")[1], name) for path, name in actors.items()}


def test_every_class_and_module_on_the_page_exists(page: str) -> None:
    text = page.replace(section(page, "The rooms"), "")
    named = set(re.findall(r"\b(?:[A-Z][a-z]+){2,}\b", "\n".join(_code(text))))
    assert len(named) > 8
    assert named <= set(_classes()) | FOREIGN
    capacity = {path.stem for path in (PACKAGE / "core" / "capacity").glob("*.py")}
    for row in rows(section(page, "Capacity")):
        modules = [name for name in re.findall(r"`([^`]+)`", row[2]) if "/" not in name]
        assert set(modules) <= capacity, row


def _code(text: str) -> Iterator[str]:
    yield from re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", text)


def _classes() -> Iterator[str]:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                yield node.name
