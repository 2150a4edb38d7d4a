"""The record of what operators did, and of what they were refused."""

from __future__ import annotations

from typing import Any

import orjson
import structlog

from exai_actors.core.operators import Role
from tests.console.operator_desk import OperatorDesk


def lines(desk: OperatorDesk) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in desk.audited]


def test_an_action_is_recorded_with_its_author_reason_state_and_effect() -> None:
    desk = OperatorDesk()
    with structlog.testing.capture_logs() as entries:
        desk.console().act("provider.limit", "kimi", arguments={"limit": 3}, reason="more\n work")
    (line,) = lines(desk)
    assert line == {
        "time": line["time"],
        "operator": "admin",
        "role": "admin",
        "address": "127.0.0.1",
        "outcome": "done",
        "action": "provider.limit",
        "arguments": {"limit": 3},
        "reason": "more work",
        "count": 1,
        "failed": 0,
        "effects": [
            {
                "target": "kimi",
                "text": "limit 1 -> 3: 0 of 0 queued requests can start",
                "ok": True,
                "before": "limit 1",
            }
        ],
        "suppressed": 0,
    }
    (entry,) = [entry for entry in entries if entry["event"].startswith("audit.")]
    assert (entry["event"], entry["operator"], entry["before"]) == (
        "audit.done",
        "admin",
        "limit 1",
    )
    (row,) = desk.console(Role.VIEWER).rows("audit")
    # Those that fit beside each other on a narrow terminal come first.
    assert list(row)[:5] == ["at", "operator", "action", "target", "effect"]
    assert (row["at"], row["operator"], row["outcome"], row["target"], row["reason"]) == (
        line["time"],
        "admin",
        "done",
        "kimi",
        "more work",
    )
    (event,) = desk.tree.statistics().events
    assert event.cause == "admin: more work", "the provider's own record names the operator too"


def test_a_refused_attempt_is_recorded() -> None:
    desk = OperatorDesk()
    with structlog.testing.capture_logs() as entries:
        desk.console(Role.VIEWER).act("provider.pause", "kimi", reason="fun")
    (line,) = lines(desk)
    assert (line["outcome"], line["operator"], line["action"]) == (
        "refused",
        "viewer",
        "provider.pause",
    )
    assert line["effects"] == [
        {
            "target": "kimi",
            "text": "provider.pause needs the role operator; yours is viewer",
            "ok": False,
            "before": "",
        }
    ]
    assert [entry["event"] for entry in entries if "audit" in entry["event"]] == ["audit.refused"]


def test_one_that_failed_for_some_targets_says_so() -> None:
    desk = OperatorDesk()
    desk.console().act("provider.pause", "kimi", "nobody")
    (row,) = desk.console().rows("audit")
    assert (row["outcome"], row["target"]) == ("partly", "kimi; nobody")


def test_a_preview_changes_nothing_and_is_not_recorded() -> None:
    desk = OperatorDesk()
    desk.console().act("provider.pause", "kimi", preview=True)
    desk.console(Role.VIEWER).act("provider.pause", "kimi", preview=True)
    assert desk.audited == []


def test_refused_attempts_cannot_push_out_the_record_of_what_was_done() -> None:
    desk = OperatorDesk()
    desk.console().act("provider.pause", "kimi")
    viewer = desk.console(Role.VIEWER)
    for _ in range(1_200):
        viewer.act("provider.erase" * 100, "k" * 5_000, reason="r" * 5_000)
    assert len(desk.audited) < 20
    assert max(map(len, desk.audited)) < 2_000
    assert desk.console().rows("audit")[-1]["outcome"] == "done"
    desk.tree.advance(10.0)
    viewer.act("provider.pause", "kimi")
    assert lines(desk)[-1]["suppressed"] > 1_000


def test_the_record_of_a_bulk_action_is_bounded() -> None:
    desk = OperatorDesk()
    desk.console().act("provider.pause", *(f"provider-{number}" for number in range(500)))
    (line,) = lines(desk)
    assert (line["count"], line["failed"], len(line["effects"])) == (500, 500, 20)
    (row,) = desk.console().rows("audit")
    assert row["target"] == "provider-0; provider-1; provider-2; ... (500 targets)"


def test_an_action_is_recorded_although_its_console_is_gone() -> None:
    desk = OperatorDesk()
    console = desk.console()
    console.leave_after({"op": "act", "action": "provider.pause", "targets": ["kimi"]})
    assert desk.tree.statistics().mode == "paused"
    assert len(desk.audited) == 1
