"""When a call gets its permit: ledger, queue, guards and retries together."""

from __future__ import annotations

import pytest

from exai_actors.core.calls import FailureKind, IfBusy, LimitHolder, UpstreamFailure
from exai_actors.core.capacity.account import Account
from exai_actors.core.capacity.apply_change import apply_change
from exai_actors.core.capacity.changes import (
    MAX_SESSION_WEIGHTS,
    DrainProvider,
    Pause,
    Reopen,
    SetLimit,
    SetReserve,
    SetSessionWeight,
    SetWeight,
)
from exai_actors.core.capacity.dispatcher import Dispatcher
from exai_actors.core.capacity.refusals import Refusal, RefusalCause
from exai_actors.core.capacity.settings import (
    CapacitySettings,
    CircuitSettings,
    GateSettings,
    RetrySettings,
)
from exai_actors.ids import DEFAULT_TENANT, PermitId, RequestKey, SessionId, TenantName
from tests.core.capacity.dispatching import Bench


def test_calls_are_granted_immediately_up_to_the_limit() -> None:
    bench = Bench(limit=2)
    assert [bench.admit(name) for name in "xyz"] == [
        "granted",
        "granted",
        "queued",
    ]


def test_a_new_call_does_not_overtake_a_queued_one() -> None:
    bench = Bench()
    bench.admit("first")
    bench.admit("second")
    bench.complete("first")
    assert bench.admit("third", "b") == "queued"
    assert bench.granted == ["first", "second"]


def test_a_second_release_grants_nothing() -> None:
    bench = Bench()
    bench.admit("first")
    permit = bench.running["first"].permit
    bench.complete("first")
    bench.admit("second")
    bench.admit("third")
    assert bench.dispatcher.release(permit) is None
    bench.pump()
    assert bench.granted == ["first", "second"]
    assert bench.dispatcher.pools[0].ledger.anomalies == 1


def test_a_full_queue_refuses_with_position_and_retry_after() -> None:
    bench = Bench(queue=1)
    bench.admit("slow")
    bench.now = 4.0
    bench.complete("slow")
    bench.admit("running")
    bench.admit("waiting")
    refusal = bench.admit("late", "b")
    assert isinstance(refusal, Refusal)
    assert (refusal.cause, refusal.reason) == (RefusalCause.FULL, "busy")
    assert refusal.queued == 1
    assert refusal.position in (1, 2)
    assert refusal.retry_after == refusal.wait_s == 4.0 * refusal.position


def test_a_call_that_would_wait_beyond_its_deadline_is_refused_immediately() -> None:
    bench = Bench()
    bench.admit("slow")
    bench.now = 10.0
    bench.complete("slow")
    bench.admit("running")
    refusal = bench.admit("hurried", deadline=15.0)
    assert isinstance(refusal, Refusal)
    assert (refusal.cause, refusal.position, refusal.wait_s) == (RefusalCause.TOO_LATE, 1, 10.0)
    assert bench.admit("just in time", deadline=20.0) == "queued"
    assert bench.admit("patient", deadline=35.0) == "queued"


def test_a_large_call_is_refused_if_the_gate_opens_too_late_for_it() -> None:
    bench = Bench(limit=10, gates=GateSettings(tokens_per_minute=100, margin_s=0.0))
    for number in range(8):
        bench.now = float(number)
        bench.admit(f"small {number}", tokens=10)
    refusal = bench.admit("big", "b", tokens=80, deadline=bench.now + 30)
    assert isinstance(refusal, Refusal)
    assert refusal.cause is RefusalCause.TOO_LATE
    assert refusal.wait_s == refusal.retry_after == 58.0
    assert bench.admit("small", "b", tokens=10, deadline=bench.now + 30) == "granted"


def test_the_queue_of_a_greedy_session_makes_no_call_of_a_small_one_too_late() -> None:
    bench = Bench()
    bench.admit("slow", "greedy")
    bench.now = 1.0
    bench.complete("slow")
    for number in range(50):
        bench.admit(f"g{number}", "greedy")
    assert bench.admit("small", "small", deadline=bench.now + 5) == "queued"


