"""The permit of a call that was cut off rests until the service has noticed the closed connection.

Real actors, a manual upstream, a manual clock.
"""

from __future__ import annotations

import pytest

from exai_actors.core.calls import FailureKind
from exai_actors.core.capacity.quarantine import MAX_REST_S, MIN_REST_S
from exai_actors.core.capacity.settings import CapacitySettings
from exai_actors.messages.broker import DrainBroker
from tests.actors.desk import Desk


class Line:
    """A provider with one permit: ``first`` runs, ``second`` waits."""

    def __init__(self, **capacity: object) -> None:
        self.desk = Desk(capacity=CapacitySettings(limit=1, **capacity))  # type: ignore[arg-type]
        self.client = self.desk.client()
        self.client.call("first")
        self.client.call("second")

    def cut_off(self) -> None:
        """Cancel ``first``, whose connection is closed."""
        self.client.send({"op": "cancel", "request_id": "first"})
        self.desk.upstream.calls[0].close()
        self.desk.settle()

    @property
    def quarantined(self) -> int:
        return self.desk.statistics().quarantined

    def assert_rests_for(self, seconds: float) -> None:
        assert (self.quarantined, self.desk.statistics().in_flight) == (1, 0)
        self.desk.advance(seconds - 0.001)
        assert len(self.desk.upstream.calls) == 1
        self.desk.advance(0.001)
        assert len(self.desk.upstream.calls) == 2
        assert self.quarantined == 0


def test_the_permit_of_an_aborted_call_rests() -> None:
    line = Line()
    line.cut_off()
    line.assert_rests_for(MIN_REST_S)


def test_a_resting_permit_returns_though_no_call_waits() -> None:
    line = Line()
    line.client.send({"op": "cancel", "request_id": "second"})
    line.cut_off()
    line.desk.advance(MIN_REST_S)
    assert line.quarantined == 0


@pytest.mark.parametrize("kind", [FailureKind.TIMEOUT, FailureKind.TOO_LARGE])
def test_the_permit_of_a_call_that_we_broke_off_ourselves_rests_too(kind: FailureKind) -> None:
    line = Line()
    line.desk.upstream.calls[0].fail(kind, cut_off=True)
    line.desk.settle()
    line.assert_rests_for(MIN_REST_S)


@pytest.mark.parametrize("configured", ["auto", 20.0])
@pytest.mark.parametrize("how", ["completed", "failed", "aborted after its end"])
def test_no_permit_rests_when_the_service_has_finished_the_call(
    configured: str | float, how: str
) -> None:
    line = Line(quarantine_s=configured)
    if how == "aborted after its end":
        line.client.send({"op": "cancel", "request_id": "first"})
        line.desk.upstream.calls[0].close(cut_off=False)
    elif how == "failed":
        line.desk.upstream.calls[0].fail(FailureKind.REJECTED)
    else:
        line.desk.upstream.calls[0].complete()
    line.desk.settle()
    assert len(line.desk.upstream.calls) == 2
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
    line.desk.upstream.round_trip_s = round_trip_s
    line.cut_off()
    line.assert_rests_for(rest_s)


def test_a_configured_rest_is_kept() -> None:
    line = Line(quarantine_s=20.0)
    line.desk.upstream.round_trip_s = 30.0
    line.cut_off()
    line.assert_rests_for(20.0)


def test_a_configured_rest_of_zero_frees_the_permit_immediately() -> None:
    line = Line(quarantine_s=0.0)
    line.desk.upstream.round_trip_s = 30.0
    line.cut_off()
    assert len(line.desk.upstream.calls) == 2


def test_a_resting_permit_keeps_only_its_own_model_waiting() -> None:
    desk = Desk(
        capacity=CapacitySettings(limit=1, model_limits=(("star", 1),)), models=("moon", "star")
    )
    client = desk.client()
    client.call("a", arguments={"model": "star"})
    client.send({"op": "cancel", "request_id": "a"})
    desk.upstream.calls[0].close()
    client.call("b", arguments={"model": "star"})
    client.call("c", arguments={"model": "moon"})
    assert [call.call.model for call in desk.upstream.running] == ["moon"]
    desk.advance(MIN_REST_S)
    assert [call.call.model for call in desk.upstream.running] == ["moon", "star"]


def crash(desk: Desk) -> None:
    ref = desk.system.resolve("/providers/kimi")
    assert ref is not None
    ref.tell("not a message of a provider")
    desk.settle()
    assert desk.statistics().incarnation == 2


def test_a_restarted_provider_keeps_resting_permits() -> None:
    line = Line(quarantine_s=20.0)
    line.cut_off()
    line.desk.advance(5.0)
    crash(line.desk)
    line.client.call("third")
    line.assert_rests_for(15.0)


def test_the_permits_of_calls_that_a_crash_cut_off_rest() -> None:
    line = Line()
    crash(line.desk)
    assert line.desk.upstream.calls[0].abort_asked
    line.client.call("third")
    line.desk.upstream.calls[0].close()
    line.desk.settle()
    line.assert_rests_for(MIN_REST_S)


def test_a_drain_does_not_wait_for_a_resting_permit() -> None:
    line = Line(quarantine_s=600.0)
    line.client.send({"op": "cancel", "request_id": "second"})
    line.cut_off()
    line.desk.broker.tell_system(DrainBroker())
    line.desk.settle()
    line.client.vanish()
    assert line.quarantined == 1
    assert line.desk.drained == 1


def test_no_permit_is_idle_while_no_call_is_aborted() -> None:
    desk = Desk(limit=3)
    client = desk.client()
    for number in range(8):
        client.call(f"r{number}")
    for number in range(5):
        desk.upstream.calls[number].complete()
        desk.settle()
        assert len(desk.upstream.running) == 3
        assert desk.statistics().quarantined == 0
