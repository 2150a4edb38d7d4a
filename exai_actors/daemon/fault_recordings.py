"""The folder with recordings of the minutes before faults."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

import structlog

log = structlog.get_logger()

KEPT = 20
SUFFIX = ".exai"


class FaultRecordings:
    """Writes recordings to files that only their owner can read; keeps the newest KEPT."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writing: set[asyncio.Task[str | None]] = set()

    def save(self, lines: list[bytes], fault: str) -> None:
        """Write a file on another thread. On the loop's thread only."""
        task = asyncio.ensure_future(asyncio.to_thread(self.write, lines, fault))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def close(self) -> None:
        """Wait for files that are being written."""
        if self._writing:
            await asyncio.wait(self._writing)

    def write(self, lines: list[bytes], fault: str) -> str | None:
        """Write a file now; log, and return, the problem if that is impossible. On any thread."""
        name = f"fault-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}{SUFFIX}"
        file = self._folder / name
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "wb") as opened:
                opened.write(b"\n".join([*lines, b""]))
            for old in sorted(self._folder.glob(f"fault-*{SUFFIX}"))[:-KEPT]:
                with contextlib.suppress(FileNotFoundError):
                    old.unlink()
        except OSError as error:
            cause = error.strerror or str(error)
            log.error("recording.not_saved", file=str(file), cause=cause)
            return f"{file} cannot be written: {cause}"
        log.info("recording.saved", file=str(file), fault=fault)
        return None
