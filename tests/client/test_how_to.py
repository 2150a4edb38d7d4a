"""Every example in the client's how-to runs, with another URL."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exai_actors.testing.broker import BrokerInThread

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "use-the-python-client.md"
URL = "ws://127.0.0.1:8079"
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", HOW_TO.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("program", PROGRAMS, ids=range(1, len(PROGRAMS) + 1))
def test_the_example_runs_and_prints(
    exai_broker: BrokerInThread, capsys: pytest.CaptureFixture[str], program: str
) -> None:
    assert URL in program
    here = program.replace(URL, exai_broker.url)
    exec(compile(here, str(HOW_TO), "exec"), {"__name__": "__main__"})
    output = capsys.readouterr().out.strip()
    assert output
    assert "gpt-99" not in program or output == "take one of synthetic"


def test_the_page_has_examples() -> None:
    assert len(PROGRAMS) >= 6
