"""Child processes that print a line when they are ready, and end with the test."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

READY_TIMEOUT_S = 45.0
STOP_TIMEOUT_S = 15.0


class NotReadyError(Exception):
    """The process ended or timed out before it was ready."""


def environment(*python_path: Path) -> dict[str, str]:
    """The environment of this process with exactly these folders as PYTHONPATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EXAI_")}
    return kept | {
        "PYTHONPATH": os.pathsep.join(map(str, python_path)),
        "PYTHONUNBUFFERED": "1",
    }


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    ready: str,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[str]:
    """Run ``command`` while the block runs; yields group 1 of the first match of ``ready``.

    Standard output and error both go to ``log``. Raises NotReadyError with the end of the log.
    """
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=None if env is None else dict(env),
        cwd=cwd,
        text=True,
        errors="replace",
    )
    watch = _Watch(process, re.compile(ready), log)
    try:
        yield watch.wait(READY_TIMEOUT_S)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        watch.join()


class _Watch:
    """Reads all output, so that the process never blocks on a full pipe."""

    def __init__(self, process: subprocess.Popen[str], ready: re.Pattern[str], log: Path) -> None:
        self._process = process
        self._ready = ready
        self._log = log
        self._found: str | None = None
        self._decided = threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"watch-{log.stem}", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> str:
        self._decided.wait(timeout_s)
        if self._found is not None:
            return self._found
        code = self._process.poll()
        state = "was not ready in time" if code is None else f"ended with code {code}"
        output = self._log.read_text()[-4000:]
        raise NotReadyError(f"{self._process.args!r} {state}; its output:\n{output}")

    def join(self) -> None:
        self._thread.join(STOP_TIMEOUT_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._log.open("w") as log:
            for line in self._process.stdout:
                log.write(line)
                log.flush()
                match = self._ready.search(line)
                if match and self._found is None:
                    self._found = match.group(1)
                    self._decided.set()
        self._decided.set()