def test_if_busy_wait_queues_regardless_of_the_predicted_wait() -> None:
    bench = Bench()
    bench.admit("slow")
    bench.now = 10.0
    bench.complete("slow")
    bench.admit("running")
    assert bench.admit("stubborn", deadline=11.0, if_busy=IfBusy.WAIT) == "queued"


def test_if_busy_refuse_grants_or_refuses() -> None:
    bench = Bench()
    assert bench.admit("lucky", if_busy=IfBusy.REFUSE) == "granted"
    refusal = bench.admit("unlucky", if_busy=IfBusy.REFUSE)
    assert isinstance(refusal, Refusal)
    assert refusal.cause is RefusalCause.NO_WAITING


def test_a_shut_gate_grants_nothing_until_its_window_has_moved_on() -> None:
    bench = Bench(limit=10, gates=GateSettings(requests_per_minute=3, margin_s=0.0))
    for name in "abcde":
        bench.admit(name)
    assert bench.granted == ["a", "b", "c"]
    bench.pass_time(59.0)
    assert bench.granted == ["a", "b", "c"]
    bench.pass_time(1.5)
    assert bench.granted == ["a", "b", "c", "d", "e"]


def test_small_calls_do_not_overtake_a_large_one_at_the_token_gate() -> None:
    bench = Bench(limit=10, gates=GateSettings(tokens_per_minute=100, margin_s=0.0))
    bench.admit("a", tokens=90)
    bench.admit("big", tokens=50)
    bench.admit("small", tokens=5)
    assert bench.granted == ["a"]
    bench.pass_time(61.0)
    assert bench.granted == ["a", "big", "small"]


def test_small_calls_of_one_model_do_not_starve_a_large_one_of_another_at_the_gate() -> None:
    bench = Bench(
        limit=1,
        model_limits=(("scarce", 2),),
        gates=GateSettings(tokens_per_minute=100, margin_s=0.0),
    )
    bench.admit("small 0", model="scarce", tokens=30)
    bench.admit("small 1", model="scarce", tokens=30)
    bench.admit("big", model="plain", tokens=90)
    for number in range(2, 30):
        bench.pass_time(7.0)
        for name in tuple(bench.running):
            bench.complete(name, tokens=30)
        bench.admit(f"small {number}", model="scarce", tokens=30)
    assert bench.granted.index("big") <= 4
    assert len(bench.granted) > 8


def test_calls_that_time_out_are_charged_to_their_session() -> None:
    bench = Bench(limit=2, circuit=CircuitSettings(failures_in_a_row=1000, calls=1000))
    for number in range(100):
        bench.admit(f"slow {number}", "slow")
        bench.admit(f"good {number}", "good")
    for _ in range(100):
        bench.now += 1.0
        name = next(iter(bench.running))
        if name.startswith("slow"):
            bench.fail(name, FailureKind.TIMEOUT)
        else:
            bench.complete(name)
    assert sum(name.startswith("good") for name in bench.granted[:100]) == 50


def test_a_broken_answer_stays_charged_at_the_gate() -> None:
    bench = Bench(limit=10, gates=GateSettings(tokens_per_minute=100, margin_s=0.0))
    bench.admit("breaks", tokens=90)
    bench.admit("next", tokens=50)
    bench.fail("breaks", FailureKind.BROKEN)
    assert bench.granted == ["breaks"]
    bench.pass_time(61.0)
    assert bench.granted == ["breaks", "next"]


def test_a_changed_weight_gives_no_credit_for_earlier_grants() -> None:
    bench = Bench(limit=10, weights=(("changed", 1.0),))
    for number in range(10):
        bench.admit(f"before {number}", tenant="changed", tokens=1000)
    change = SetWeight(TenantName("changed"), 0.001)
    assert apply_change(bench.dispatcher, change, "test", bench.now) is None
    for number in range(100):
        bench.admit(f"changed {number}", "c", tenant="changed")
        bench.admit(f"other {number}", "o", tenant="other")
    for number in range(10):
        bench.complete(f"before {number}", tokens=10)
    for _ in range(90):
        bench.complete(next(iter(bench.running)))
    served = bench.granted[10:100]
    assert sum(name.startswith("other") for name in served) >= 88


