"""Servers in separate processes, and their CPU time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_READY_WITHIN_S = 30.0


class Process:
    """A started server. ``address`` is where it listens, ``started_in`` the seconds that took."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        began = time.perf_counter()
        with log.open("ab") as stderr:
            self._child = subprocess.Popen(
                [sys.executable, *command],
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=ROOT,
                env=environment,
                text=True,
                # A Ctrl-C is for this process, which then stops the server.
                start_new_session=True,
            )
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        self.started_in = time.perf_counter() - began
        if not line.startswith("ready "):
            self.stop()
            raise RuntimeError(f"{' '.join(command)} did not start; see {log}:\n{log.read_text()}")
        host, _, port = line.split("//")[1].split("/")[0].strip().rpartition(":")
        self.address = (host, int(port))

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all its threads, to the nanosecond where Linux keeps it."""
        tasks = Path(f"/proc/{self._child.pid}/task")
        return (
            sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9
        )

    @property
    def resident_kib(self) -> int:
        status = Path(f"/proc/{self._child.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def stop(self) -> None:
        self._child.terminate()
        try:
            self._child.wait(_READY_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        assert self._child.stdout is not None
        self._child.stdout.close()


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[Process]:
    process = Process(command, log)
    try:
        yield process
    finally:
        process.stop()
