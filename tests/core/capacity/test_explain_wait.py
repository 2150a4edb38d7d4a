"""Which limit a waiting call waits for."""

from __future__ import annotations

import pytest

from exai_actors.core.calls import FailureKind
from exai_actors.core.capacity.apply_change import apply_change
from exai_actors.core.capacity.changes import Pause
from exai_actors.core.capacity.settings import CapacitySettings, CircuitSettings, GateSettings
from exai_actors.core.wait_reasons import WaitCode, Waiting, WaitReason
from exai_actors.ids import RequestKey, SessionId, TenantName
from tests.core.capacity.dispatching import Bench


def waiting(bench: Bench, name: str, session: str = "a") -> Waiting | None:
    return bench.dispatcher.waiting(SessionId(session), RequestKey(name), bench.now)


def reason(bench: Bench, name: str, session: str = "a") -> WaitReason:
    found = waiting(bench, name, session)
    assert found is not None
    return found.reason


def test_only_waiting_calls_are_explained() -> None:
    bench = Bench()
    bench.admit("runs")
    assert waiting(bench, "runs") is None
    assert waiting(bench, "unknown") is None


def test_the_place_is_that_in_the_order_of_service() -> None:
    bench = Bench()
    bench.admit("runs")
    bench.admit("low", priority=-1)
    bench.admit("high", priority=1)
    assert [getattr(waiting(bench, name), "position", None) for name in ("low", "high")] == [2, 1]


def test_of_several_limits_the_last_to_end_counts() -> None:
    gates = GateSettings(requests_per_minute=1, requests_per_day=5)
    bench = Bench(limit=1, gates=gates)
    bench.admit("runs")
    bench.admit("waits")
    assert reason(bench, "waits").code is WaitCode.REQUESTS_PER_MINUTE
    bench.fail("runs", FailureKind.QUOTA, retry_after=30.0, draw=0.0)
    assert reason(bench, "waits").code is WaitCode.REQUESTS_PER_MINUTE
    bench.now = 40.0
    bench.pump()
    assert reason(bench, "waits").code is WaitCode.REQUESTS_PER_MINUTE
    assert reason(bench, "waits").until == pytest.approx(60.25)


def test_a_hold_that_outlasts_the_gates_counts() -> None:
    bench = Bench(limit=1, gates=GateSettings(requests_per_minute=1))
    bench.admit("runs")
    bench.admit("waits")
    bench.fail("runs", FailureKind.QUOTA, retry_after=600.0, draw=0.0)
    found = reason(bench, "waits")
    assert (found.code, found.until, found.kind) == (WaitCode.HOLD, 600.0, "quota")
    assert found.cause == "it was quota"


def test_a_long_hold_says_when_it_is_probed() -> None:
    bench = Bench(limit=1, hold_probe_s=100.0)
    bench.admit("runs")
    bench.admit("waits")
    bench.fail("runs", FailureKind.QUOTA, retry_after=600.0, draw=0.0)
    assert (reason(bench, "waits").probe_at, reason(bench, "waits").until) == (100.0, 600.0)
    bench.now = 100.0
    bench.pump()
    bench.admit("next")
    assert (reason(bench, "next").probe_at, reason(bench, "next").until) == (None, 600.0)


def test_an_open_circuit_and_its_probe() -> None:
    bench = Bench(CapacitySettings(1, circuit=CircuitSettings(failures_in_a_row=1, open_s=5.0)))
    bench.admit("runs")
    bench.admit("waits")
    bench.admit("then")
    bench.fail("runs", FailureKind.SERVER_ERROR, draw=0.9)
    found = reason(bench, "waits")
    assert (found.code, found.until) == (WaitCode.CIRCUIT, 5.0)
    assert found.cause == "1 calls failed in a row: it was server_error"
    bench.now = 5.0
    bench.pump()
    assert (reason(bench, "then").code, reason(bench, "then").until) == (WaitCode.CIRCUIT, None)


def test_a_failed_call_waits_for_its_next_attempt_or_for_a_longer_guard() -> None:
    bench = Bench(limit=2)
    bench.admit("fails")
    bench.fail("fails", FailureKind.SERVER_ERROR, draw=0.5)
    found = waiting(bench, "fails")
    assert found == Waiting(None, WaitReason(WaitCode.RETRY, until=0.5))
    bench.admit("held")
    bench.fail("held", FailureKind.OVERLOADED, retry_after=20.0, draw=0.0)
    assert reason(bench, "fails").code is WaitCode.HOLD
    assert reason(bench, "held").until == 20.0


def test_a_pause_hides_every_other_limit() -> None:
    bench = Bench(limit=1, gates=GateSettings(requests_per_minute=1))
    bench.admit("runs")
    bench.admit("waits")
    apply_change(bench.dispatcher, Pause(), "the test", bench.now)
    assert reason(bench, "waits") == WaitReason(WaitCode.PAUSED)


def test_a_model_with_a_limit_of_its_own_is_named() -> None:
    bench = Bench(limit=1, model_limits=(("big", 2),))
    for name in "xyz":
        bench.admit(name, model="big")
    assert reason(bench, "z") == WaitReason(WaitCode.PERMIT, model="big", limit=2, used=2)


def test_permits_that_rest_and_reserved_ones_are_counted() -> None:
    bench = Bench(limit=3)
    bench.dispatcher.pools[0].ledger.reserve(1)
    bench.admit("a")
    cut_off = bench.running["a"]
    bench.admit("b")
    bench.dispatcher.quarantine(cut_off.permit, 10.0)
    bench.admit("c")
    assert reason(bench, "c") == WaitReason(WaitCode.PERMIT, limit=2, used=2)


@pytest.mark.parametrize(
    ("weights", "code", "share"),
    [
        ((), WaitCode.TENANT_SHARE, 2.0),
        (((TenantName("greedy"), 3.0),), WaitCode.TENANT_SHARE, 3.0),
        (((TenantName("small"), 3.0),), WaitCode.TENANT_SHARE, 1.0),
    ],
)
def test_a_share_follows_the_weights_of_the_tenants_with_work(
    weights: tuple[tuple[TenantName, float], ...], code: WaitCode, share: float
) -> None:
    bench = Bench(limit=4, weights=weights)
    for name in "12345":
        bench.admit(name, "a", tenant="greedy")
    bench.admit("6", "b", tenant="small")
    assert reason(bench, "5") == WaitReason(code, limit=share, used=4)
    assert reason(bench, "6", "b").code is WaitCode.PERMIT


def test_a_tenant_alone_waits_for_a_permit() -> None:
    bench = Bench(limit=1)
    bench.admit("1", "a")
    bench.admit("2", "b")
    assert reason(bench, "2", "b").code is WaitCode.PERMIT