def test_an_estimate_that_was_too_high_is_returned_to_the_gate() -> None:
    bench = Bench(limit=10, gates=GateSettings(tokens_per_minute=100, margin_s=0.0))
    bench.admit("a", tokens=90)
    bench.admit("b", tokens=50)
    assert bench.granted == ["a"]
    bench.complete("a", tokens=20)
    assert bench.granted == ["a", "b"]


def test_a_rate_limit_holds_all_calls_for_its_retry_after_and_is_retried() -> None:
    bench = Bench(limit=2)
    bench.admit("a")
    assert bench.fail("a", FailureKind.RATE_LIMITED, retry_after=7.0, draw=0.0)
    bench.admit("b", "other")
    bench.pass_time(6.9)
    assert bench.granted == ["a"]
    bench.pass_time(1.5)
    assert sorted(bench.granted) == ["a", "a", "b"]


def test_a_hold_refuses_the_queued_calls_that_it_outlasts() -> None:
    bench = Bench(limit=1)
    bench.admit("a")
    bench.admit("hurried", "b", deadline=5.0)
    bench.admit("just too late", "c", deadline=60.0)
    bench.admit("patient", "c", deadline=60.1)
    call = bench.running.pop("a")
    bench.dispatcher.release(call.permit)
    failure = UpstreamFailure(FailureKind.RATE_LIMITED, "slow down", retry_after=60.0)
    bench.dispatcher.settlement.failed(call, failure, 0.0, 0.0)
    (refused, refusal), (other, _) = bench.dispatcher.refuse_unservable(0.0)
    assert (refused.request.text, other.request.text) == ("hurried", "just too late")
    assert refusal.cause is RefusalCause.CLOSED
    assert refusal.retry_after >= 60.0
    assert bench.dispatcher.refuse_unservable(0.0) == []


def test_attempts_are_limited() -> None:
    bench = Bench(retry=RetrySettings(attempts=3, reserve=10, base_s=0.1))
    bench.admit("a")
    assert bench.fail("a")
    bench.pass_time(60)
    assert bench.fail("a")
    bench.pass_time(60)
    assert not bench.fail("a")
    assert bench.granted == ["a"] * 3


def test_the_retry_budget_is_shared_by_all_calls() -> None:
    bench = Bench(limit=100, retry=RetrySettings(reserve=2))
    for number in range(5):
        bench.admit(f"r{number}")
    assert [bench.fail(f"r{number}", FailureKind.CONNECT) for number in range(4)] == [
        True,
        True,
        False,
        False,
    ]


def test_no_retry_starts_after_the_deadline() -> None:
    bench = Bench()
    bench.admit("a", deadline=3.0)
    assert not bench.fail("a", FailureKind.RATE_LIMITED, retry_after=10.0)


def test_no_call_is_retried_that_a_hold_outlasts() -> None:
    bench = Bench(limit=2)
    bench.admit("fails", deadline=20.0)
    bench.admit("refused")
    assert bench.fail("refused", FailureKind.RATE_LIMITED, retry_after=60.0)
    assert not bench.fail("fails", FailureKind.SERVER_ERROR)


def test_no_call_is_retried_that_a_hold_of_its_model_outlasts() -> None:
    bench = Bench(limit=1, model_limits=(("scarce", 2),))
    bench.admit("fails", model="scarce", deadline=20.0)
    bench.admit("refused", model="scarce")
    bench.admit("other", model="plain", deadline=20.0)
    holder = LimitHolder.MODEL
    assert bench.fail("refused", FailureKind.RATE_LIMITED, retry_after=60.0, holder=holder)
    assert not bench.fail("fails", FailureKind.SERVER_ERROR)
    assert bench.fail("other", FailureKind.SERVER_ERROR)


