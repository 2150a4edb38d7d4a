"""Servers in separate processes, and their CPU time and memory."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
_READY_WITHIN_S = 30.0
_CALM_WITHIN_S = 10.0
# A server that takes less of a core than this has done what its last clients left behind.
_CALM = 0.03


class Process:
    """A started server. ``address`` is where it listens, ``started_in`` the seconds that took.

    It says ``ready URL`` itself, unless the ``port`` is given on which it will listen.
    """

    def __init__(
        self, command: Sequence[str | Path], log: Path, *, port: int = 0, tree: Path = ROOT
    ) -> None:
        began = time.perf_counter()
        child: subprocess.Popen[str] | None = None
        try:
            with log.open("ab") as stderr, signals_wait():
                self._child = child = subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    cwd=tree,
                    env={**os.environ, "PYTHONPATH": str(tree)},
                    text=True,
                    # A Ctrl-C is for this process, which then stops the server.
                    start_new_session=True,
                )
            self.address = self._listens_on(port) if port else self._says()
        except BaseException as error:
            if child is not None:
                self.stop()
            if isinstance(error, _NotReady):
                command_line = " ".join(map(str, command))
                raise RuntimeError(
                    f"{command_line} did not start; see {log}:\n{log.read_text()}"
                ) from None
            raise
        self.started_in = time.perf_counter() - began

    def _says(self) -> tuple[str, int]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line.startswith("ready "):
            raise _NotReady
        host, _, port = line.split("//")[1].split("/")[0].strip().rpartition(":")
        return host, int(port)

    def _listens_on(self, port: int) -> tuple[str, int]:
        until = time.monotonic() + _READY_WITHIN_S
        while self._child.poll() is None and time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return "127.0.0.1", port
            time.sleep(0.02)
        raise _NotReady

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all its threads and children, to the ns where Linux keeps it."""
        return sum(_cpu_ns(process) for process in _tree(self._child.pid)) / 1e9

    @property
    def resident_kib(self) -> int:
        return sum(_resident_kib(process) for process in _tree(self._child.pid))

    def becomes_calm(self) -> None:
        """Wait, ten seconds at most, until it has dealt with the clients that left."""
        until = time.monotonic() + _CALM_WITHIN_S
        before, calm = self.cpu_seconds, False
        while not calm and time.monotonic() < until:
            time.sleep(0.1)
            now = self.cpu_seconds
            calm, before = now - before < 0.1 * _CALM, now

    def stop(self) -> None:
        self._child.terminate()
        try:
            self._child.wait(_READY_WITHIN_S)
        except BaseException as error:
            self._child.kill()
            self._child.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
        finally:
            assert self._child.stdout is not None
            self._child.stdout.close()


class _NotReady(Exception):
    """The server ended, or does not listen."""


def _tree(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, children.read_text().split())
    return found


def _cpu_ns(pid: int) -> int:
    spent = 0
    for schedule in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError):  # a thread that has ended meanwhile
            spent += int(schedule.read_text().split()[0])
    return spent


def _resident_kib(pid: int) -> int:
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])
    return 0


@contextmanager
def running(command: Sequence[str], log: Path, *, tree: Path = ROOT) -> Iterator[Process]:
    """A Python program, with this command line behind the interpreter, while the block runs."""
    process = Process([sys.executable, *command], log, tree=tree)
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def running_program(
    command: Sequence[str | Path], log: Path, *, port: int = 0
) -> Iterator[Process]:
    """Another program, while the block runs."""
    process = Process(command, log, port=port)
    try:
        yield process
    finally:
        process.stop()


_ENDING = (signal.SIGINT, signal.SIGTERM)


class _Signals:
    """Ends this process by an exception, so that the servers it started end, too."""

    def __init__(self) -> None:
        self._holds_back = False
        self._held_back = 0

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self._holds_back:
            self._held_back = number
        else:
            self._end(number)

    @contextmanager
    def wait(self) -> Iterator[None]:
        self._holds_back = True
        try:
            yield
        finally:
            self._holds_back = False
            if self._held_back:
                self._end(self._held_back)

    def _end(self, number: int) -> NoReturn:
        for each in _ENDING:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)


_signals = _Signals()


def end_by_signals() -> None:
    """Let SIGTERM end this process as Ctrl-C does."""
    for number in _ENDING:
        signal.signal(number, _signals)


def signals_wait() -> AbstractContextManager[None]:
    """Hold back the signals of ``end_by_signals`` while a child starts: it would not be known."""
    return _signals.wait()
