"""A log handler that never waits for the reader of a pipe."""

from __future__ import annotations

import logging
import os
import select
import stat
from typing import TextIO

ENTRIES_LOST = "log.entries_lost"
"""The event for dropped entries; its field ``entries`` is their number."""

_FILE_PORTION_BYTES = 1 << 20
# A pipe with any room takes this much without blocking.
_PORTION_BYTES = 512 if not hasattr(select, "PIPE_BUF") else select.PIPE_BUF


def handler_for(stream: TextIO) -> logging.Handler:
    """A handler for ``stream``: non-blocking if the stream has a file descriptor."""
    try:
        number = stream.fileno()
    except (AttributeError, OSError):
        return logging.StreamHandler(stream)
    if not hasattr(select, "poll"):
        return logging.StreamHandler(stream)
    return NonBlockingHandler(number, stream.encoding)


class NonBlockingWriter:
    """Writes whole lines to an open file, or nothing while that would block or is impossible.

    ``problem`` is why the last attempt to write was impossible, such as a full disk, or empty.
    """

    def __init__(self, number: int) -> None:
        self.problem = ""
        self._number = number
        self._room = select.poll()
        self._room.register(number, select.POLLOUT)
        # A regular file always has room, and takes a batch in one go.
        is_file = stat.S_ISREG(os.fstat(number).st_mode)
        self._portion = _FILE_PORTION_BYTES if is_file else _PORTION_BYTES
        self._unfinished = b""

    def has_room(self) -> bool:
        """Whether a portion can be written now."""
        return bool(self._room.poll(0))

    def take(self, lines: bytes) -> bool:
        """Write lines, or their beginning if there is no room for more; False if nothing fits.

        The rest is written before the next lines.
        """
        self._unfinished = self._written(self._unfinished)
        if self._unfinished:
            return False
        left = self._written(lines)
        if len(left) == len(lines):
            return False
        self._unfinished = left
        return True

    def _written(self, data: bytes) -> bytes:
        """Write as much as there is room for; return the rest."""
        while data and self._room.poll(0):
            try:
                data = data[os.write(self._number, data[: self._portion]) :]
            except BlockingIOError:
                break
            except OSError as error:
                self.problem = error.strerror or str(error)
                break
            self.problem = ""
        return data


class NonBlockingHandler(logging.Handler):
    """Writes entries as lines to an open file, and drops entries while it would block.

    Waiting for a full pipe would stop the event loop and with it every client. Before the next
    entry that fits, an ENTRIES_LOST entry reports the number of dropped ones.
    """

    def __init__(self, number: int, encoding: str) -> None:
        super().__init__()
        self._writer = NonBlockingWriter(number)
        self._encoding = encoding
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._lost and self._take(self.format(_loss(self._lost))):
                self._lost = 0
            if self._lost or not self._take(self.format(record)):
                self._lost += 1
        except Exception:  # noqa: BLE001 - as handlers of the standard library do
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - name of the base class
        # The report goes to stderr, which is probably this file.
        if self._writer.has_room():
            super().handleError(record)

    def _take(self, entry: str) -> bool:
        return self._writer.take(f"{entry}\n".encode(self._encoding, "backslashreplace"))


def _loss(number: int) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": "exai",
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": ENTRIES_LOST,
            "entries": number,
        }
    )