def test_no_call_of_a_model_is_retried_that_a_hold_of_the_account_outlasts() -> None:
    bench = Bench(limit=1, model_limits=(("scarce", 1),))
    bench.admit("fails", model="scarce", deadline=20.0)
    bench.admit("refused", model="plain")
    assert bench.fail("refused", FailureKind.RATE_LIMITED, retry_after=60.0)
    assert not bench.fail("fails", FailureKind.SERVER_ERROR)


def test_a_retry_waits_for_the_end_of_a_hold() -> None:
    bench = Bench(limit=2)
    bench.admit("fails")
    bench.admit("refused")
    assert bench.fail("refused", FailureKind.RATE_LIMITED, retry_after=60.0, draw=0.0)
    assert bench.fail("fails", FailureKind.SERVER_ERROR)
    assert bench.dispatcher.retries.next_at == 60.0


def test_the_retry_of_a_probe_is_no_probe() -> None:
    bench = Bench(limit=3, circuit=CircuitSettings(failures_in_a_row=1), retry=RetrySettings(5))
    bench.admit("a")
    assert bench.fail("a", draw=0.0)
    bench.pass_time(5.0)
    assert bench.granted == ["a", "a"], "the second attempt is the probe"
    assert bench.fail("a", retry_after=100.0, draw=0.0)
    bench.pass_time(10.0)
    bench.admit("b")
    bench.complete("b")
    assert bench.account.circuit.state == "closed"
    bench.pass_time(100.0)
    bench.admit("c")
    bench.fail("c")
    opens_at = bench.account.circuit.opens_at(bench.now)
    bench.now += 1.0
    bench.fail("a")
    assert bench.account.circuit.opens_at(bench.now) == opens_at


def test_an_answer_ends_a_row_of_refusals() -> None:
    bench = Bench()
    for _ in range(3):
        bench.admit("refused")
        bench.fail("refused", FailureKind.OVERLOADED, draw=0.99)
        # The first hold of a row is at most a second; without an answer the next is longer.
        assert bench.account.hold.until - bench.now <= 1.0
        bench.pass_time(2.0)
        bench.complete("refused")


def test_a_row_of_refusals_makes_the_holds_longer() -> None:
    bench = Bench(retry=RetrySettings(attempts=1))
    holds = []
    for number in range(3):
        bench.admit(f"r{number}")
        bench.fail(f"r{number}", FailureKind.OVERLOADED, draw=0.5)
        holds.append(bench.account.hold.until - bench.now)
        bench.pass_time(10.0)
    assert holds == [0.5, 1.0, 2.0]


def test_a_call_that_prefers_a_fallback_is_not_retried_here() -> None:
    bench = Bench()
    bench.admit("a", fallback_reasons=frozenset({"server_error"}))
    assert not bench.fail("a", FailureKind.SERVER_ERROR)


def test_an_open_circuit_grants_nothing_then_a_probe_then_all() -> None:
    bench = Bench(limit=5, retry=RetrySettings(attempts=1))
    for number in range(5):
        bench.admit(f"r{number}")
    for number in range(5):
        bench.fail(f"r{number}")
    for number in range(3):
        assert bench.admit(f"w{number}") == "queued"
    bench.pass_time(4.0)
    assert len(bench.granted) == 5
    bench.pass_time(2.0)
    assert bench.granted[5:] == ["w0"]
    bench.complete("w0")
    assert bench.granted[5:] == ["w0", "w1", "w2"]


def test_unreadable_answers_do_not_open_the_circuit() -> None:
    bench = Bench(limit=1, circuit=CircuitSettings(failures_in_a_row=2, calls=4))
    for number in range(20):
        bench.admit(f"r{number}")
        assert not bench.fail(f"r{number}", FailureKind.MALFORMED)
        bench.pass_time(0.1)
    assert bench.account.circuit.state == "closed"
    assert bench.admit("next") == "granted"


