"""One entry of the audit log: its outcome, its row for consoles, and its line in the file."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from exai_actors.core.operations.audit import AUDIT, AuditEntry, TargetEffect
from exai_actors.core.operators import Role

ENTRY = AuditEntry(
    at=1_700_000_000.25,
    operator="ada",
    role=Role.ADMIN,
    address="192.0.2.7",
    action="provider.limit",
    arguments={"limit": 3},
    reason="more work",
    effects=(TargetEffect("kimi", "limit 1 -> 3", before="limit 1"),),
    count=1,
    failed=0,
)


@pytest.mark.parametrize(
    ("count", "failed", "outcome"), [(2, 0, "done"), (2, 1, "partly"), (2, 2, "refused")]
)
def test_an_action_is_refused_only_if_it_failed_for_all_targets(
    count: int, failed: int, outcome: str
) -> None:
    assert replace(ENTRY, count=count, failed=failed).outcome == outcome


def test_the_row_has_a_cell_for_each_column() -> None:
    names = [column.name for column in AUDIT.columns]
    assert dict(zip(names, ENTRY.row(), strict=True)) == {
        "at": "2023-11-14T22:13:20.250+00:00",
        "operator": "ada",
        "action": "provider.limit",
        "target": "kimi",
        "effect": "limit 1 -> 3",
        "reason": "more work",
        "outcome": "done",
        "before": "limit 1",
        "role": "admin",
    }


def test_the_line_of_the_file_has_everything() -> None:
    assert json.loads(replace(ENTRY, suppressed=4).line()) == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "operator": "ada",
        "role": "admin",
        "address": "192.0.2.7",
        "outcome": "done",
        "action": "provider.limit",
        "arguments": {"limit": 3},
        "reason": "more work",
        "count": 1,
        "failed": 0,
        "effects": [{"target": "kimi", "text": "limit 1 -> 3", "ok": True, "before": "limit 1"}],
        "suppressed": 4,
    }


def test_equal_effects_are_shown_once_and_empty_ones_not_at_all() -> None:
    effects = (
        TargetEffect("kimi", "it pauses", before="open"),
        TargetEffect("glm", "it pauses", before=""),
        TargetEffect("nobody", "there is no such provider", ok=False),
    )
    entry = replace(ENTRY, effects=effects, count=3, failed=1)
    assert entry.targets == "kimi; glm; nobody"
    assert entry.effect == "it pauses; there is no such provider"
    assert entry.before == "open"


@pytest.mark.parametrize(
    ("named", "count", "shown"),
    [
        (3, 3, "a0; a1; a2"),
        (4, 4, "a0; a1; a2; ... (4 targets)"),
        (2, 50, "a0; a1; ... (50 targets)"),
    ],
)
def test_more_targets_than_fit_are_counted(named: int, count: int, shown: str) -> None:
    effects = tuple(TargetEffect(f"a{number}", "done") for number in range(named))
    assert replace(ENTRY, effects=effects, count=count).targets == shown
