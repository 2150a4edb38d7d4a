"""The statistics of the broker, read without a message."""

from __future__ import annotations

from exai_actors.actors.statistics_board import StatisticsBoard
from exai_actors.core.statistics import ListenerStatistics, ProviderStatistics
from exai_actors.ids import ProviderName
from exai_actors.testing.clock import ManualClock
from exai_actors.testing.tree import ManualTree


def test_a_board_without_actors_reports_zeros_and_its_age() -> None:
    clock = ManualClock(now=100.0)
    board = StatisticsBoard("1.2", clock.now, lambda: 3)
    clock.advance(5.0)
    statistics = board.statistics()
    assert (statistics.version, statistics.uptime_s, statistics.dead_letters) == ("1.2", 5.0, 3)
    assert (statistics.connections, statistics.sessions, statistics.draining) == (0, 0, False)
    assert statistics.providers == ()


def test_an_actor_that_registers_again_replaces_its_earlier_incarnation() -> None:
    board = StatisticsBoard("1.2", lambda: 0.0, lambda: 0)
    for connections in (1, 2):
        found = ListenerStatistics(connections, 7, draining=True)
        board.register_listener(lambda found=found: found)  # type: ignore[misc]
    statistics = board.statistics()
    assert (statistics.connections, statistics.sessions, statistics.draining) == (2, 7, True)


def test_a_provider_has_its_configured_models_until_its_service_lists_others() -> None:
    tree = ManualTree()
    tree.settle()
    assert tree.statistics().models == ("moon",)


def test_whether_a_request_waits_at_any_provider_costs_no_statistics() -> None:
    def statistics() -> ProviderStatistics:
        raise AssertionError("the figures of a provider cost too much for this")

    board = StatisticsBoard("1.2", lambda: 0.0, lambda: 0)
    assert not board.has_queued
    queued = [0, 0]
    board.register_provider(
        ProviderName("near"), statistics, lambda *_: None, tuple, lambda: queued[0]
    )
    board.register_provider(
        ProviderName("far"), statistics, lambda *_: None, tuple, lambda: queued[1]
    )
    assert not board.has_queued
    queued[1] = 1
    assert board.has_queued


def test_a_closed_provider_has_no_waiting_requests() -> None:
    def statistics() -> ProviderStatistics:
        raise ValueError("planted")

    board = StatisticsBoard("1.2", lambda: 0.0, lambda: 0)
    name = ProviderName("kimi")
    board.register_provider(name, statistics, lambda *_: None, tuple, lambda: 1)
    board.close_provider(name, "failed too often")
    assert not board.has_queued
