"""Each scenario has the effects in its file, and malformed files are errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.scenarios.actions import Stage
from tests.scenarios.scenario import ScenarioError, files, play, read


def play_file(path: Path) -> None:
    scenario = read(path)
    play(path, Stage(scenario.settings).act, scenario)


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_the_scenario_happens_as_written(path: Path) -> None:
    play_file(path)


def test_each_scenario_has_a_title_of_its_own() -> None:
    titles = [read(path).title for path in files()]
    assert len(set(titles)) == len(titles) >= 12


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ann asks a\n", "x.txt:1: begin with a title"),
        ("# T\nlimit 1\n", "x.txt: nothing happens in it"),
        ("# T\nlimit 1\n\n> kimi gets a\n", "x.txt:4: nothing was done yet"),
        ("# T\nlimit 1\n\nann dances\n", "x.txt:4: 'ann dances' is no action"),
        ("# T\nlimit 1\n\nkimi answers a\n", "x.txt:4: kimi has no call for a"),
        ("# T\nlimit 1\n\nann asks a\n", "happened: kimi gets a"),
        ("# T\nlimit 1\n\nann asks a\n> kimi gets a\n> kimi gets b\n", "expected: kimi gets b"),
    ],
)
def test_an_error_names_the_line_of_the_scenario(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.txt"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=re.escape(said)):
        play_file(path)