def test_an_unreadable_answer_neither_closes_nor_reopens_a_circuit() -> None:
    bench = Bench(limit=1, circuit=CircuitSettings(failures_in_a_row=1), retry=RetrySettings(1))
    bench.admit("a")
    bench.fail("a")
    bench.admit("probe")
    bench.admit("second")
    bench.pass_time(6.0)
    assert bench.granted == ["a", "probe"]
    bench.fail("probe", FailureKind.MALFORMED)
    assert bench.account.circuit.state == "half_open"
    assert bench.granted == ["a", "probe", "second"]
    bench.complete("second")
    assert bench.account.circuit.opens_at(bench.now) == bench.now


def test_a_call_with_a_fallback_does_not_wait_for_an_open_circuit() -> None:
    bench = Bench(limit=5, retry=RetrySettings(attempts=1))
    for number in range(5):
        bench.admit(f"r{number}")
    for number in range(5):
        bench.fail(f"r{number}")
    refusal = bench.admit("flexible", fallback_reasons=frozenset({"circuit_open"}))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "circuit_open"


def test_a_request_has_three_attempts_by_default() -> None:
    bench = Bench()
    bench.admit("a")
    while bench.fail("a", draw=0.0):
        bench.pass_time(1.0)
    assert bench.granted == ["a", "a", "a"]


def test_a_used_up_quota_holds_all_calls_for_a_minute() -> None:
    bench = Bench()
    bench.admit("a")
    assert not bench.fail("a", FailureKind.QUOTA)
    assert bench.admit("b") == "queued"
    bench.pass_time(59.0)
    assert bench.granted == ["a"]
    bench.pass_time(10.0)
    assert bench.granted == ["a", "b"]


@pytest.mark.parametrize("kind", [FailureKind.OVERLOADED, FailureKind.RATE_LIMITED])
def test_only_an_adaptive_limit_falls_on_overload(kind: FailureKind) -> None:
    for adaptive, limit in ((False, 20), (True, 18)):
        bench = Bench(limit=20, adaptive=adaptive)
        bench.admit("a")
        bench.fail("a", kind)
        assert bench.dispatcher.pools[0].ledger.limit == limit
        assert bench.account.limit == 20


def test_a_draining_provider_retries_nothing() -> None:
    bench = Bench()
    bench.admit("a")
    apply_change(bench.dispatcher, DrainProvider(), "test", bench.now)
    assert not bench.fail("a")


def test_a_call_without_a_request_is_not_retried() -> None:
    bench = Bench()
    bench.admit("a")
    call = bench.running.pop("a")
    bench.dispatcher.release(call.permit)
    failure = UpstreamFailure(FailureKind.SERVER_ERROR, "no")
    assert not bench.dispatcher.settlement.failed(call, failure, bench.now, 0.5, may_retry=False)


def test_a_changed_weight_applies_to_queued_calls() -> None:
    bench = Bench(weights=(("batch", 1.0),))
    bench.admit("first")
    for number in range(30):
        bench.admit(f"batch-{number}", "b", tenant="batch")
        bench.admit(f"other-{number}", "o")
    change = SetWeight(TenantName("batch"), 9.0)
    assert apply_change(bench.dispatcher, change, "test", bench.now) is None
    for _ in range(20):
        bench.complete(bench.granted[-1])
    assert sum(name.startswith("batch") for name in bench.granted[1:]) >= 17


def test_changes_of_a_weight_are_kept_and_recorded() -> None:
    bench = Bench(weights=(("batch", 1.0),))
    for weight in (9.0, 0.5):
        change = SetWeight(TenantName("batch"), weight)
        assert apply_change(bench.dispatcher, change, "test", bench.now) is None
    assert bench.account.weights == {"batch": 0.5}
    assert [event.what for event in bench.account.events] == [
        "weight of tenant 'batch' 1 -> 9",
        "weight of tenant 'batch' 9 -> 0.5",
    ]


