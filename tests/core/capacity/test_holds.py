"""Holds of an account and of single models, and the probes that end a hold before its time."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.calls import FailureKind, IfBusy, LimitHolder, LimitScope
from exai_actors.core.capacity.apply_change import apply_change
from exai_actors.core.capacity.changes import Reopen
from exai_actors.core.capacity.dispatcher import Dispatcher
from exai_actors.core.capacity.invariants import invariant_violations
from exai_actors.core.capacity.refusals import Refusal, RefusalCause
from exai_actors.core.capacity.settings import RetrySettings
from tests.core.capacity.dispatching import Bench

MODEL = LimitHolder.MODEL
HOUR = 3600.0
WEEK = 604_800.0


def bench_of(**more: Any) -> Bench:
    settings: dict[str, Any] = {"limit": 2, "retry": RetrySettings(attempts=1)}
    return Bench(**settings | more)


def hold(bench: Bench, name: str, seconds: float, model: str = "m", **more: Any) -> None:
    """A call of the model is refused for so long."""
    assert bench.admit(name, model=model) == "granted"
    failure: dict[str, Any] = {"kind": FailureKind.RATE_LIMITED, "draw": 0.0}
    bench.fail(name, retry_after=seconds, **failure | more)


def test_the_limit_of_one_model_holds_only_that_model() -> None:
    bench = bench_of()
    hold(bench, "big", HOUR, "big", holder=MODEL)
    assert bench.admit("m1") == "granted"
    refused = bench.admit("big2", model="big", deadline=60.0)
    assert isinstance(refused, Refusal)
    assert refused.cause is RefusalCause.TOO_LATE
    assert refused.reason == "rate_limited"
    assert refused.wait_s == pytest.approx(HOUR)
    assert refused.retry_after == pytest.approx(900.0), "when it may probe the hold"
    assert bench.admit("m2") == "granted"


def test_a_shorter_limit_of_a_held_model_does_not_shorten_its_hold() -> None:
    bench = bench_of()
    assert bench.admit("first", model="big") == bench.admit("second", model="big") == "granted"
    for name, seconds in (("first", HOUR), ("second", 10.0)):
        bench.fail(name, kind=FailureKind.RATE_LIMITED, draw=0.0, retry_after=seconds, holder=MODEL)
    bench.pass_time(11.0)
    assert isinstance(bench.admit("third", model="big", deadline=60.0), Refusal)


def test_the_limit_of_the_account_holds_every_model() -> None:
    bench = bench_of()
    hold(bench, "big", 50.0, "big")
    assert bench.admit("m1") == "queued"
    bench.pass_time(49.9)
    assert bench.granted == ["big"]
    bench.pass_time(0.2)
    assert bench.granted == ["big", "m1"]


def test_waiting_calls_of_a_held_model_delay_no_other_model() -> None:
    bench = bench_of(limit=1)
    bench.admit("first", model="big")
    for number in range(3):
        assert bench.admit(f"big{number}", "s", model="big") == "queued"
    assert bench.admit("other", "s", model="small") == "queued"
    bench.fail("first", FailureKind.RATE_LIMITED, retry_after=30.0, holder=MODEL, draw=0.0)
    assert bench.granted == ["first", "other"]
    bench.complete("other")
    assert bench.admit("late", "t", model="small") == "granted"
    bench.complete("late")
    bench.pass_time(30.0)
    assert bench.granted[3:] == ["big0"]
    bench.complete("big0")
    bench.complete("big1")
    assert bench.granted[3:] == ["big0", "big1", "big2"]


def test_calls_of_a_held_model_count_in_the_queue() -> None:
    bench = bench_of(queue=2)
    hold(bench, "big", HOUR, "big", holder=MODEL)
    for number in range(2):
        assert bench.admit(f"b{number}", model="big") == "queued"
    refused = bench.admit("b2", model="big")
    assert isinstance(refused, Refusal)
    assert refused.cause is RefusalCause.FULL
    assert bench.dispatcher.queued == 2


def test_calls_of_a_held_model_count_in_their_session() -> None:
    bench = bench_of(session_queue=1)
    hold(bench, "big", HOUR, "big", holder=MODEL)
    assert bench.admit("b0", "s", model="big") == "queued"
    assert isinstance(bench.admit("b1", "s", model="big"), Refusal)
    assert bench.admit("b2", "t", model="big") == "queued"


def test_a_call_of_a_held_model_can_be_withdrawn_and_its_session_forgotten() -> None:
    bench = bench_of()
    hold(bench, "big", 30.0, "big", holder=MODEL)
    calls = [bench.call(f"b{number}", "s", model="big") for number in range(3)]
    for call in calls:
        bench.dispatcher.admit(call, bench.now)
    assert bench.dispatcher.withdraw(calls[0].flow.session, calls[0].request) is calls[0]
    assert bench.dispatcher.forget(calls[0].flow.session) == calls[1:]
    bench.pass_time(60.0)
    assert bench.granted == ["big"]
    assert bench.dispatcher.queued == 0


def test_queued_calls_that_a_models_hold_outlasts_are_refused() -> None:
    bench = bench_of(limit=1)
    bench.admit("first", model="big")
    bench.admit("hurried", "s", model="big", deadline=20.0)
    bench.admit("patient", "s", model="big", deadline=20.0, if_busy=IfBusy.WAIT)
    bench.admit("elsewhere", "t", model="big", fallback_reasons=frozenset({"rate_limited"}))
    bench.admit("other", "t", model="small", deadline=20.0)
    bench.fail("first", FailureKind.RATE_LIMITED, retry_after=30.0, holder=MODEL)
    refused = bench.dispatcher.refuse_unservable(bench.now)
    assert {call.request.text for call, _ in refused} == {"hurried", "elsewhere"}
    assert {refusal.reason for _, refusal in refused} == {"rate_limited"}
    assert bench.granted == ["first", "other"]


def test_a_position_of_a_held_model_comes_with_the_wait_for_its_hold() -> None:
    bench = bench_of()
    hold(bench, "big", 100.0, "big", holder=MODEL)
    bench.admit("b", model="big")
    ((position, wait_s, call),) = bench.in_line()
    assert (position, call.request.text) == (1, "b")
    assert wait_s == pytest.approx(100.0)


@pytest.mark.parametrize("holder", [LimitHolder.ACCOUNT, MODEL])
def test_a_long_hold_is_probed_and_an_answered_probe_ends_it(holder: LimitHolder) -> None:
    bench = bench_of(hold_probe_s=900.0)
    hold(bench, "a", WEEK, holder=holder)
    for number in range(3):
        assert bench.admit(f"w{number}") == "queued"
    bench.pass_time(899.0)
    assert bench.granted == ["a"]
    bench.pass_time(2.0)
    assert bench.granted == ["a", "w0"]
    bench.pass_time(HOUR)
    assert bench.granted == ["a", "w0"]
    bench.complete("w0")
    assert bench.granted == ["a", "w0", "w1", "w2"]
    assert [event.what for event in bench.account.events][-1].endswith("hold ended")


def test_a_call_may_be_the_probe_when_it_comes() -> None:
    bench = bench_of(hold_probe_s=60.0)
    hold(bench, "a", WEEK)
    bench.now = 61.0
    assert bench.admit("probe", deadline=bench.now + 5.0) == "granted"
    assert isinstance(bench.admit("next", deadline=bench.now + 5.0), Refusal)


def test_the_word_of_a_refused_probe_replaces_the_earlier_one() -> None:
    bench = bench_of(hold_probe_s=60.0)
    hold(bench, "a", WEEK)
    bench.now = 61.0
    bench.admit("probe")
    bench.admit("next")
    bench.fail("probe", FailureKind.RATE_LIMITED, retry_after=5.0, draw=0.0)
    assert bench.account.hold.because == "rate_limited"
    bench.pass_time(5.1)
    assert bench.granted == ["a", "probe", "next"]


@pytest.mark.parametrize(
    ("kind", "after_s"), [(FailureKind.TIMEOUT, 60.0), (FailureKind.REJECTED, 0.0)]
)
def test_a_probe_that_fails_otherwise_is_followed_by_another(
    kind: FailureKind, after_s: float
) -> None:
    bench = bench_of(hold_probe_s=60.0)
    hold(bench, "a", WEEK)
    bench.now = 61.0
    bench.admit("probe")
    bench.admit("next")
    bench.fail("probe", kind)
    assert (bench.granted[2:] == ["next"]) is (after_s == 0.0)
    bench.pass_time(after_s + 0.1)
    assert bench.granted == ["a", "probe", "next"]


def test_an_aborted_probe_is_followed_by_another() -> None:
    bench = bench_of(hold_probe_s=60.0)
    hold(bench, "a", WEEK, "big", holder=MODEL)
    bench.now = 61.0
    bench.admit("probe", model="big")
    bench.admit("next", model="big")
    bench.abort("probe")
    assert bench.granted == ["a", "probe", "next"]


def test_a_new_owner_probes_although_a_probe_was_in_flight() -> None:
    bench = bench_of(hold_probe_s=60.0)
    hold(bench, "a", WEEK)
    bench.now = 61.0
    bench.admit("probe")
    bench.dispatcher = Dispatcher(bench.account, 1 << 40)
    assert bench.admit("again") == "granted"


def test_an_answer_to_a_call_of_before_the_hold_does_not_end_it() -> None:
    bench = bench_of()
    bench.admit("earlier")
    hold(bench, "a", HOUR)
    bench.complete("earlier")
    assert bench.admit("b") == "queued"


def test_the_end_of_a_plans_window_is_awaited_with_fewer_probes() -> None:
    bench = bench_of(hold_probe_s=900.0)
    hold(bench, "a", 5 * HOUR, kind=FailureKind.QUOTA, scope=LimitScope.WINDOW)
    bench.admit("b")
    bench.pass_time(HOUR - 1.0)
    assert bench.granted == ["a"]
    bench.pass_time(2.0)
    assert bench.granted == ["a", "b"]


@pytest.mark.parametrize(("named_s", "most_s"), [(HOUR, 5.0), (WEEK, 5.0), (10.0, 1.0)])
def test_jitter_adds_a_few_seconds_at_most(named_s: float, most_s: float) -> None:
    bench = bench_of(hold_probe_s=inf)
    hold(bench, "a", named_s, draw=1.0)
    assert bench.account.hold.until == pytest.approx(named_s + most_s)


def test_the_operator_can_end_holds() -> None:
    bench = bench_of()
    hold(bench, "a", WEEK)
    bench.now = 1.0
    bench.admit("b", model="big")
    assert apply_change(bench.dispatcher, Reopen(), "operator", bench.now) is None
    bench.pump()
    assert bench.granted == ["a", "b"]
    assert [(event.at, event.what, event.cause) for event in bench.account.events][1:] == [
        (1.0, "hold ended", "operator"),
        (1.0, "open again", "operator"),
    ]


def test_a_request_beyond_every_limit_holds_nothing() -> None:
    bench = bench_of(retry=RetrySettings(attempts=3))
    bench.admit("large")
    assert not bench.fail("large", FailureKind.QUOTA, holder=LimitHolder.REQUEST)
    assert bench.admit("small") == "granted"


def test_headers_beside_an_answer_hold_the_model_that_was_asked() -> None:
    bench = bench_of()
    bench.dispatcher.guards.on_rate_headers(HOUR, "big", bench.now)
    assert bench.admit("big", model="big") == "queued"
    assert bench.admit("m") == "granted"


def test_start_and_end_of_a_hold_are_recorded() -> None:
    bench = bench_of(hold_probe_s=900.0)
    hold(bench, "a", HOUR, "big", holder=MODEL)
    bench.pass_time(10.0)
    hold(bench, "b", 20.0)
    bench.now = 2 * HOUR
    bench.admit("c", model="big")
    assert [event.what for event in bench.account.events] == [
        "model big held for 3,600 s, one call is tried every 900 s",
        "held for 20 s",
        "model big hold ended",
        "hold ended",
    ]


def end(bench: Bench, name: str, how: str, holder: LimitHolder, seconds: float) -> None:
    match how:
        case "refuse":
            bench.fail(name, FailureKind.RATE_LIMITED, retry_after=seconds, holder=holder)
        case "answer":
            bench.complete(name)
        case "abort":
            bench.abort(name)
        case _:
            bench.fail(name, FailureKind.REJECTED)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["admit", "refuse", "answer", "abort", "fail", "wait", "headers"]),
            st.integers(0, 2),
            st.booleans(),
            st.floats(0.5, 400.0),
        ),
        max_size=60,
    )
)
def test_no_call_waits_without_a_reason_and_none_is_lost(
    steps: list[tuple[str, int, bool, float]],
) -> None:
    bench = bench_of(model_limits=(("model0", 1),), hold_probe_s=120.0)
    admitted = ended = 0
    for step, number, of_model, seconds in steps:
        model = f"model{number}"
        running = next((n for n, call in bench.running.items() if call.model == model), None)
        if step == "admit":
            bench.admit(f"r{admitted}", f"s{admitted % 3}", model=model)
            admitted += 1
        elif step == "headers":
            bench.dispatcher.guards.on_rate_headers(seconds, model, bench.now)
            bench.pump()
        elif step == "wait":
            bench.pass_time(seconds)
        elif running is not None:
            ended += 1
            end(bench, running, step, MODEL if of_model else LimitHolder.ACCOUNT, seconds)
        assert admitted == ended + len(bench.running) + bench.dispatcher.queued
        waiting = (
            call for pool in bench.dispatcher.pools if pool.ledger.free for call in pool.queue
        )
        for call in waiting:
            opens_at = bench.dispatcher.guards.opens_at(call, bench.now)
            assert opens_at > bench.now, "a call waits that nothing keeps"
            assert bench.dispatcher.wake_at(bench.now) <= opens_at
        assert not list(invariant_violations(bench.dispatcher, bench.now, inf))
    while bench.dispatcher.queued or bench.running:
        for name in tuple(bench.running):
            bench.complete(name)
        bench.pass_time(500.0)
    assert len(bench.granted) == admitted


def test_a_call_of_a_held_model_delays_no_other_although_nothing_is_pumped() -> None:
    bench = bench_of()
    hold(bench, "big", HOUR, "big", holder=MODEL)
    held = bench.call("b", "s", model="big")
    assert bench.dispatcher.admit(held, bench.now) == "queued"
    other = bench.call("o", "s", model="small")
    assert bench.dispatcher.admit(other, bench.now) == "granted"


def test_the_late_answer_to_a_probe_of_an_earlier_hold_ends_no_later_one() -> None:
    bench = bench_of(limit=4, hold_probe_s=60.0)
    hold(bench, "a", 100.0)
    bench.now = 61.0
    bench.admit("early probe")
    bench.now = 101.0
    hold(bench, "b", WEEK)
    bench.now = 170.0
    bench.admit("later probe")
    bench.complete("early probe")
    assert bench.admit("c") == "queued"
    bench.complete("later probe")
    assert bench.granted[-1] == "c"


def test_a_probe_of_the_account_that_a_models_limit_refuses_is_followed_by_another() -> None:
    bench = bench_of(hold_probe_s=60.0)
    hold(bench, "a", WEEK)
    bench.now = 61.0
    bench.admit("probe", model="big")
    bench.admit("next", model="small")
    bench.fail("probe", FailureKind.RATE_LIMITED, retry_after=HOUR, holder=MODEL)
    assert bench.granted == ["a", "probe", "next"]


def test_refusing_many_waiting_calls_takes_no_walk_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = bench_of(limit=1, session_queue=1000)
    bench.admit("first")
    for number in range(100):
        bench.admit(f"w{number}", f"s{number}", deadline=20.0)
    bench.fail("first", FailureKind.RATE_LIMITED, retry_after=60.0)
    monkeypatch.setattr(type(bench.dispatcher.pools[0].queue), "rank", None)
    refused = bench.dispatcher.refuse_unservable(bench.now)
    assert [refusal.position for _, refusal in refused] == list(range(1, 101))


def test_refusing_one_for_a_full_queue_takes_no_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = bench_of(limit=0, queue=4)
    for number in range(4):
        bench.admit(f"w{number}", f"s{number % 2}")
    monkeypatch.setattr(type(bench.dispatcher.pools[0].queue), "rank", None)
    refusal = bench.admit("beyond", "s0")
    assert isinstance(refusal, Refusal)
    assert (refusal.queued, refusal.position) == (4, 5)
    assert bench.admit("other", "s2") == "queued"
    ((_, displaced),) = bench.dispatcher.displaced
    assert displaced.position == 4
