"""Scenarios in text files: actions of clients, providers and time, each with its effects.

A line is an action. The lines with ``>`` after it are all its effects, in this order: calls that
reach a provider, calls that are aborted, then the frames that each client receives. An unexpected
effect is a failure as much as a missing one. ``actions.py`` defines the language.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass
class Step:
    """One action with its expected effects; ``line`` counts from 1."""

    line: int
    action: str
    expected: list[str] = field(default_factory=list)


@dataclass
class Scenario:
    """``settings`` are the lines before the first empty one."""

    title: str
    settings: list[str]
    steps: list[Step]


class ScenarioError(AssertionError):
    """A scenario that is malformed or had other effects; names file and line."""


def files() -> list[Path]:
    return sorted(FOLDER.glob("*.txt"))


def read(path: Path) -> Scenario:
    """Raises ScenarioError for a file without title or steps, or a trace without an action."""
    lines = path.read_text("utf-8").splitlines()
    if not lines or not lines[0].startswith("# "):
        raise ScenarioError(f"{path.name}:1: begin with a title: # What is shown")
    scenario = Scenario(lines[0][2:], [], [])
    in_settings = True
    for number, raw in enumerate(lines[1:], start=2):
        text = raw.partition("#")[0].strip()
        if not text:
            in_settings = in_settings and not (raw == "" and scenario.settings)
        elif text.startswith(">"):
            if not scenario.steps:
                raise ScenarioError(f"{path.name}:{number}: nothing was done yet")
            scenario.steps[-1].expected.append(text[1:].strip())
        elif in_settings:
            scenario.settings.append(text)
        else:
            scenario.steps.append(Step(number, text))
    if not scenario.steps:
        raise ScenarioError(f"{path.name}: nothing happens in it; leave a line after the settings")
    return scenario


def play(path: Path, act: Callable[[str], Iterator[str]], scenario: Scenario) -> None:
    """Perform each action and compare the effects. Raises ScenarioError with both traces."""
    for step in scenario.steps:
        try:
            happened = list(act(step.action))
        except ScenarioError as error:
            raise ScenarioError(f"{path.name}:{step.line}: {error}") from None
        if happened != step.expected:
            raise ScenarioError(
                f"{path.name}:{step.line}: after '{step.action}'\n"
                + "".join(f"  expected: {line}\n" for line in step.expected)
                + "".join(f"  happened: {line}\n" for line in happened)
            )
