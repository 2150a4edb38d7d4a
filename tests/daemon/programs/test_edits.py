"""Changes of other programs' files are made, and undone byte for byte or around their owner's."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.daemon.programs.edits import BlockEdit, Changes, Edit, JsonEdit
from exai_actors.errors import UsageError

MEMBERS: dict[str, Any] = {"env": {"URL": "u", "MODEL": "m"}, "helper": "cat"}
LINES = 'model = "m"\nmodel_providers.exai = { name = "exai" }\n'
TAKEN = ("model ", "model_provider")


@pytest.fixture
def changes(tmp_path: Path) -> Changes:
    return Changes(tmp_path / "state")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home" / "file"


def edits(file: Path) -> list[Edit]:
    return [
        JsonEdit(file, MEMBERS),
        BlockEdit(file, LINES, TAKEN),
        BlockEdit(file, LINES, TAKEN, at_end=True),
    ]


BEFORE = [
    None,
    b"",
    b"{}",
    b'{"env":{"URL":"mine"},  "list":[1,2]}',
    b'{\r\n\t"theme" : "dark"\r\n}\r\n\r\n',
    '{"name": "käse", "env": {}}'.encode(),
]


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("kind", [0, 1, 2])
def test_an_undone_change_leaves_every_byte_as_it_was(
    kind: int, before: bytes | None, changes: Changes, file: Path
) -> None:
    if before is not None:
        file.write_bytes(before)
    changes.write("x", edits(file)[kind])
    assert file.read_bytes() != before
    changes.undo("x")
    assert (file.read_bytes() if file.exists() else None) == before
    assert changes.record("x") is None


@given(st.dictionaries(st.text(), st.recursive(st.integers() | st.text(), st.lists, max_leaves=3)))
def test_the_other_members_of_any_object_stay(members: dict[str, Any]) -> None:
    merged = json.loads(JsonEdit(Path("f"), MEMBERS).applied_to(json.dumps(members), "x"))
    others = members.keys() - MEMBERS.keys()
    assert {key: merged[key] for key in others} == {key: members[key] for key in others}
    assert {key: merged[key] for key in MEMBERS} == MEMBERS


def test_the_folders_that_a_change_needed_go_with_it(changes: Changes, tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "settings.json"
    changes.write("x", JsonEdit(file, MEMBERS))
    changes.undo("x")
    assert not (tmp_path / "a").exists()
    changes.write("x", JsonEdit(file, MEMBERS))
    (tmp_path / "a" / "other").touch()
    changes.undo("x")
    assert [each.name for each in (tmp_path / "a").iterdir()] == ["other"]


def test_members_are_merged_and_taken_out_around_later_changes(
    changes: Changes, file: Path
) -> None:
    file.write_text('{"env": {"URL": "mine", "PATH": "p"}, "theme": "dark"}')
    changes.write("x", JsonEdit(file, MEMBERS))
    found = json.loads(file.read_text())
    assert found == {
        "env": {"URL": "u", "PATH": "p", "MODEL": "m"},
        "theme": "dark",
        "helper": "cat",
    }
    found["theme"] = "light"
    found["helper"] = "my own"
    file.write_text(json.dumps(found))
    assert "your other changes stay" in changes.undo("x")
    assert json.loads(file.read_text()) == {
        "env": {"URL": "mine", "PATH": "p"},
        "theme": "light",
        "helper": "my own",
    }


def test_members_of_a_new_file_leave_nothing_behind(changes: Changes, file: Path) -> None:
    changes.write("x", JsonEdit(file, MEMBERS))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"theme": "dark"}))
    changes.undo("x")
    assert json.loads(file.read_text()) == {"theme": "dark"}


@pytest.mark.parametrize("at_end", [False, True])
def test_a_block_is_taken_out_around_later_changes(
    at_end: bool, changes: Changes, file: Path
) -> None:
    file.write_text("# mine\nother = 1\n[table]\nkey = 2\n")
    changes.write("x", BlockEdit(file, LINES, TAKEN, at_end=at_end))
    file.write_text(file.read_text().replace("other = 1", "other = 3") + "more = 4\n")
    assert "your other changes stay" in changes.undo("x")
    assert file.read_text() == "# mine\nother = 3\n[table]\nkey = 2\nmore = 4\n"


def test_a_block_before_the_tables_is_valid_toml(changes: Changes, file: Path) -> None:
    file.write_text('approval = "never"\n[model_providers.other]\nname = "other"\nmodel = "x"\n')
    changes.write("x", BlockEdit(file, LINES, TAKEN))
    found = tomllib.loads(file.read_text())
    assert (found["model"], found["approval"]) == ("m", "never")
    assert found["model_providers"] == {
        "exai": {"name": "exai"},
        "other": {"name": "other", "model": "x"},
    }


def test_a_changed_block_is_left_alone(changes: Changes, file: Path) -> None:
    file.write_text("mine\n")
    changes.write("x", BlockEdit(file, LINES))
    changed = file.read_text().replace('model = "m"', 'model = "n"')
    file.write_text(changed)
    with pytest.raises(UsageError, match=r"has been changed; take exai's part .*x\.before"):
        changes.undo("x")
    assert file.read_text() == changed
    assert changes.record("x") is not None


@pytest.mark.parametrize("text", ["// mine\n{}", "[1]", "not json", '{"a": 1,}'])
def test_a_file_that_is_not_plain_json_is_left_alone(
    text: str, changes: Changes, file: Path
) -> None:
    file.write_text(text)
    with pytest.raises(UsageError, match="not a plain JSON object"):
        changes.write("x", JsonEdit(file, MEMBERS))
    assert file.read_text() == text
    assert changes.record("x") is None


@pytest.mark.parametrize("line", ['model = "x"', 'model_provider = "mine"', "# <<< exai connect"])
def test_a_line_of_the_same_key_is_left_alone(line: str, changes: Changes, file: Path) -> None:
    file.write_text(f"a = 1\n{line}\n[table]\n")
    with pytest.raises(UsageError, match="already has the line"):
        changes.write("x", BlockEdit(file, LINES, TAKEN))
    assert file.read_text() == f"a = 1\n{line}\n[table]\n"


def test_a_second_change_replaces_the_first(changes: Changes, file: Path) -> None:
    file.write_text("mine = 1\n")
    changes.write("x", BlockEdit(file, LINES, TAKEN))
    changes.write("x", BlockEdit(file, 'model = "n"\n', TAKEN))
    assert 'model = "m"' not in file.read_text()
    changes.undo("x")
    assert file.read_text() == "mine = 1\n"


def test_links_and_modes_stay(changes: Changes, file: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles"
    real.write_text("{}")
    real.chmod(0o640)
    file.symlink_to(real)
    changes.write("x", JsonEdit(file, MEMBERS))
    assert file.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    changes.undo("x")
    assert (file.is_symlink(), real.read_text()) == (True, "{}")


def test_a_new_file_is_its_owners_alone(changes: Changes, file: Path) -> None:
    changes.write("x", JsonEdit(file, MEMBERS))
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_gone_needs_no_undoing(changes: Changes, file: Path) -> None:
    changes.write("x", JsonEdit(file, MEMBERS))
    file.unlink()
    assert "is gone" in changes.undo("x")
    with pytest.raises(UsageError, match="nothing to undo"):
        changes.undo("x")


def test_a_file_that_is_no_json_any_more_is_left_alone(changes: Changes, file: Path) -> None:
    changes.write("x", JsonEdit(file, MEMBERS))
    file.write_text("[]")
    with pytest.raises(UsageError, match="no plain JSON object any more"):
        changes.undo("x")


def test_a_folder_in_place_of_the_file_is_an_error(changes: Changes, file: Path) -> None:
    file.mkdir()
    with pytest.raises(UsageError, match="cannot be changed"):
        changes.write("x", JsonEdit(file, MEMBERS))
    assert changes.record("x") is None


def test_a_damaged_record_is_an_error(changes: Changes, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "x.json").write_text("{")
    with pytest.raises(UsageError, match=r"x\.json cannot be read"):
        changes.undo("x")
