"""The audit file: JSON lines, written on a thread of its own, within a bounded size on disk."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sys
import threading
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

import structlog

from exai_actors.errors import ConfigError

log = structlog.get_logger()

MAX_WAITING = 10_000
"""Lines that wait for a slow disk; further ones are lost, and reported."""
CLOSE_S = 2.0


class AuditFile:
    """Appends lines to a file that only its owner can read.

    A file of ``max_bytes`` is renamed to ``NAME.1``, and so on up to ``NAME.kept``. Raises
    ConfigError if it cannot be opened.
    """

    def __init__(self, path: Path, max_bytes: int, kept: int) -> None:
        self._path = path
        try:
            self._handler = _PrivateFile(path, max_bytes, kept)
        except OSError as error:
            raise ConfigError(
                f"[audit] file: {path} cannot be written: {error.strerror}; name another file, or "
                "an empty text for none"
            ) from None
        self._lines: queue.Queue[bytes | None] = queue.Queue(MAX_WAITING)
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name="exai-audit", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Hand over a line; never waits."""
        if self._lost and self._lines.empty():
            log.warning("audit.entries_lost", file=str(self._path), entries=self._lost)
            self._lost = 0
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._lost += 1
            if self._lost == 1:
                log.error("audit.not_written", file=str(self._path), cause="the disk is too slow")

    def close(self) -> None:
        """Write the lines that were handed over, but wait for a slow disk for CLOSE_S only."""
        try:
            self._lines.put(None, timeout=CLOSE_S)
        except queue.Full:
            return
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        failed = False
        while (line := self._lines.get()) is not None:
            problem = self._handler.append(line)
            if problem is not None and not failed:
                log.error("audit.not_written", file=str(self._path), cause=problem)
            failed = problem is not None
        # The lines that a full disk did not take are reported already.
        with contextlib.suppress(OSError):
            self._handler.close()


class _PrivateFile(RotatingFileHandler):
    def __init__(self, path: Path, max_bytes: int, kept: int) -> None:
        self._problem: str | None = None
        self._named = path
        super().__init__(path, maxBytes=max_bytes, backupCount=kept, encoding="utf-8")

    def append(self, line: bytes) -> str | None:
        """Write a line; return why that is not possible now."""
        self._problem = None
        self._leave_moved()
        self.emit(logging.makeLogRecord({"msg": line.decode()}))
        return self._problem

    def _leave_moved(self) -> None:
        """Close a file that was renamed or removed: the next line opens it under its name."""
        if self.stream is None:
            return
        with contextlib.suppress(OSError):
            if os.path.samestat(self._named.stat(), os.fstat(self.stream.fileno())):
                return
        # The lines that a full disk did not take are reported already.
        with contextlib.suppress(OSError):
            self.stream.close()
        self.stream = None

    def _open(self) -> TextIOWrapper:
        return open(
            self.baseFilename,
            "a",
            encoding="utf-8",
            opener=lambda path, flags: os.open(path, flags, 0o600),
        )

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - of the base
        self._problem = str(sys.exception())
