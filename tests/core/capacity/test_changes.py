"""The changes of a provider that can be made, at the ends of what is allowed and beyond."""

from __future__ import annotations

import pytest

from exai_actors.core.capacity.changes import (
    MAX_LIMIT,
    MAX_TOKENS,
    Change,
    DrainProvider,
    LiftHold,
    Pause,
    Reopen,
    ResetCircuit,
    Resume,
    SetGate,
    SetGates,
    SetLimit,
    SetReserve,
    SetSessionWeight,
    SetWeight,
    problem_of,
)
from exai_actors.core.capacity.settings import GateSettings
from exai_actors.ids import DEFAULT_TENANT, SessionId, TenantName

ANN = TenantName("ann")
S = SessionId("s")


def problem(change: Change) -> str | None:
    return problem_of(change, frozenset({"star", "moon"}), frozenset({ANN, TenantName("ben")}))


@pytest.mark.parametrize(
    "change",
    [
        SetLimit(0),
        SetLimit(MAX_LIMIT),
        SetLimit(1, "star"),
        SetWeight(ANN, 0.001),
        SetWeight(ANN, 1000),
        SetWeight(DEFAULT_TENANT, 1.0),
        SetSessionWeight(S, "s", 0.001),
        SetSessionWeight(S, "s", 1000.0),
        SetGate("requests_per_minute", 1),
        SetGate("requests_per_day", MAX_LIMIT),
        SetGate("tokens_per_minute", 1),
        SetGate("tokens_per_day", MAX_TOKENS),
        SetGate("tokens_per_day", None),
        SetGates(GateSettings(margin_s=0)),
        SetGates(GateSettings(1, MAX_TOKENS, MAX_LIMIT, 1, margin_s=60)),
        SetReserve(0),
        SetReserve(MAX_LIMIT),
        Pause(),
        DrainProvider(),
        Resume(),
        LiftHold(),
        LiftHold("unknown"),
        ResetCircuit(),
        Reopen(),
    ],
)
def test_a_change_within_its_bounds_can_be_made(change: Change) -> None:
    assert problem(change) is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (SetLimit(-1), "a limit is 0 to 1000000, got -1"),
        (SetLimit(MAX_LIMIT + 1), "a limit is 0 to 1000000, got 1000001"),
        (SetLimit(True), "a limit is 0 to 1000000, got True"),
        (
            SetLimit(1, "sun"),
            "model 'sun' has no limit of its own; those that have: moon, star",
        ),
        (SetWeight(ANN, 0.0009), "a weight is 0.001 to 1000, got 0.0009"),
        (SetWeight(ANN, 1000.5), "a weight is 0.001 to 1000, got 1000.5"),
        (
            SetWeight(TenantName("cem"), 1.0),
            "there is no tenant 'cem'; those with tokens of their own: ann, ben",
        ),
        (SetSessionWeight(S, "s", 0.0), "a weight is 0.001 to 1000, got 0.0"),
        (
            SetGate("requests_per_second", 1),
            (
                "there is no rate gate 'requests_per_second'; choose from requests_per_minute, "
                "tokens_per_minute, requests_per_day, tokens_per_day"
            ),
        ),
        (
            SetGate("requests_per_minute", 0),
            "requests_per_minute is at least 1 and at most 1000000, got 0",
        ),
        (
            SetGate("requests_per_day", MAX_LIMIT + 1),
            "requests_per_day is at least 1 and at most 1000000, got 1000001",
        ),
        (
            SetGate("tokens_per_day", MAX_TOKENS + 1),
            "tokens_per_day is at least 1 and at most 1000000000000, got 1000000000001",
        ),
        (
            SetGates(GateSettings(requests_per_minute=1, tokens_per_day=0)),
            "tokens_per_day is at least 1 and at most 1000000000000, got 0",
        ),
        (SetGates(GateSettings(margin_s=60.5)), "margin_s is 0 to 60, got 60.5"),
        (SetGates(GateSettings(margin_s=-0.5)), "margin_s is 0 to 60, got -0.5"),
        (SetReserve(-1), "0 to 1000000 permits can be reserved, got -1"),
        (SetReserve(MAX_LIMIT + 1), "0 to 1000000 permits can be reserved, got 1000001"),
    ],
)
def test_the_refusal_of_a_change_names_the_bounds_and_the_value(change: Change, text: str) -> None:
    assert problem(change) == text


def test_without_models_and_tenants_the_refusal_says_so() -> None:
    nothing: frozenset[str] = frozenset()
    assert problem_of(SetLimit(1, "star"), nothing, frozenset()) == (
        "model 'star' has no limit of its own; those that have: none"
    )
    assert problem_of(SetWeight(ANN, 1.0), nothing, frozenset()) == (
        "there is no tenant 'ann'; those with tokens of their own: none"
    )