def test_refused_calls_do_not_raise_the_retry_budget() -> None:
    bench = Bench(limit=10, queue=0)
    for number in range(10):
        bench.admit(f"r{number}")
    for number in range(1000):
        assert isinstance(bench.admit(f"x{number}"), Refusal)
    retried = [bench.fail(f"r{number}", retry_after=9.0) for number in range(10)]
    assert sum(retried) == RetrySettings().reserve


def test_calls_refused_together_count_as_one_refusal() -> None:
    bench = Bench(limit=50)
    names = [f"r{number}" for number in range(50)]
    for name in names:
        bench.admit(name)
    for name in names:
        bench.fail(name, FailureKind.OVERLOADED, draw=0.99)
    assert bench.account.hold.until <= 1.0
    bench.pass_time(2.0)
    bench.fail(bench.granted[-1], FailureKind.OVERLOADED, draw=0.99)
    assert 1.0 < bench.account.hold.until - bench.now <= 2.0


@pytest.mark.parametrize(
    "kind", [FailureKind.SERVER_ERROR, FailureKind.OVERLOADED, FailureKind.RATE_LIMITED]
)
def test_no_retry_starts_before_the_retry_after(kind: FailureKind) -> None:
    bench = Bench()
    bench.admit("a")
    assert bench.fail("a", kind, retry_after=7.0, draw=0.0)
    bench.pass_time(6.99)
    assert bench.granted == ["a"]
    bench.pass_time(0.01)
    assert bench.granted == ["a", "a"]


def test_if_busy_refuse_is_not_retried() -> None:
    bench = Bench()
    bench.admit("a", if_busy=IfBusy.REFUSE)
    assert not bench.fail("a", FailureKind.RATE_LIMITED, retry_after=20.0)


def test_a_quarantined_permit_returns_when_its_rest_is_over() -> None:
    bench = Bench()
    bench.admit("gone")
    bench.admit("next")
    bench.abort("gone", rest_s=5.0)
    assert bench.granted == ["gone"]
    bench.pass_time(5.0)
    assert bench.granted == ["gone", "next"]


def test_a_new_owner_keeps_resting_permits_and_the_holds_of_models() -> None:
    bench = Bench(limit=1, model_limits=(("scarce", 1),))
    bench.admit("gone")
    bench.abort("gone", rest_s=20.0)
    bench.admit("refused", model="scarce")
    bench.fail("refused", FailureKind.RATE_LIMITED, retry_after=50.0, holder=LimitHolder.MODEL)
    bench.dispatcher = Dispatcher(bench.account, 1 << 40)
    bench.admit("plain")
    bench.admit("scarce", model="scarce")
    bench.pass_time(19.0)
    assert bench.granted == ["gone", "refused"]
    bench.pass_time(1.0)
    assert bench.granted[2:] == ["plain"]
    bench.pass_time(36.0)
    assert bench.granted[2:] == ["plain", "scarce"]


def test_a_new_owner_probes_a_service_whose_circuit_is_open() -> None:
    bench = Bench(limit=5, retry=RetrySettings(attempts=1))
    for number in range(5):
        bench.admit(f"r{number}")
    for number in range(5):
        bench.fail(f"r{number}")
    bench.pass_time(6.0)
    bench.admit("probe")
    bench.dispatcher = Dispatcher(bench.account, 1 << 40)
    for number in range(3):
        bench.admit(f"w{number}")
    assert bench.granted[5:] == ["probe", "w0"]


def test_a_model_with_its_own_limit_delays_no_other() -> None:
    bench = Bench(limit=2, model_limits=(("scarce", 1),))
    bench.admit("s1", model="scarce")
    assert bench.admit("s2", model="scarce") == "queued"
    assert bench.admit("o1", model="other") == "granted"
    assert bench.admit("o2", model="different") == "granted"
    assert bench.admit("o3", model="other") == "queued"
    bench.complete("s1")
    assert bench.granted == ["s1", "o1", "o2", "s2"]


