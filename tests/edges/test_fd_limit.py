from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator

import pytest

from exai_actors.edges.fd_limit import raise_fd_limit, room_for_clients


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


def test_the_limit_is_raised_for_strangers_too_but_only_clients_must_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (512, 1000))
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits))
    assert raise_fd_limit(300, 200) is None
    assert raise_fd_limit(300, 2000) is None
    monkeypatch.undo()
    assert raised == [(756, 1000), (1000, 1000)]


def test_a_limit_that_is_high_enough_is_left_alone() -> None:
    before = soft_limit()
    assert raise_fd_limit(10) is None
    assert soft_limit() == before


def test_a_hard_limit_that_is_too_low_is_reported_with_figures_and_remedy(
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


@pytest.mark.parametrize(("limit", "reserved"), [(64, 16), (256, 64), (1256, 128)])
def test_the_last_files_are_not_for_clients(limit: int, reserved: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    files = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while room_for_clients():
            files.append(os.open(os.devnull, os.O_RDONLY))
        assert files[-1] == limit - reserved - 1
        os.close(files.pop())
        assert room_for_clients()
    finally:
        for file in files:
            os.close(file)


def test_without_any_file_left_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_many_open_files(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", too_many_open_files)
    assert not room_for_clients()


def test_an_unlimited_number_of_files_always_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: unlimited)
    assert room_for_clients()


def test_asking_for_room_leaves_no_file_open() -> None:
    def next_fd() -> int:
        fd = os.open(os.devnull, os.O_RDONLY)
        os.close(fd)
        return fd

    before = next_fd()
    room_for_clients()
    assert next_fd() == before
