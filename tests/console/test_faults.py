"""The last minutes are saved after a fault: once, with the aftermath, and with its text."""

from __future__ import annotations

import pytest

from exai_actors.console.faults import AFTERMATH_S, EVERY_S, Faults
from exai_actors.console.feed import Sources
from exai_actors.console.ring import Ring
from exai_actors.core.observe.query import Column, Kind, Table
from exai_actors.core.observe.tables import Row
from exai_actors.runtime import ActorFailed, ActorStarted, ExitReason, ManualDriver
from exai_actors.testing.clock import ManualClock
from exai_actors.wire.console.recording import read_frame, read_header

BROKER = Table("broker", (Column("alarms", "Alarms", Kind.COUNT, ""),))


class Watched:
    """A ring with faults, and the recordings that were saved."""

    def __init__(self) -> None:
        self.driver = ManualDriver()
        self.clock = ManualClock(wall=1000.0)
        self.alarms = 0
        self.saved: list[tuple[list[bytes], str]] = []
        sources = Sources()
        sources.add(BROKER, self._rows)
        ring = Ring(sources, self.driver, self.clock.wall)
        self.faults = Faults(
            ring,
            self.driver,
            self.clock.wall,
            lambda: {"tables": {"broker": []}},
            lambda lines, fault: self.saved.append((lines, fault)),
        )
        ring.start()

    def _rows(self) -> list[tuple[str, Row]]:
        return [("broker", (self.alarms,))]

    def run(self, seconds: float) -> list[str]:
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            self.driver.advance(1.0)
        return [fault for _, fault in self.saved]


def failed(path: str = "/providers/kimi") -> ActorFailed:
    return ActorFailed(3.0, path, 1, ExitReason.FAILED, "ValueError: boom", "Grant")


def test_a_failed_actor_is_saved_with_its_aftermath() -> None:
    watched = Watched()
    watched.run(10)
    watched.faults.note(failed())
    assert watched.run(AFTERMATH_S - 1) == []
    assert watched.run(1) == ["/providers/kimi failed: ValueError: boom"]
    [(lines, _)] = watched.saved
    header = read_header(lines[0])
    assert (header["time"], header["fault"]) == (1010.0, watched.saved[0][1])
    frames = [read_frame(line) for line in lines[1:]]
    assert frames[0] is not None
    assert frames[0]["op"] == "snapshot"


def test_a_raised_alarm_is_a_fault_and_its_end_is_none() -> None:
    watched = Watched()
    watched.alarms = 2
    assert watched.run(1 + AFTERMATH_S) == ["2 alarms raised"]
    watched.alarms = 0
    assert watched.run(2 * EVERY_S) == ["2 alarms raised"]
    watched.alarms = 1
    assert watched.run(1 + AFTERMATH_S) == ["2 alarms raised", "1 alarm raised"]


def test_many_faults_are_one_recording_in_a_minute() -> None:
    watched = Watched()
    for number in range(100):
        watched.faults.note(failed(f"/sessions/{number}"))
    assert len(watched.run(EVERY_S - 1)) == 1
    watched.faults.report("late")
    assert len(watched.run(AFTERMATH_S + 1)) == 1
    watched.faults.report("later")
    assert watched.run(AFTERMATH_S)[1:] == ["later"]


def test_a_fault_just_before_the_end_is_saved_at_the_end() -> None:
    watched = Watched()
    watched.faults.save_pending()
    assert watched.saved == []
    watched.faults.report("boom")
    watched.faults.save_pending()
    assert watched.run(2 * AFTERMATH_S) == ["boom"]


@pytest.mark.parametrize(
    "event", [ActorStarted(0.0, "/a", 1, "A"), ActorStarted(0.0, "/a", 2, "A")]
)
def test_a_start_is_no_fault(event: ActorStarted) -> None:
    watched = Watched()
    watched.faults.note(event)
    assert watched.run(AFTERMATH_S + 1) == []
