from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from exai_actors.edges.fd_limit import client_fd_ceiling, raise_fd_limit


@pytest.fixture(autouse=True)
def _restore_limit() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def soft_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_the_limit_is_raised_as_far_as_needed() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    assert raise_fd_limit(600) is None
    assert 600 < soft_limit() < 1200


def test_a_limit_that_is_high_enough_is_left_alone() -> None:
    before = soft_limit()
    assert raise_fd_limit(10) is None
    assert soft_limit() == before


def test_a_hard_limit_that_is_too_low_is_said_with_figures_and_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hard = 4096
    monkeypatch.setattr(resource, "getrlimit", lambda _: (512, hard))
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits))
    warning = raise_fd_limit(10_000)
    monkeypatch.undo()
    assert raised == [(hard, hard)]
    assert warning is not None
    assert "10000 connections" in warning
    assert "ulimit -n 10256" in warning
    assert "max_connections" in warning


@pytest.mark.parametrize(
    ("limit", "most"),
    [(64, 48), (256, 192), (1256, 1128), (resource.RLIM_INFINITY, float("inf"))],
)
def test_some_files_are_not_for_clients(
    monkeypatch: pytest.MonkeyPatch, limit: int, most: float
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert client_fd_ceiling() == most
