"""The permit of a call that was cut off rests until the service has noticed the closed connection.

Real actors, a manual upstream, a manual clock.
"""

from __future__ import annotations

import pytest

from exai_actors.core.calls import FailureKind
from exai_actors.core.capacity.quarantine import MAX_REST_S, MIN_REST_S
from exai_actors.core.capacity.settings import CapacitySettings
from exai_actors.messages.broker import DrainBroker
from exai_actors.testing.tree import ManualTree


class Line:
    """A provider with one permit: ``first`` runs, ``second`` waits."""

    def __init__(self, **capacity: object) -> None:
        self.tree = ManualTree(capacity=CapacitySettings(limit=1, **capacity))  # type: ignore[arg-type]
        self.client = self.tree.client()
        self.client.call("first")
        self.client.call("second")

    def cut_off(self) -> None:
        """Cancel ``first`` and close its connection."""
        self.client.send({"op": "cancel", "request_id": "first"})
        self.tree.upstream.calls[0].close()
        self.tree.settle()

    @property
    def quarantined(self) -> int:
        return self.tree.statistics().quarantined

    def assert_rests_for(self, seconds: float) -> None:
        assert (self.quarantined, self.tree.statistics().in_flight) == (1, 0)
        self.tree.advance(seconds - 0.001)
        assert len(self.tree.upstream.calls) == 1
        self.tree.advance(0.001)
        assert len(self.tree.upstream.calls) == 2
        assert self.quarantined == 0


def test_the_permit_of_an_aborted_call_rests() -> None:
    line = Line()
    line.cut_off()
    line.assert_rests_for(MIN_REST_S)


def test_a_resting_permit_returns_though_no_call_waits() -> None:
    line = Line()
    line.client.send({"op": "cancel", "request_id": "second"})
    line.cut_off()
    line.tree.advance(MIN_REST_S)
    assert line.quarantined == 0


@pytest.mark.parametrize("kind", [FailureKind.TIMEOUT, FailureKind.TOO_LARGE])
def test_the_permit_of_a_call_given_up_by_us_rests_too(kind: FailureKind) -> None:
    line = Line()
    line.tree.upstream.calls[0].fail(kind, cut_off=True)
    line.tree.settle()
    line.assert_rests_for(MIN_REST_S)


@pytest.mark.parametrize("configured", ["auto", 20.0])
@pytest.mark.parametrize("how", ["completed", "failed", "aborted after its end"])
def test_no_permit_rests_when_the_service_has_finished_the_call(
    configured: str | float, how: str
) -> None:
    line = Line(quarantine_s=configured)
    if how == "aborted after its end":
        line.client.send({"op": "cancel", "request_id": "first"})
        line.tree.upstream.calls[0].close(cut_off=False)
    elif how == "failed":
        line.tree.upstream.calls[0].fail(FailureKind.REJECTED)
    else:
        line.tree.upstream.calls[0].complete()
    line.tree.settle()
    assert len(line.tree.upstream.calls) == 2
    assert line.quarantined == 0


@pytest.mark.parametrize(
    ("round_trip_s", "rest_s"),
    [
        (0.0002, MIN_REST_S + 0.0002),  # a service on this machine
        (0.3, MIN_REST_S + 0.3),
        (30.0, MAX_REST_S),
    ],
)
def test_a_permit_rests_longer_the_farther_the_service(round_trip_s: float, rest_s: float) -> None:
    line = Line()
    line.tree.upstream.round_trip_s = round_trip_s
    line.cut_off()
    line.assert_rests_for(rest_s)


def test_a_configured_rest_is_kept() -> None:
    line = Line(quarantine_s=20.0)
    line.tree.upstream.round_trip_s = 30.0
    line.cut_off()
    line.assert_rests_for(20.0)


def test_a_configured_rest_of_zero_frees_the_permit_immediately() -> None:
    line = Line(quarantine_s=0.0)
    line.tree.upstream.round_trip_s = 30.0
    line.cut_off()
    assert len(line.tree.upstream.calls) == 2


def test_a_resting_permit_keeps_only_its_own_model_waiting() -> None:
    tree = ManualTree(
        capacity=CapacitySettings(limit=1, model_limits=(("star", 1),)), models=("moon", "star")
    )
    client = tree.client()
    client.call("a", arguments={"model": "star"})
    client.send({"op": "cancel", "request_id": "a"})
    tree.upstream.calls[0].close()
    client.call("b", arguments={"model": "star"})
    client.call("c", arguments={"model": "moon"})
    assert [call.call.model for call in tree.upstream.running] == ["moon"]
    tree.advance(MIN_REST_S)
    assert [call.call.model for call in tree.upstream.running] == ["moon", "star"]


def crash(tree: ManualTree) -> None:
    ref = tree.system.resolve("/providers/kimi")
    assert ref is not None
    ref.tell("not a message of a provider")
    tree.settle()
    assert tree.statistics().incarnation == 2


def test_a_restarted_provider_keeps_resting_permits() -> None:
    line = Line(quarantine_s=20.0)
    line.cut_off()
    line.tree.advance(5.0)
    crash(line.tree)
    line.client.call("third")
    line.assert_rests_for(15.0)


def test_a_resting_permit_returns_after_a_restart_though_no_call_waits() -> None:
    line = Line(quarantine_s=20.0)
    line.client.send({"op": "cancel", "request_id": "second"})
    line.cut_off()
    crash(line.tree)
    line.tree.advance(20.0)
    assert line.quarantined == 0


def test_the_permits_of_calls_cut_off_by_a_crash_rest() -> None:
    line = Line()
    crash(line.tree)
    assert line.tree.upstream.calls[0].abort_asked
    line.client.call("third")
    line.tree.upstream.calls[0].close()
    line.tree.settle()
    line.assert_rests_for(MIN_REST_S)


def test_a_drain_does_not_wait_for_a_resting_permit() -> None:
    line = Line(quarantine_s=600.0)
    line.client.send({"op": "cancel", "request_id": "second"})
    line.cut_off()
    line.tree.broker.tell_system(DrainBroker())
    line.tree.settle()
    line.client.vanish()
    assert line.quarantined == 1
    assert line.tree.drained == 1


def test_no_permit_is_idle_while_no_call_is_aborted() -> None:
    tree = ManualTree(limit=3)
    client = tree.client()
    for number in range(8):
        client.call(f"r{number}")
    for number in range(5):
        tree.upstream.calls[number].complete()
        tree.settle()
        assert len(tree.upstream.running) == 3
        assert tree.statistics().quarantined == 0
