"""Where the log goes out: to a file that may be a pipe, without waiting for who reads it."""

from __future__ import annotations

import logging
import os
import select
from typing import TextIO

ENTRIES_LOST = "log.entries_lost"
"""The event for dropped entries; its field ``entries`` is their number."""

# As much as goes in without waiting once there is room at all.
_PORTION_BYTES = 512 if not hasattr(select, "PIPE_BUF") else select.PIPE_BUF


def handler_for(stream: TextIO) -> logging.Handler:
    """A handler for a stream; one that never waits if there is a file beneath it."""
    try:
        number = stream.fileno()
    except (AttributeError, OSError):
        return logging.StreamHandler(stream)
    if not hasattr(select, "poll"):
        return logging.StreamHandler(stream)
    return NonBlockingHandler(number, stream.encoding)


class NonBlockingHandler(logging.Handler):
    """Writes entries as lines to an open file.

    A pipe that nobody reads would hold up who writes to it, and that is the event loop, with every
    client. An entry that finds no room is lost, and the next that finds some goes behind one that
    says how many were.
    """

    def __init__(self, number: int, encoding: str) -> None:
        super().__init__()
        self._number = number
        self._encoding = encoding
        self._room = select.poll()
        self._room.register(number, select.POLLOUT)
        self._begun = b""
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._lost and self._take(self.format(_loss(self._lost))):
                self._lost = 0
            if self._lost or not self._take(self.format(record)):
                self._lost += 1
        except Exception:  # noqa: BLE001 - as every handler of the standard library
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        # It is told on stderr, which is likely to be the very file.
        if self._room.poll(0):
            super().handleError(record)

    def _take(self, entry: str) -> bool:
        """Write an entry, or at least its beginning if that is all there is room for."""
        self._begun = self._written(self._begun)
        if self._begun:
            return False
        line = f"{entry}\n".encode(self._encoding, "backslashreplace")
        left = self._written(line)
        if len(left) == len(line):
            return False
        self._begun = left
        return True

    def _written(self, data: bytes) -> bytes:
        """Write what there is room for; return the rest."""
        while data and self._room.poll(0):
            try:
                data = data[os.write(self._number, data[:_PORTION_BYTES]) :]
            except BlockingIOError:
                break
        return data


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
