"""The broker finds the violations of its own invariants, and none where there is none."""

from __future__ import annotations

from exai_actors.core.calls import FailureKind, IfBusy
from exai_actors.core.capacity.apply_change import apply_change
from exai_actors.core.capacity.changes import Pause
from exai_actors.core.capacity.invariants import invariant_violations
from exai_actors.ids import PermitId
from tests.core.capacity.dispatching import Bench


def found(bench: Bench, longest_call_s: float = 600.0) -> list[str]:
    return list(invariant_violations(bench.dispatcher, bench.now, longest_call_s))


def busy() -> Bench:
    bench = Bench(limit=2, model_limits=(("scarce", 1),))
    for number in range(5):
        bench.admit(f"a{number}", "a")
        bench.admit(f"b{number}", "b", model="scarce")
    return bench


def test_running_and_queued_calls_violate_nothing() -> None:
    bench = busy()
    assert found(bench) == []
    bench.pass_time(10.0)
    bench.complete("a0")
    bench.fail("b0", FailureKind.SERVER_ERROR)
    assert found(bench) == []


def test_calls_queued_behind_a_guard_violate_nothing() -> None:
    bench = Bench(limit=1)
    apply_change(bench.dispatcher, Pause(), "test", bench.now)
    bench.admit("paused", if_busy=IfBusy.WAIT)
    bench.pass_time(60.0)
    assert found(bench) == []
    held = Bench(limit=1)
    held.admit("refused")
    held.fail("refused", FailureKind.RATE_LIMITED, retry_after=50.0)
    held.pass_time(40.0)
    assert found(held) == []


def test_a_permit_that_is_not_returned_is_found() -> None:
    bench = busy()
    bench.now = 600.0
    assert found(bench) == []
    bench.now = 601.0
    assert sorted({fault.split(" is ", 1)[1] for fault in found(bench)}) == [
        "out for longer than any call can take",
        "out for longer than any call can take of model scarce",
    ]


def test_a_queued_call_that_could_run_is_found() -> None:
    bench = busy()
    call = bench.running.pop("a0")
    bench.dispatcher.release(call.permit)
    bench.now += 2.0
    assert found(bench) == ["a request waits though a permit is free and nothing keeps it"]


def test_a_permit_held_by_another_call_is_found() -> None:
    bench = busy()
    bench.running["a0"].permit = PermitId(77)
    assert any("is held for a request that has permit 77" in fault for fault in found(bench))


def test_a_call_that_both_runs_and_waits_is_found() -> None:
    bench = busy()
    call = bench.running["a0"]
    call.pool.queue.put(call.flow, call.request, call, 1.0, bench.now)
    assert any("waits as well" in fault for fault in found(bench))


def test_a_queue_that_lost_a_call_is_found() -> None:
    bench = busy()
    bench.dispatcher.pools[0].queue.queued.popitem()
    assert "sessions have requests waiting that the queue does not know" in found(bench)
