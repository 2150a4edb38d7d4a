"""Questions and actions of consoles: what is refused, previewed, done, and undone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from exai_actors.console.actions import MAX_UNDOS
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


def test_targets_in_different_states_are_restored_each_to_its_own() -> None:
    desk = OperatorDesk(limit=1)
    console = desk.console()
    console.act("provider.limit", "glm", arguments={"limit": 3})
    console.act("provider.drain", "glm")
    changed = console.act("provider.limit", "kimi", "glm", arguments={"limit": 5})
    paused = console.act("provider.pause", "kimi", "glm", "nobody")
    assert (changed["undo"], paused["undo"]) == (None, None)
    assert changed["undos"] == [
        {"action": "provider.limit", "targets": ["kimi"], "arguments": {"limit": 1}},
        {"action": "provider.limit", "targets": ["glm"], "arguments": {"limit": 3}},
    ]
    for undo in (*changed["undos"], *paused["undos"]):
        console.act(undo["action"], *undo["targets"], arguments=undo["arguments"])
    found = [desk.tree.statistics(name) for name in ("kimi", "glm")]
    assert [(each.limit, each.mode) for each in found] == [(1, "open"), (3, "draining")]


def test_an_action_that_takes_too_many_others_to_undo_offers_none() -> None:
    desk = OperatorDesk()
    console = desk.console()
    keys = []
    for number in range(MAX_UNDOS + 1):
        desk.tree.client(f"s-{number}")
        key = str(number + 1)
        if number:
            console.act("session.weight", key, arguments={"weight": 1 + number})
        keys.append(key)
    offered = console.act("session.weight", *keys[1:], arguments={"weight": 500}, preview=True)
    assert len(offered["undos"]) == MAX_UNDOS
    effect = console.act("session.weight", *keys, arguments={"weight": 500}, preview=True)
    assert (effect["failed"], effect["undo"], effect["undos"]) == (0, None, [])


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


class NoProcess:
    """A process that would fail the test if anything was done to it."""

    snapshots_at = "recordings"

    def drain(self, _: str) -> None:
        raise AssertionError

    def snapshot(self, _: str) -> Any:
        raise AssertionError

    def settings(self) -> list[Any]:
        return []

    def changes(self) -> dict[Any, Any]:
        return {"a change": 1}

    def diff(self, _: Any) -> Any:
        raise AssertionError


PAGE = Path(__file__).parents[2] / "docs" / "reference" / "console-protocol.md"


def documented() -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """The actions on the page: table, role, and arguments, optional ones in brackets."""
    found = {}
    table = PAGE.read_text("utf-8").partition("| action | table | role |")[2].partition("\n\n")[0]
    for names, of, role, arguments in re.findall(
        r"^\| (`.*) \| (.*?) ?\| (\w+) \| ?(.*?) ?\|$", table, re.MULTILINE
    ):
        first, *more = re.findall(r"`([\w.]+)`", names)
        for name in (first, *(first.partition(".")[0] + each for each in more)):
            found[name] = of.strip("`"), role, tuple(re.findall(r"`([^`]+)`", arguments))
    return found


def test_the_page_lists_exactly_the_actions_with_their_roles() -> None:
    actions = OperatorDesk(process=NoProcess()).console().greeting["actions"]
    assert documented() == {
        action["name"]: (
            action["table"] if action["targets"] else "",
            action["role"],
            tuple(
                each["name"] if each["required"] else f"[{each['name']}]"
                for each in action["arguments"]
            ),
        )
        for action in actions
    }


@pytest.mark.parametrize("name", documented())
def test_no_role_below_that_of_an_action_can_take_it(name: str) -> None:
    desk = OperatorDesk(process=NoProcess())
    needed = Role(documented()[name][1])
    for role in Role:
        console = desk.console(role)
        (action,) = [each for each in console.greeting["actions"] if each["name"] == name]
        assert action["allowed"] == role.may(needed)
        if not role.may(needed):
            for preview in (False, True):
                answer = console.act(name, "kimi", preview=preview)
                assert (answer["op"], answer["code"]) == ("error", "forbidden")
    assert desk.tree.statistics().events == ()
