"""Every program in the how-to of the client runs as it stands, but for the broker's URL."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exai_actors.testing.broker import BrokerInThread

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "use-the-python-client.md"
URL = "ws://127.0.0.1:8079"
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", HOW_TO.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("program", PROGRAMS, ids=range(1, len(PROGRAMS) + 1))
def test_the_program_runs_and_says_something(
    exai_broker: BrokerInThread, capsys: pytest.CaptureFixture[str], program: str
) -> None:
    assert URL in program
    here = program.replace(URL, exai_broker.url)
    exec(compile(here, str(HOW_TO), "exec"), {"__name__": "__main__"})
    said = capsys.readouterr().out.strip()
    assert said
    assert "gpt-99" not in program or said == "take one of synthetic"


def test_there_are_programs_to_try() -> None:
    assert len(PROGRAMS) >= 6