def test_a_hold_of_one_model_outlives_the_owner() -> None:
    bench = Bench(limit=2, model_limits=(("scarce", 1),))
    bench.admit("s1", model="scarce")
    failure = UpstreamFailure(
        FailureKind.RATE_LIMITED, "one at once", retry_after=9.0, holder=LimitHolder.MODEL
    )
    call = bench.running.pop("s1")
    bench.dispatcher.release(call.permit)
    bench.dispatcher.settlement.failed(call, failure, bench.now, 0.0)
    bench.dispatcher = Dispatcher(bench.account, 1 << 40)
    assert bench.admit("other") == "granted"
    assert bench.admit("s2", model="scarce") == "queued"
    bench.pass_time(8.9)
    assert bench.granted == ["s1", "other"]
    bench.pass_time(0.2)
    assert bench.granted == ["s1", "other", "s2"]


def test_no_two_models_or_incarnations_grant_the_same_permit() -> None:
    settings = CapacitySettings(limit=3, model_limits=(("x", 3), ("y", 3)))
    account = Account(settings)
    permits: set[PermitId] = set()
    for incarnation in (1, 2):
        bench = Bench(settings)
        bench.dispatcher = Dispatcher(account, incarnation << 40)
        for model in ("x", "y", "z"):
            for number in range(3):
                bench.admit(f"{model}{number}", model=model)
        permits |= {call.permit for call in bench.running.values()}
    assert len(permits) == 18


def test_queued_calls_and_those_before_a_retry_can_be_withdrawn() -> None:
    bench = Bench()
    bench.admit("fails")
    bench.admit("waits")
    assert bench.fail("fails", FailureKind.RATE_LIMITED, retry_after=1.0)
    for name in ("fails", "waits"):
        withdrawn = bench.dispatcher.withdraw(SessionId("a"), RequestKey(name))
        assert withdrawn is not None
        assert withdrawn.request.text == name
        assert bench.dispatcher.withdraw(SessionId("a"), RequestKey(name)) is None
    bench.pass_time(10)
    assert bench.granted == ["fails"]
    assert bench.dispatcher.queued == 0


def test_forgetting_a_session_removes_its_waiting_calls() -> None:
    bench = Bench()
    bench.admit("fails", "gone")
    bench.admit("waits", "gone")
    bench.admit("other", "here")
    assert bench.fail("fails", FailureKind.RATE_LIMITED, retry_after=1.0)
    removed = bench.dispatcher.forget(SessionId("gone"))
    assert sorted(call.request.text for call in removed) == ["fails", "waits"]
    bench.pass_time(10)
    assert bench.granted == ["fails", "other"]


def test_positions_and_estimates_follow_from_the_ages_of_the_calls() -> None:
    bench = Bench(limit=2)
    bench.admit("a")
    bench.admit("b")
    bench.now = 4.0
    bench.complete("a")
    bench.admit("c")
    bench.admit("d")
    bench.admit("e", "other")
    reported = {call.request.text: (position, wait) for position, wait, call in bench.in_line()}
    # b has held its permit for as long as a did, and will end soon; c has just started.
    assert sorted(reported.values()) == [(1, 1.0), (2, 4.0)]
    assert set(reported) == {"d", "e"}


@pytest.mark.parametrize("never", [SetLimit(0), SetReserve(2), SetReserve(9)])
@pytest.mark.parametrize("gates", [GateSettings(), GateSettings(requests_per_minute=3)])
def test_no_wait_is_estimated_without_a_permit_of_its_own(
    never: SetLimit | SetReserve, gates: GateSettings
) -> None:
    bench = Bench(limit=2, gates=gates)
    bench.admit("a")
    bench.now = 4.0
    bench.complete("a")
    apply_change(bench.dispatcher, never, "test", bench.now)
    assert bench.admit("b", deadline=5.0) == "queued"
    ((position, wait, _),) = bench.in_line()
    assert (position, wait) == (1, None)


def test_estimates_leave_out_reserved_and_quarantined_permits() -> None:
    bench = Bench(limit=3)
    bench.admit("a")
    bench.now = 4.0
    bench.complete("a")
    apply_change(bench.dispatcher, SetReserve(1), "test", bench.now)
    bench.admit("gone")
    bench.admit("b")
    bench.admit("c")
    bench.abort("gone", rest_s=60.0)
    bench.admit("d")
    waits = [wait for _, wait, _ in bench.in_line()]
    assert waits == [4.0, 8.0]


