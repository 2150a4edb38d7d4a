"""The sentences that tell operators what a change of a provider does."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from exai_actors.core.capacity.changes import (
    DrainProvider,
    LiftHold,
    Pause,
    ResetCircuit,
    Resume,
    SetGate,
    SetLimit,
)
from exai_actors.core.capacity.rate_gates import GateStatistics
from exai_actors.core.operations.action import ActionError, Undo
from exai_actors.core.operations.provider_effects import ProviderChange, effect_of
from exai_actors.core.statistics import HoldStatistics, ModelStatistics
from tests.idle_provider import IDLE

KIMI = replace(
    IDLE,
    kind="openai",
    limit=4,
    configured_limit=4,
    in_flight=3,
    free=1,
    queued=2,
    queue_limit=1000,
    granted=9,
    completed=6,
    mean_service_s=1.0,
)
MINUTE = GateStatistics("requests_per_minute", 60, 40.0, 60.25, 0.0)
STAR = ModelStatistics("star", 2, 1, 0)


@pytest.mark.parametrize(
    ("change", "figures", "text", "undo"),
    [
        (
            Pause(),
            {},
            "3 calls in flight continue; 2 queued requests and new ones wait until it is resumed",
            Undo("provider.resume"),
        ),
        (
            Pause(),
            {"in_flight": 1, "queued": 0, "mode": "draining"},
            "1 call in flight continues; 0 queued requests and new ones wait until it is resumed",
            Undo("provider.drain"),
        ),
        (
            DrainProvider(),
            {},
            "3 calls in flight and 2 queued requests are finished; new requests are refused",
            Undo("provider.resume"),
        ),
        (
            Resume(),
            {"mode": "paused"},
            "1 of 2 queued requests can start; new requests are admitted",
            Undo("provider.pause"),
        ),
        (
            SetLimit(2),
            {},
            "limit 4 -> 2: 1 of 3 calls in flight must end before the next is granted",
            Undo("provider.limit", {"limit": 4}),
        ),
        (
            SetLimit(3),
            {},
            "limit 4 -> 3: 3 calls in flight are within it",
            Undo("provider.limit", {"limit": 4}),
        ),
        (
            SetLimit(40),
            {},
            "limit 4 -> 40: 2 of 2 queued requests can start",
            Undo("provider.limit", {"limit": 4}),
        ),
        (
            SetLimit(0, "star"),
            {"model_limits": (STAR,), "configured_limit": 6},
            "limit of star 2 -> 0: 1 of 1 call in flight must end before the next is granted",
            Undo("provider.limit", {"limit": 2, "model": "star"}),
        ),
        (
            SetLimit(1),
            {"model_limits": (STAR,), "configured_limit": 6, "in_flight": 2},
            "limit 4 -> 1: 1 call in flight is within it",
            Undo("provider.limit", {"limit": 4}),
        ),
        (
            SetGate("requests_per_minute", 30),
            {"gates": (MINUTE,)},
            (
                "requests_per_minute 60 -> 30: 40 used within 60.2 s, so calls wait until earlier "
                "ones are past"
            ),
            Undo("provider.gate", {"gate": "requests_per_minute", "limit": 60}),
        ),
        (
            SetGate("requests_per_minute", 100),
            {"gates": (MINUTE,)},
            "requests_per_minute 60 -> 100: 40 used, 60 remain",
            Undo("provider.gate", {"gate": "requests_per_minute", "limit": 60}),
        ),
        (
            SetGate("requests_per_minute", None),
            {"gates": (MINUTE,)},
            "requests_per_minute 60 -> unlimited: the gate opens; 1 of 2 queued requests can start",
            Undo("provider.gate", {"gate": "requests_per_minute", "limit": 60}),
        ),
        (
            SetGate("tokens_per_day", 5_000),
            {},
            "tokens_per_day unlimited -> 5,000: counts from now on",
            Undo("provider.gate", {"gate": "tokens_per_day", "limit": 0}),
        ),
        (
            LiftHold(),
            {
                "held_for_s": 45.0,
                "held_because": "rate_limited",
                "model_holds": (HoldStatistics("star", 9.0, "quota"),),
            },
            (
                "2 holds end (account held for 45 s: rate_limited; star held for 9 s: quota); "
                "1 of 2 queued requests can start"
            ),
            None,
        ),
        (
            LiftHold("star"),
            {"held_for_s": 45.0, "model_holds": (HoldStatistics("star", 9.0, "quota"),)},
            "1 hold ends (star held for 9 s: quota); 1 of 2 queued requests can start",
            None,
        ),
        (
            ResetCircuit(),
            {"circuit": "half_open"},
            "the circuit, now half-open, closes: 1 of 2 queued requests can start",
            None,
        ),
    ],
)
def test_the_effect_is_a_sentence_with_figures(
    change: ProviderChange, figures: dict[str, Any], text: str, undo: Undo | None
) -> None:
    effect = effect_of(change, replace(KIMI, **figures), 0)
    assert (effect.text, effect.undo) == (text, undo)


def test_queued_requests_that_leave_a_paused_provider_are_counted_apart() -> None:
    assert effect_of(Pause(), KIMI, 1).text == (
        "3 calls in flight continue; 1 queued request and new ones wait until it is resumed; "
        "1 queued request leaves for another provider"
    )


@pytest.mark.parametrize(
    ("change", "figures", "problem"),
    [
        (Pause(), {"mode": "paused"}, "kimi is paused already"),
        (Resume(), {}, "kimi is open already"),
        (Resume(), {"mode": "closed", "trouble": "its actor failed"}, "kimi is closed: its actor"),
        (SetLimit(4), {}, "the limit of kimi is 4 already"),
        (SetLimit(1, "star"), {}, "has no limit of its own at kimi; those that have: none"),
        (SetGate("tokens_per_day", None), {}, "tokens_per_day of kimi is unlimited already"),
        (LiftHold(), {}, "kimi is not held"),
        (LiftHold("moon"), {"held_for_s": 4.0}, "model 'moon' of kimi is not held"),
        (ResetCircuit(), {}, "the circuit of kimi is closed already"),
    ],
)
def test_a_change_without_an_effect_is_refused(
    change: ProviderChange, figures: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ActionError, match=problem):
        effect_of(change, replace(KIMI, **figures), 0)
