"""The arguments and the reason of an action: what is accepted, and what a refusal says."""

from __future__ import annotations

import re
from math import inf, nan
from typing import Any

import pytest

from exai_actors.core.operations.action import (
    MAX_REASON_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    Action,
    ActionError,
    Argument,
    ArgumentKind,
    checked_arguments,
    checked_reason,
    counted,
)
from exai_actors.core.operators import Role

NAME = Argument("name", ArgumentKind.TEXT, "its name", required=False)
LIMIT = Argument("limit", ArgumentKind.COUNT, "calls at the same time")
WEIGHT = Argument("weight", ArgumentKind.NUMBER, "from 0.001 to 1000", required=False)
SET = Action("thing.set", "Set", "things", Role.ADMIN, "Set it.", (NAME, LIMIT, WEIGHT))
STOP = Action("thing.stop", "Stop", "things", Role.ADMIN, "Stop it.")


@pytest.mark.parametrize(
    ("given", "checked"),
    [
        ({"limit": 0}, {"limit": 0}),
        ({"limit": 3, "weight": 1}, {"limit": 3, "weight": 1}),
        ({"limit": 3, "weight": -0.5}, {"limit": 3, "weight": -0.5}),
        ({"limit": 3, "name": "a"}, {"limit": 3, "name": "a"}),
        (
            {"limit": 3, "name": "a" * MAX_TEXT_CHARACTERS},
            {"limit": 3, "name": "a" * MAX_TEXT_CHARACTERS},
        ),
        ({"limit": 3, "name": None, "weight": None}, {"limit": 3}),
    ],
)
def test_arguments_of_their_kinds_are_accepted_and_those_left_open_left_out(
    given: dict[str, Any], checked: dict[str, Any]
) -> None:
    assert checked_arguments(SET, given) == checked


@pytest.mark.parametrize(
    ("action", "given", "problem"),
    [
        (SET, {}, "thing.set needs the argument 'limit': calls at the same time"),
        (SET, {"limit": None}, "thing.set needs the argument 'limit': calls at the same time"),
        (
            SET,
            {"limit": 1, "size": 2},
            "thing.set has no argument 'size'; it takes name, limit, weight",
        ),
        (STOP, {"now": True}, "thing.stop has no argument 'now'; it takes none"),
        (STOP, {"n" * 100: 1}, f"thing.stop has no argument '{'n' * 40}'; it takes none"),
    ],
)
def test_missing_and_unknown_arguments_are_named(
    action: Action, given: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ActionError, match=f"^{re.escape(problem)}$") as refused:
        checked_arguments(action, given)
    assert refused.value.code == "bad_action"


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("name", ["", "a" * (MAX_TEXT_CHARACTERS + 1), 1, ["a"]], "text of at most 200 characters"),
        ("limit", [-1, 1.0, True, "1"], "whole number from 0 up"),
        ("weight", [inf, -inf, nan, 10**400, True, "1"], "number"),
    ],
)
def test_an_argument_of_another_kind_is_refused(name: str, values: list[object], kind: str) -> None:
    for value in values:
        with pytest.raises(ActionError, match=f"^the argument '{name}' of thing.set is a {kind}$"):
            checked_arguments(SET, {"limit": 1, name: value})


def test_a_reason_is_one_line_of_bounded_length() -> None:
    assert checked_reason("  more\n\twork ") == "more work"
    longest = "x" * MAX_REASON_CHARACTERS
    assert checked_reason(f" {longest}\n") == longest
    with pytest.raises(ActionError, match=r"^a reason has at most 200 characters$"):
        checked_reason(f"{longest}x")


def test_a_number_is_written_with_its_noun() -> None:
    assert [counted(n, "call") for n in (0, 1, 2)] == ["0 calls", "1 call", "2 calls"]
    assert [counted(n, "hold ends", "holds end") for n in (1, 2)] == ["1 hold ends", "2 holds end"]
