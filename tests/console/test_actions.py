"""Questions and actions of consoles: what is refused, previewed, done, and undone."""

from __future__ import annotations

from typing import Any

import pytest

from exai_actors.core.operations.action import ActionError
from exai_actors.core.operators import Role
from tests.console.operator_desk import OperatorDesk


def fail() -> dict[str, Any]:
    raise ActionError("there is no request 'r-1'", "unknown")


def test_a_question_is_answered_with_its_id() -> None:
    desk = OperatorDesk()
    desk.consoles.questions.add("why", Role.VIEWER, lambda of: {"request": of})
    console = desk.console(Role.VIEWER)
    assert "why" in console.greeting["questions"]
    assert console.send({"op": "ask", "id": 7, "question": "why", "of": "r-1"}) == [
        {"op": "answer", "id": 7, "question": "why", "answer": {"request": "r-1"}}
    ]


@pytest.mark.parametrize(
    ("question", "role", "code"),
    [
        ("when", Role.ADMIN, "unknown"),
        ("why", Role.ADMIN, "unknown"),
        ("who", Role.VIEWER, "forbidden"),
    ],
)
def test_a_question_without_an_answer_is_refused(question: str, role: Role, code: str) -> None:
    desk = OperatorDesk()
    desk.consoles.questions.add("why", Role.VIEWER, lambda _: fail())
    desk.consoles.questions.add("who", Role.OPERATOR, lambda _: {"name": "ada"})
    (answer,) = desk.console(role).send({"op": "ask", "id": 3, "question": question, "of": "r-1"})
    assert (answer["op"], answer["id"], answer["code"]) == ("error", 3, code)


@pytest.mark.parametrize(
    ("role", "answer"), [(Role.OPERATOR, {"path": "/a"}), (Role.ADMIN, {"path": "/a", "state": 1})]
)
def test_a_part_of_an_answer_is_for_a_higher_role(role: Role, answer: dict[str, Any]) -> None:
    desk = OperatorDesk()
    desk.consoles.questions.add(
        "actor", Role.VIEWER, lambda of: {"path": of}, more=(Role.ADMIN, lambda _: {"state": 1})
    )
    (found,) = desk.console(role).send({"op": "ask", "question": "actor", "of": "/a"})
    assert found["answer"] == answer


def test_a_preview_says_the_effect_and_changes_nothing() -> None:
    desk = OperatorDesk()
    client = desk.tree.client()
    client.call("r-1")
    client.call("r-2")
    console = desk.console()
    effect = console.act("provider.pause", "kimi", preview=True)
    assert effect["preview"] is True
    assert effect["effects"] == [
        {
            "target": "kimi",
            "text": "1 call in flight continues; 1 queued request and new ones wait until it is "
            "resumed",
            "ok": True,
        }
    ]
    assert desk.tree.statistics().mode == "open"


def test_an_action_is_done_and_undone() -> None:
    desk = OperatorDesk()
    console = desk.console()
    undo = console.act("provider.pause", "kimi")["undo"]
    assert desk.tree.statistics().mode == "paused"
    assert undo == {"action": "provider.resume", "targets": ["kimi"], "arguments": {}}
    console.act(undo["action"], *undo["targets"], arguments=undo["arguments"])
    assert desk.tree.statistics().mode == "open"


def test_an_action_concerns_every_row_that_matches() -> None:
    desk = OperatorDesk()
    effect = desk.console().act("provider.pause", filter="!glm state:serving")
    assert [each["target"] for each in effect["effects"]] == ["kimi"]
    assert (desk.tree.statistics().mode, desk.tree.statistics("glm").mode) == ("paused", "open")


def test_the_effects_of_several_targets_come_together() -> None:
    desk = OperatorDesk()
    effect = desk.console().act("provider.pause", "kimi", "nobody", "glm", "kimi")
    assert {each["target"]: each["ok"] for each in effect["effects"]} == {
        "kimi": True,
        "nobody": False,
        "glm": True,
    }
    assert effect["undo"]["targets"] == ["kimi", "glm"]


@pytest.mark.parametrize(
    ("act", "code"),
    [
        ({"action": "provider.erase", "targets": ["kimi"]}, "unknown"),
        ({"action": "provider.pause"}, "bad_action"),
        ({"action": "provider.pause", "targets": ["kimi"], "filter": "kimi"}, "bad_action"),
        ({"action": "provider.pause", "targets": ["kimi"], "arguments": {"now": 1}}, "bad_action"),
        ({"action": "provider.pause", "targets": ["kimi"], "reason": "x" * 201}, "bad_action"),
        ({"action": "provider.pause", "filter": "no-such-provider"}, "unknown"),
        ({"action": "provider.pause", "filter": "age>3"}, "bad_query"),
    ],
)
def test_an_action_that_makes_no_sense_is_refused(act: dict[str, Any], code: str) -> None:
    desk = OperatorDesk()
    (answer,) = desk.console().send({"op": "act", "id": 9, **act})
    assert (answer["op"], answer["id"], answer["code"]) == ("error", 9, code)
    assert desk.tree.statistics().mode == "open"


def test_a_viewer_can_change_nothing() -> None:
    desk = OperatorDesk()
    console = desk.console(Role.VIEWER)
    assert not any(action["allowed"] for action in console.greeting["actions"])
    for action in console.greeting["actions"]:
        answer = console.act(action["name"], "kimi")
        assert answer["code"] == "forbidden", action
    assert desk.tree.statistics().mode == "open"
