from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from exai_actors.daemon import memory_guard
from exai_actors.daemon.memory_guard import MemoryGuard, buffer_limit, guarding

MEGABYTE = 1024 * 1024


class Client:
    """A connection, or a session with ``kept`` bytes of a ``tenant``."""

    def __init__(self, held: int = 0, *, kept: int = 0, tenant: str = "") -> None:
        self.held = held * MEGABYTE
        self.kept = kept * MEGABYTE
        self.tenant = tenant
        self.does: list[str] = []

    def held_bytes(self) -> int:
        return self.held

    def kept_bytes(self) -> int:
        return self.kept

    def restrain(self) -> None:
        self.does.append("restrain")

    def release(self) -> None:
        self.does.append("release")

    def end_if_left(self) -> None:
        self.does.append("end if left")

    def give_up(self) -> None:
        self.does.append("give up")

    def shrink(self, size: int) -> None:
        self.kept = size


class Process:
    """A guard with a limit of 100 MiB for buffers and 40 MiB for kept data."""

    def __init__(self) -> None:
        self.connections: list[Client] = []
        self.sessions: list[Client] = []
        self.resident = 50 * MEGABYTE
        self.guard = MemoryGuard(
            100 * MEGABYTE,
            40 * MEGABYTE,
            lambda: self.connections,
            lambda: self.sessions,
            resident=lambda: self.resident,
        )


def test_the_biggest_are_restrained_and_released_with_events_and_figures() -> None:
    it = Process()
    hog, small = Client(90), Client(5)
    it.connections = [hog, small]
    it.sessions = [Client(20)]
    with capture_logs() as logs:
        it.guard.look()
        it.guard.look()
    assert hog.does == ["restrain", "end if left"]
    assert small.does == it.sessions[0].does == []
    assert [entry["event"] for entry in logs] == ["memory.alarm_raised"]
    figures = it.guard.statistics()
    assert (figures.alarm, figures.restrained, figures.alarms) == (True, 1, 1)
    assert figures.buffered == 115 * MEGABYTE
    hog.held = 10
    with capture_logs() as logs:
        it.guard.look()
    assert hog.does == ["restrain", "end if left", "end if left", "release"]
    assert [entry["event"] for entry in logs] == ["memory.alarm_cleared"]
    assert not it.guard.statistics().alarm


def test_the_figures_are_those_of_the_last_look() -> None:
    process = Process()
    process.resident = 70 * MEGABYTE
    assert process.guard.statistics().resident == 50 * MEGABYTE
    process.guard.look()
    assert process.guard.statistics().resident == 70 * MEGABYTE


def test_requests_of_a_session_count_and_can_restrain_it() -> None:
    it = Process()
    it.sessions = [Client(110)]
    it.guard.look()
    assert it.sessions[0].does == ["restrain"]


def test_far_above_the_limit_connections_are_ended() -> None:
    it = Process()
    it.connections = [Client(80), Client(60)]
    with capture_logs() as logs:
        it.guard.look()
    assert it.connections[0].does == ["restrain", "give up"]
    assert logs[-1]["event"] == "memory.connections_ended"
    assert it.guard.statistics().ended == 1


def test_kept_data_is_shared_out_by_tenant() -> None:
    it = Process()
    it.sessions = [Client(kept=5, tenant="greedy") for _ in range(20)]
    it.sessions.append(Client(kept=8, tenant="small"))
    it.guard.look()
    assert it.sessions[-1].kept == 8 * MEGABYTE
    it.guard.look()
    assert it.guard.statistics().kept <= 40 * MEGABYTE


def test_the_guard_looks_more_often_when_much_is_in_use() -> None:
    it = Process()
    calm = it.guard.look()
    it.connections = [Client(30)]
    assert it.guard.look() < calm


def test_memory_is_returned_after_a_peak_and_once() -> None:
    it = Process()
    it.guard.look()
    assert not it.guard.has_freed_much()
    it.connections = [Client(90)]
    it.resident = 150 * MEGABYTE
    it.guard.look()
    assert not it.guard.has_freed_much()
    it.connections = []
    it.guard.look()
    assert it.guard.has_freed_much()
    it.guard.note_returned()
    assert not it.guard.has_freed_much()


@pytest.mark.parametrize(("buffered", "kept"), [(60, 0), (0, 30), (40, 30), (90, 0)])
def test_memory_in_use_while_some_is_returned_is_returned_after_its_own_end(
    buffered: int, kept: int
) -> None:
    it = Process()
    it.guard.look()
    it.connections = [Client(buffered)]
    it.sessions = [Client(kept=kept)]
    it.resident = (50 + buffered + kept + 80) * MEGABYTE
    it.guard.look()
    assert it.guard.has_freed_much()
    it.resident -= 70 * MEGABYTE
    it.guard.note_returned()
    assert not it.guard.has_freed_much()
    it.connections, it.sessions = [], []
    it.resident += 50 * MEGABYTE
    it.guard.look()
    assert it.guard.has_freed_much()
    it.guard.note_returned()
    assert not it.guard.has_freed_much(), "the rest cannot be returned"


async def test_while_guarding_memory_is_watched_and_returned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = Process()
    it.guard.look()
    it.resident = 500 * MEGABYTE
    returned = asyncio.Event()
    loop = asyncio.get_running_loop()
    give_back = lambda: loop.call_soon_threadsafe(returned.set)  # noqa: E731
    monkeypatch.setattr(memory_guard, "returner", lambda: give_back)
    monkeypatch.setattr(memory_guard, "_CALM_S", 0.0)
    with guarding(it.guard):
        await returned.wait()


async def test_memory_is_returned_and_watched_on_without_memory_for_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = Process()
    it.guard.look()
    it.resident = 500 * MEGABYTE
    returned = asyncio.Semaphore(0)

    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    def give_back() -> None:
        it.resident += 100 * MEGABYTE
        returned.release()

    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", no_thread, raising=False)
    monkeypatch.setattr(memory_guard, "returner", lambda: give_back)
    monkeypatch.setattr(memory_guard, "_CALM_S", 0.0)
    with guarding(it.guard):
        await returned.acquire()
        it.resident += 100 * MEGABYTE
        await returned.acquire()


@pytest.mark.parametrize(
    ("available", "limit"), [(None, 600), (1200, 600), (1199, 599), (100, 50), (10**6, 600)]
)
def test_buffers_take_at_most_half_of_the_memory(
    available: int | None, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_guard, "available_bytes", lambda: available)
    with capture_logs() as logs:
        assert buffer_limit(600) == limit
    events: list[Any] = [entry["event"] for entry in logs]
    assert events == ([] if limit == 600 else ["memory.limit_lowered"])
