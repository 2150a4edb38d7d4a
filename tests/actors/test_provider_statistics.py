"""The statistics of a provider, after calls, refusals and changes."""

from __future__ import annotations

import pytest

from exai_actors.core.calls import FailureKind, LimitHolder
from exai_actors.core.capacity.changes import Pause, SetLimit, SetReserve
from exai_actors.core.capacity.settings import CapacitySettings, GateSettings, RetrySettings
from exai_actors.core.statistics import ModelStatistics
from exai_actors.testing.tree import ManualTree

ONE_ATTEMPT = RetrySettings(attempts=1)


def test_a_provider_without_work_has_all_its_permits() -> None:
    kimi = ManualTree(limit=3, queue=7, models=("moon", "sun")).statistics()
    assert (kimi.name, kimi.kind, kimi.models) == ("kimi", "manual", ("moon", "sun"))
    assert (kimi.limit, kimi.configured_limit, kimi.free, kimi.queue_limit) == (3, 3, 3, 7)
    assert (kimi.in_flight, kimi.queued, kimi.over, kimi.quarantined) == (0, 0, 0, 0)
    assert (kimi.mean_service_s, kimi.next_free_s, kimi.waits_for) == (None, 0.0, None)
    assert (kimi.mode, kimi.circuit, kimi.held_for_s, kimi.held_because) == (
        "open",
        "closed",
        0.0,
        "",
    )
    assert (kimi.holds, kimi.model_holds, kimi.model_limits, kimi.events) == ((), (), (), ())
    assert kimi.is_conserved


def test_a_model_with_a_limit_of_its_own_is_shown_apart_and_counted_in_the_whole() -> None:
    capacity = CapacitySettings(limit=2, model_limits=(("sun", 1),))
    tree = ManualTree(capacity=capacity, models=("moon", "sun"))
    client = tree.client()
    for name, model in (("a", "sun"), ("b", "sun"), ("c", "moon")):
        client.call(name, arguments={"model": model})
    kimi = tree.statistics()
    assert kimi.model_limits == (ModelStatistics("sun", limit=1, in_flight=1, queued=1),)
    assert (kimi.limit, kimi.configured_limit) == (3, 3)
    assert (kimi.in_flight, kimi.queued, kimi.free) == (2, 1, 1)
    assert kimi.is_conserved


def test_permits_above_a_lowered_limit_and_reserved_ones_are_counted() -> None:
    tree = ManualTree(limit=3)
    client = tree.client()
    for name in "abc":
        client.call(name)
    tree.change(SetLimit(1))
    kimi = tree.statistics()
    assert (kimi.limit, kimi.in_flight, kimi.over, kimi.free) == (1, 3, 2, 0)
    assert kimi.is_conserved
    idle = ManualTree(limit=3)
    idle.change(SetReserve(2))
    kimi = idle.statistics()
    assert (kimi.reserved, kimi.free) == (2, 1)
    assert kimi.is_conserved


def test_the_hold_of_an_account_has_its_reason_words_and_next_try() -> None:
    capacity = CapacitySettings(limit=1, retry=ONE_ATTEMPT, hold_probe_s=900.0)
    tree = ManualTree(capacity=capacity)
    tree.client().call("a")
    tree.upstream.calls[0].fail(FailureKind.QUOTA, "out of\n credit", retry_after=3600.0)
    tree.advance(100.0)
    kimi = tree.statistics()
    # A tenth, at most 5 s, is drawn at random and added.
    assert kimi.held_for_s == pytest.approx(3600.0 + 2.5 - 100.0)
    assert kimi.held_because == "quota"
    (hold,) = kimi.holds
    assert (hold.model, hold.because, hold.words) == ("", "quota", "out of credit")
    assert hold.held_for_s == pytest.approx(3502.5)
    assert hold.probe_in_s == pytest.approx(800.0)
    assert kimi.model_holds == ()


def test_the_hold_of_a_model_leaves_the_account_open() -> None:
    capacity = CapacitySettings(limit=1, retry=ONE_ATTEMPT, hold_probe_s=900.0)
    tree = ManualTree(capacity=capacity)
    tree.client().call("a")
    tree.upstream.calls[0].fail(
        FailureKind.RATE_LIMITED, "slow down", retry_after=60.0, holder=LimitHolder.MODEL
    )
    tree.advance(20.0)
    kimi = tree.statistics()
    assert (kimi.held_for_s, kimi.held_because) == (0.0, "")
    (brief,) = kimi.model_holds
    assert (brief.model, brief.because) == ("moon", "rate_limited")
    assert brief.held_for_s == pytest.approx(42.5)
    (hold,) = kimi.holds
    assert (hold.model, hold.because, hold.words) == ("moon", "rate_limited", "slow down")
    assert hold.held_for_s == pytest.approx(42.5)
    assert hold.probe_in_s is None, "no call is tried before the end, which is near"


def test_a_hold_that_is_over_is_not_shown() -> None:
    tree = ManualTree(capacity=CapacitySettings(limit=1, retry=ONE_ATTEMPT))
    tree.client().call("a")
    tree.upstream.calls[0].fail(FailureKind.RATE_LIMITED, retry_after=10.0)
    tree.advance(30.0)
    kimi = tree.statistics()
    assert (kimi.held_for_s, kimi.held_because, kimi.holds) == (0.0, "", ())


def test_every_end_of_a_call_is_counted_with_its_kind() -> None:
    capacity = CapacitySettings(limit=5, queue=0, retry=RetrySettings(attempts=2))
    tree = ManualTree(capacity=capacity)
    client = tree.client()
    for name in "abcde":
        client.call(name)
    calls = tree.upstream.calls
    calls[0].complete()
    calls[1].fail(FailureKind.SERVER_ERROR)
    calls[2].fail(FailureKind.REJECTED)
    tree.settle()
    client.send({"op": "cancel", "request_id": "d"})
    calls[3].close(cut_off=False)
    tree.settle()
    kimi = tree.statistics()
    assert (kimi.granted, kimi.completed, kimi.failed, kimi.aborted) == (5, 1, 2, 1)
    assert (kimi.retried, kimi.refused, kimi.in_flight) == (1, 0, 1)
    assert kimi.is_conserved
    tree.advance(60.0)
    assert tree.statistics().granted == 6


def test_a_paused_provider_says_what_keeps_its_calls_waiting() -> None:
    tree = ManualTree(limit=1)
    tree.change(Pause())
    tree.client().call("a")
    kimi = tree.statistics()
    assert (kimi.mode, kimi.queued, kimi.next_free_s) == ("paused", 1, None)
    assert kimi.waits_for == {
        "code": "paused",
        "provider": "kimi",
        "text": "kimi: paused by its operator",
    }
    (event,) = kimi.events
    assert (event.what, event.cause) == ("paused", "the test")


def test_a_full_gate_is_shown_with_its_use_and_its_opening() -> None:
    gates = GateSettings(requests_per_minute=2, margin_s=0.0)
    tree = ManualTree(capacity=CapacitySettings(limit=5, gates=gates))
    client = tree.client()
    for name in "abc":
        client.call(name)
    tree.advance(15.0)
    kimi = tree.statistics()
    (gate,) = kimi.gates
    assert (gate.name, gate.limit, gate.used, gate.over) == ("requests_per_minute", 2, 2.0, 0.0)
    assert gate.opens_in_s == pytest.approx(45.0)
    assert kimi.next_free_s == pytest.approx(45.0)
    assert kimi.waits_for is not None
    assert kimi.waits_for["ends_in_s"] == pytest.approx(45.0)
