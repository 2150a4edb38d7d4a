"""Live changes are written into the file, and the rest of it stays as it is."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from exai_actors.daemon.config.reading import read_config
from exai_actors.daemon.config.save import changed_text, prepared, replace
from exai_actors.daemon.config.toml_lines import KeyPath
from exai_actors.errors import ConfigError

FILE = """# Ours since 2024.
[server]
port = 8079   # the usual one

[[provider]]
kind = "synthetic"
name = "kimi"
limit = 4   # calls in flight
model_limits = { "star" = 2, "moon" = 3 } # scarce
note-free = 1
""".replace("note-free = 1\n", "")
GLM = '''
[[provider]]
kind = "synthetic"
name = "glm"'''


@pytest.mark.parametrize(
    ("changes", "removed", "added"),
    [
        (
            {("provider", 0, "limit"): 2},
            ["limit = 4   # calls in flight"],
            ["limit = 2   # calls in flight"],
        ),
        (
            {("provider", 0, "model_limits", "moon"): 9},
            ['model_limits = { "star" = 2, "moon" = 3 } # scarce'],
            ['model_limits = { "star" = 2, "moon" = 9 } # scarce'],
        ),
        (
            {("provider", 0, "requests_per_minute"): 30},
            [],
            ["requests_per_minute = 30"],
        ),
        (
            {("provider", 1, "limit"): 7, ("provider", 1, "tokens_per_day"): 5000},
            [],
            ["limit = 7", "tokens_per_day = 5000"],
        ),
    ],
)
def test_only_the_changed_values_differ(
    changes: dict[KeyPath, Any], removed: list[str], added: list[str]
) -> None:
    text = FILE + GLM
    new = changed_text(text, changes)
    before, after = text.splitlines(), new.splitlines()
    assert [line for line in before if line not in after] == removed
    assert sorted(line for line in after if line not in before) == added
    found = read_config(new, env={}, flags={}).config
    assert found is not None
    assert [provider.name for provider in found.provider] == ["kimi", "glm"]


@pytest.mark.parametrize(
    "text",
    [
        'provider = [{ kind = "synthetic", name = "kimi" }]\n',
        "[server]\nport = 1\n",
        "",
    ],
)
def test_a_file_that_would_need_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"provider\.0\.limit cannot be written"):
        changed_text(text, {("provider", 0, "limit"): 2})


def test_values_in_inline_tables_and_dotted_keys_are_replaced_too() -> None:
    text = 'provider = [{ kind = "synthetic", name = "kimi", limit = 4 }]\n'
    assert changed_text(text, {("provider", 0, "limit"): 2}) == text.replace("4", "2")
    dotted = '[[provider]]\nname = "k"\nkind = "synthetic"\nmodel_limits.a = 1\n'
    path: KeyPath = ("provider", 0, "model_limits", "a")
    assert changed_text(dotted, {path: 5}) == dotted.replace("= 1", "= 5")


def test_the_difference_is_shown_and_the_file_replaced_with_its_rights(tmp_path: Path) -> None:
    file = tmp_path / "exai.toml"
    file.write_text(FILE)
    file.chmod(0o640)
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    text, diff = prepared(link, {("provider", 0, "limit"): 2}, {})
    assert "-limit = 4   # calls in flight\n+limit = 2   # calls in flight\n" in diff
    replace(link, text)
    assert file.read_text() == FILE.replace("limit = 4 ", "limit = 2 ")
    assert (stat.S_IMODE(file.stat().st_mode), link.is_symlink()) == (0o640, True)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["exai.toml", "link.toml"]


def test_a_file_that_has_become_invalid_is_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "exai.toml"
    file.write_text(FILE.replace("port = 8079", "prot = 8079"))
    with pytest.raises(ConfigError, match="edit it by hand"):
        prepared(file, {("provider", 0, "limit"): 2}, {})
