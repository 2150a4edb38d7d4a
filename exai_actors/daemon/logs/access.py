"""The access log: one line for each request that has its outcome, as text or JSON.

It has its own file and its own path: a line costs a microsecond, which an entry of the log does
not, and a reader that does not read costs lines and never time.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from exai_actors.core.observe.request_ends import RequestEnd
from exai_actors.daemon.logs.nonblocking import ENTRIES_LOST, NonBlockingWriter
from exai_actors.errors import ConfigError

log = structlog.get_logger()

FLUSH_S = 0.1
"""How long a line may wait for those after it, with which it is written."""

FORMATTED_TOGETHER = 50
"""Ends that become lines in one go, which takes half as long as one by one."""

MAX_WAITING = 20 * FORMATTED_TOGETHER
"""Lines that wait are written when there are so many."""

CallLater = Callable[[float, Callable[[], None]], object]
TimedEnd = tuple[str, RequestEnd]

_json_encoder = msgspec.json.Encoder()
# Characters that a word without quotes must not have, beside those that cannot be printed.
_SPECIAL = frozenset(' "=\\')


class _Entry(msgspec.Struct, omit_defaults=True):
    """A line in JSON; its fields are listed in ``docs/reference/metrics.md``."""

    time: str
    request: str
    tenant: str
    session: str
    outcome: str
    provider: str
    model: str
    waited_s: float
    service_s: float
    attempts: int
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    code: str = ""
    api: str = ""


class AccessLog:
    """Writes to ``file``, or to stderr if it is None. ``wall`` is in seconds since the epoch.

    Raises ConfigError for a file that cannot be opened. A file that was renamed or removed, as by
    logrotate, is opened again under its name.
    """

    def __init__(
        self,
        form: Literal["text", "json"],
        file: Path | None,
        *,
        wall: Callable[[], float],
        call_later: CallLater,
    ) -> None:
        self._format = _json if form == "json" else _text
        self._loss = _json_loss if form == "json" else _text_loss
        self._file = file
        self._wall = wall
        self._call_later = call_later
        self._ends: list[tuple[float, RequestEnd]] = []
        # Each with FORMATTED_TOGETHER lines, except the last.
        self._portions: list[bytes] = []
        self._millisecond = 0
        self._time = ""
        self._lost = 0
        self._is_reported = False
        self._number = sys.stderr.fileno() if self._file is None else _opened(self._file)
        self._writer = NonBlockingWriter(self._number)

    def __call__(self, end: RequestEnd) -> None:
        """Note the end of a request."""
        ends = self._ends
        if not (ends or self._portions):
            self._call_later(FLUSH_S, self.flush)
        ends.append((self._wall(), end))
        if len(ends) == FORMATTED_TOGETHER:
            self._format_ends()
            if len(self._portions) * FORMATTED_TOGETHER >= MAX_WAITING:
                self.flush()

    def flush(self) -> None:
        """Write the lines that wait, as far as there is room."""
        if self._ends:
            self._format_ends()
        portions, self._portions = self._portions, []
        if not portions:
            return
        if self._file is not None:
            self._reopen_if_moved(self._file)
        loss = self._loss(self._shown(self._wall()), self._lost) if self._lost else b""
        if loss and self._writer.take(loss):
            self._lost = 0
        lines = b"".join(portions)
        # The log writes to stderr as well, perhaps between two portions of a batch.
        for portion in lines.splitlines(keepends=True) if self._file is None else [lines]:
            if self._lost or not self._writer.take(portion):
                self._lost += portion.count(b"\n")
        if self._file is not None:
            self._report(self._file)

    def _format_ends(self) -> None:
        ends, self._ends = self._ends, []
        self._portions.append(self._format([(self._shown(time), end) for time, end in ends]))

    def _report(self, file: Path) -> None:
        """Log once that the file takes no lines."""
        problem = self._writer.problem
        if problem and not self._is_reported:
            log.error("access.not_written", file=str(file), cause=problem)
        self._is_reported = bool(problem)

    def close(self) -> None:
        """Write the rest and close the file."""
        self.flush()
        if self._file is not None:
            os.close(self._number)

    def _shown(self, time: float) -> str:
        millisecond = int(time * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            date = datetime.fromtimestamp(millisecond // 1000, UTC)
            self._time = f"{date:%Y-%m-%dT%H:%M:%S}.{millisecond % 1000:03}Z"
        return self._time

    def _reopen_if_moved(self, file: Path) -> None:
        try:
            found = file.stat()
        except OSError:
            found = None
        opened = os.fstat(self._number)
        if found is not None and (found.st_ino, found.st_dev) == (opened.st_ino, opened.st_dev):
            return
        try:
            number = _opened(file)
        except ConfigError:
            return  # the old file still takes the lines
        os.close(self._number)
        self._number = number
        self._writer = NonBlockingWriter(number)


def _opened(file: Path) -> int:
    try:
        return os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"[logging] access_file: {file} cannot be opened: {error.strerror}"
        ) from error


def _json(ends: list[TimedEnd]) -> bytes:
    entries = [_entry(time, end) for time, end in ends]
    try:
        return _json_encoder.encode_lines(entries)
    except UnicodeEncodeError:  # half of a character, which only a client can send
        for entry in entries:
            entry.request, entry.model = _whole(entry.request), _whole(entry.model)
        return _json_encoder.encode_lines(entries)


def _entry(time: str, end: RequestEnd) -> _Entry:
    usage = end.usage
    return _Entry(
        time,
        end.request,
        end.tenant,
        end.session,
        end.outcome,
        end.provider,
        end.model,
        # round() would take twice as long.
        int(end.waited_s * 1000 + 0.5) / 1000,
        int(end.service_s * 1000 + 0.5) / 1000,
        end.attempts,
        None if usage is None else usage.prompt_tokens,
        None if usage is None else usage.completion_tokens,
        end.code,
        end.api,
    )


def _whole(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _text(ends: list[TimedEnd]) -> bytes:
    return "".join([_line(time, end) for time, end in ends]).encode()


def _line(time: str, end: RequestEnd) -> str:
    usage, code = end.usage, end.code
    tokens = "-" if usage is None else f"{usage.prompt_tokens}+{usage.completion_tokens}"
    return (
        f"{time} {end.outcome}{f' code={code}' if code else ''} tenant={end.tenant} "
        f"session={_word(end.session)} request={_word(end.request)} model={_word(end.model)} "
        f"provider={end.provider or '-'} waited={end.waited_s:.3f}s service={end.service_s:.3f}s "
        f"attempts={end.attempts} tokens={tokens}{f' api={end.api}' if end.api else ''}\n"
    )


def _word(text: str) -> str:
    """A word of a client, in quotes if it could be taken for more than one."""
    if text.isalnum():
        return text
    if not text:
        return "-"
    if text.isprintable() and _SPECIAL.isdisjoint(text):
        return text
    return json.dumps(text)


def _json_loss(time: str, lost: int) -> bytes:
    return _json_encoder.encode_lines([{"time": time, "message": ENTRIES_LOST, "entries": lost}])


def _text_loss(time: str, lost: int) -> bytes:
    return f"{time} {ENTRIES_LOST} entries={lost}\n".encode()
