"""The import contracts in setup.cfg catch forbidden imports."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT_IMPORTS = Path(sys.executable).parent / "lint-imports"


def _contracts_hold(clone: Path) -> tuple[bool, str]:
    ran = subprocess.run(
        [LINT_IMPORTS, "--no-cache"],
        cwd=clone,
        env={"PYTHONPATH": str(clone), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A package with the project's contracts and folders but without its code."""
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    for package in (ROOT / "exai_actors").rglob("__init__.py"):
        empty = tmp_path / package.relative_to(ROOT)
        empty.parent.mkdir(parents=True, exist_ok=True)
        empty.write_text("")
    for module in ("errors", "ids", "ports"):
        (tmp_path / "exai_actors" / f"{module}.py").write_text("")
    return tmp_path


def test_a_package_without_imports_keeps_every_contract(clone: Path) -> None:
    kept, output = _contracts_hold(clone)
    assert kept, output
    assert "0 broken" in output


def test_each_forbidden_import_in_a_pure_package_is_caught(clone: Path) -> None:
    imports = [
        (package, forbidden)
        for package in ("core", "wire", "messages")
        for forbidden in (
            "aiohttp",
            "asyncio",
            "pykka",
            "random",
            "threading",
            "time",
            "websockets",
        )
    ]
    for package, forbidden in imports:
        planted = clone / "exai_actors" / package / f"planted_{forbidden}.py"
        planted.write_text(f"import {forbidden}\n")
    kept, output = _contracts_hold(clone)
    assert not kept
    for package, forbidden in imports:
        assert f"exai_actors.{package} is not allowed to import {forbidden}" in output
        assert f"exai_actors.{package}.planted_{forbidden} -> {forbidden} (l.1)" in output


OUTWARDS = [
    ("core", "wire"),
    ("wire", "messages"),
    ("messages", "runtime"),
    ("runtime", "actors"),
    ("actors", "edges"),
    ("edges", "actors"),
    ("edges", "daemon"),
    ("client", "messages"),
    ("client", "daemon"),
    ("edges", "compat"),
    ("testing", "compat"),
    ("core.capacity", "core.session"),
    ("core.capacity", "core.tools"),
    ("wire.clients", "wire.openai"),
    ("wire.openai", "wire.clients"),
    ("runtime.kernel", "runtime.pykka_api"),
]


def test_each_import_that_points_outwards_is_caught(clone: Path) -> None:
    expected = []
    for number, (importer, imported) in enumerate(OUTWARDS):
        planted = clone.joinpath("exai_actors", *importer.split("."), f"planted_{number}.py")
        planted.write_text(f"import exai_actors.{imported}\n")
        expected.append(f"exai_actors.{importer}.planted_{number} -> exai_actors.{imported} (l.1)")
    kept, output = _contracts_hold(clone)
    assert not kept
    assert [line for line in expected if line not in output] == []


def test_the_kernel_of_the_runtime_cannot_import_pykka(clone: Path) -> None:
    (clone / "exai_actors" / "runtime" / "kernel" / "planted.py").write_text("import pykka\n")
    held, said = _contracts_hold(clone)
    assert not held
    assert "exai_actors.runtime.kernel is not allowed to import pykka" in said


def test_a_forbidden_import_reached_through_another_module_is_caught(clone: Path) -> None:
    (clone / "exai_actors" / "ids.py").write_text("import time\n")
    (clone / "exai_actors" / "core" / "planted.py").write_text("import exai_actors.ids\n")
    kept, output = _contracts_hold(clone)
    assert not kept
    assert "exai_actors.core is not allowed to import time" in output


def test_a_new_part_of_the_package_must_take_its_place_in_the_layers(clone: Path) -> None:
    (clone / "exai_actors" / "odds_and_ends.py").write_text("")
    kept, output = _contracts_hold(clone)
    assert not kept
    assert "odds_and_ends" in output
