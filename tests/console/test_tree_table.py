"""The table of the tree, as consoles see it."""

from __future__ import annotations

from typing import Any

from exai_actors.console.tables.tree import TREE, TreeRows
from exai_actors.testing.tree import ManualTree
from tests.console.operator_desk import OperatorDesk


def rows(tree: ManualTree) -> dict[str, dict[str, Any]]:
    names = [column.name for column in TREE.columns]
    return {key: dict(zip(names, row, strict=True)) for key, row in TreeRows(tree.supervisors)}


def test_the_whole_tree_is_listed_depth_first_in_the_order_of_starting() -> None:
    tree = ManualTree()
    tree.client().begin_session()
    found = rows(tree)
    assert list(found) == [
        "/",
        "/providers",
        "/providers/kimi",
        "/providers/glm",
        "/sessions",
        "/sessions/1",
        "/connections",
        "/connections/conn-1",
        "/consoles",
        "/broker",
    ]
    assert [row["depth"] for row in found.values()] == [0, 1, 2, 2, 1, 2, 1, 2, 1, 1]
    assert {row["phase"] for row in found.values()} == {"running"}
    assert found["/broker"]["kind"] == "BrokerActor"
    assert found["/providers"]["strategy"] == "one_for_one"
    assert found["/broker"]["strategy"] is None


def test_a_failed_provider_shows_its_budget_its_backoff_and_its_error() -> None:
    tree = ManualTree()
    for expected in (None, 0.1):
        tree.actor("/providers/kimi").tell("a secret that is no message")
        tree.settle()
        assert rows(tree)["/providers/kimi"]["backoff_s"] == expected
    kimi = rows(tree)["/providers/kimi"]
    assert (kimi["phase"], kimi["kind"], kimi["restarts"]) == ("waiting", "", 2)
    assert (kimi["used"], kimi["intensity"], kimi["period_s"]) == (2, 5, 30.0)
    assert kimi["last_error"].startswith("AssertionError at exai_actors/actors/provider/actor.py")
    assert "secret" not in kimi["last_error"]
    assert rows(tree)["/"]["used"] == 0
    tree.advance(1.0)
    assert rows(tree)["/providers/kimi"]["phase"] == "running"


def test_a_closed_provider_counts_down_and_a_session_that_is_given_up_leaves() -> None:
    tree = ManualTree()
    tree.client().begin_session()
    for path, times in (("/providers/kimi", 6), ("/sessions/1", 4)):
        for _ in range(times):
            tree.advance(1.0)
            tree.actor(path).tell("an unknown message")
            tree.settle()
    found = rows(tree)
    assert found["/providers/kimi"]["phase"] == "closed"
    tree.advance(20.0)
    assert 0.0 < rows(tree)["/providers/kimi"]["backoff_s"] < 40.0
    assert "/sessions/1" not in found
    assert tree.board.statistics().sessions == 0


def test_a_console_is_in_the_tree_and_its_socket_closes_when_it_is_stopped() -> None:
    desk = OperatorDesk()
    console = desk.console()
    assert rows(desk.tree)["/consoles/console-1"]["kind"] == "ConsoleActor"
    desk.tree.supervisors.stop("/consoles/console-1")
    desk.tree.settle()
    assert console.outbox.closed == (1001, "the broker has ended this console")
    assert "/consoles/console-1" not in rows(desk.tree)


def test_the_guardians_failures_count_at_the_root() -> None:
    tree = ManualTree()
    tree.broker.tell("an unknown message")
    tree.settle()
    found = rows(tree)
    assert (found["/"]["used"], found["/broker"]["restarts"]) == (1, 1)