def test_no_wait_is_estimated_before_the_first_call_has_ended() -> None:
    bench = Bench(limit=0)
    bench.admit("a")
    ((position, wait, _),) = bench.in_line()
    assert (position, wait) == (1, None)


def test_a_request_cannot_wait_twice() -> None:
    bench = Bench(limit=0)
    bench.admit("a")
    with pytest.raises(ValueError, match="already waits"):
        bench.admit("a")


def test_the_end_of_a_pause_grants_calls_of_all_models() -> None:
    bench = Bench(limit=1, model_limits=(("scarce", 1),))
    apply_change(bench.dispatcher, Pause(), "test", bench.now)
    bench.admit("a", model="plain")
    bench.admit("b", model="scarce")
    apply_change(bench.dispatcher, Reopen(), "test", bench.now)
    bench.pump()
    assert set(bench.granted) == {"a", "b"}


def test_a_queued_call_past_its_deadline_is_not_started() -> None:
    bench = Bench(limit=1)
    bench.admit("runs")
    bench.admit("too late", deadline=5.0, if_busy=IfBusy.WAIT)
    bench.admit("in time", deadline=5.1, if_busy=IfBusy.WAIT)
    bench.now = 5.0
    bench.complete("runs")
    assert bench.granted == ["runs", "in time"]
    (expired,) = bench.dispatcher.expired
    assert expired.request.text == "too late"
    assert expired.flow.unsettled == bench.running["in time"].cost, "it is not charged"
    assert bench.dispatcher.queued == 0


@pytest.mark.parametrize("kind", FailureKind)
def test_every_failure_is_settled(kind: FailureKind) -> None:
    bench = Bench()
    bench.admit("a")
    call = bench.running["a"]
    assert call.flow.unsettled == 10.0
    bench.fail("a", kind)
    assert call.flow.unsettled == 0.0
    assert call.flow.tenant.unsettled == 0.0


def test_refused_and_aborted_calls_do_not_shorten_the_estimated_wait() -> None:
    bench = Bench(limit=2)
    bench.admit("slow")
    bench.now = 3.0
    bench.complete("slow")
    for number in range(20):
        bench.admit(f"refused {number}")
        bench.admit(f"aborted {number}")
        bench.fail(f"refused {number}", FailureKind.REJECTED)
        bench.abort(f"aborted {number}")
    assert bench.dispatcher.waits.wait_s(bench.dispatcher.pools[0], 2, bench.now) == 3.0


def test_a_retry_that_waits_in_the_queue_precedes_every_first_attempt_of_its_session() -> None:
    bench = Bench(limit=1, retry=RetrySettings(attempts=2, reserve=10))
    bench.admit("failed")
    for name, priority in (("usual", 0), ("urgent", 9)):
        bench.admit(name, priority=priority)
    assert bench.fail("failed", FailureKind.CONNECT, draw=1.0)
    assert bench.granted[-1] == "urgent"
    bench.pass_time(60.0)
    bench.complete("urgent")
    assert bench.granted == ["failed", "urgent", "failed"]


def test_of_too_many_weights_of_sessions_the_oldest_is_forgotten() -> None:
    bench = Bench()
    names = [SessionId(f"s-{number}") for number in range(MAX_SESSION_WEIGHTS + 1)]
    for name in names:
        change = SetSessionWeight(name, name, 4.0)
        assert apply_change(bench.dispatcher, change, "test", bench.now) is None
    assert len(bench.dispatcher.account.session_weights) == MAX_SESSION_WEIGHTS
    queue = bench.dispatcher.pools[0].queue
    weights = [1 / queue.flow(name, DEFAULT_TENANT).inverse_weight for name in names]
    assert weights == [1.0, *[4.0] * MAX_SESSION_WEIGHTS]
