"""Parses an event stream (server-sent events) as its bytes arrive.

Follows the WHATWG HTML standard, section "Server-sent events": lines end with CR, LF or CRLF, a
blank line ends an event, lines that begin with a colon are comments, data lines are joined by LF,
one leading byte order mark is dropped, and bytes that are not UTF-8 become U+FFFD. ``id`` and
``retry`` are ignored, because nothing here reconnects.

The standard ignores much that would leave a hole in an answer, or hide its failure. It is read
here: a field ``error`` (llama.cpp), and bare lines that begin with that of a JSON object (gateways
that break off with their own error, on one line or pretty-printed), as an event of type ``error``;
an event of type ``error`` without data; other lines without a field, as an event of type
BARE_WORDS; a field ``data`` in capitals, or with blanks, NULs or a byte order mark before it; and
any other line that has a part of a chunk, as data.
"""

from __future__ import annotations

import msgspec

from exai_actors.errors import ExaiError

BOM = b"\xef\xbb\xbf"

BARE_WORDS = "bare words"
"""The type of events that are lines without a field."""

_LF = 0x0A
_CR = 0x0D
_COLON = 0x3A
_BLANKS = b" \t\0"
_CHUNK = b'"choices"'
_MAX_BARE_WORDS = 500


class EventTooLarge(ExaiError):
    """An event, or a line, is longer than the parser accepts."""


class ServerSentEvent(msgspec.Struct, frozen=True):
    """One event; ``event`` is its type, empty if the stream named none."""

    data: str
    event: str = ""


class SseParser:
    """Takes bytes in portions of any size and returns the events that they complete.

    ``max_event_bytes`` bounds an unfinished event.
    """

    __slots__ = (
        "_after_cr",
        "_bare_words",
        "_data",
        "_data_size",
        "_event",
        "_head",
        "_in_bare_json",
        "_max_bytes",
        "_partial_line",
        "_partial_size",
        "is_at_start",
        "is_between_events",
        "skipped",
    )

    def __init__(self, max_event_bytes: int) -> None:
        self._max_bytes = max_event_bytes
        self._head = b""
        self.is_at_start = True
        """Whether a byte order mark may come."""
        self.is_between_events = True
        """Whether the next byte begins an event."""
        self.skipped = 0
        """The number of comments, of blank lines without an event, and of unknown fields."""
        self._partial_line: list[bytes] = []
        self._partial_size = 0
        self._after_cr = False
        self._data: list[bytes] = []
        self._data_size = 0
        self._event = ""
        self._in_bare_json = False
        self._bare_words = b""

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that ``data`` completes. After EventTooLarge the parser is unusable."""
        self.is_between_events = False
        if self.is_at_start:
            data = self._drop_bom(data)
        if self._after_cr and data:
            self._after_cr = False
            if data[0] == _LF:
                data = data[1:]
        if _CR in data:
            self._after_cr = data[-1] == _CR
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if _LF not in data:
            self._keep(data)
            return []
        lines = data.split(b"\n")
        lines[0] = self._take_partial_line() + lines[0]
        rest = lines.pop()
        events: list[ServerSentEvent] = []
        for line in lines:
            if line.startswith(b"data:"):
                # The field of nearly every line, so it is tested first.
                self._add_data(line[6:] if line[5:6] == b" " else line[5:])
            elif not line:
                event = self._end_event()
                if event is None:
                    self.skipped += 1
                else:
                    events.append(event)
            elif line[0] == _COLON and not self._in_bare_json:
                self.skipped += 1
            else:
                self._read_field(line)
        if rest:
            self._keep(rest)
        else:
            # A line has ended, and all before it.
            self.is_between_events = not (
                self._after_cr
                or self._data
                or self._event
                or self._bare_words
                or self._in_bare_json
            )
        return events

    def take_unterminated(self) -> ServerSentEvent | None:
        """The event that the end of the stream cut off; the standard discards it."""
        if line := self._take_partial_line():
            self._read_field(line)
        return self._end_event()

    def _drop_bom(self, data: bytes) -> bytes:
        data = self._head + data
        if len(data) < len(BOM) and BOM.startswith(data):
            self._head = data
            return b""
        self.is_at_start = False
        return data.removeprefix(BOM)

    def _keep(self, partial: bytes) -> None:
        if partial:
            self._partial_line.append(partial)
            self._partial_size += len(partial)
            self._check(self._partial_size)

    def _take_partial_line(self) -> bytes:
        line = b"".join(self._partial_line)
        self._partial_line.clear()
        self._partial_size = 0
        return line

    def _read_field(self, line: bytes) -> None:
        self._check(len(line))
        if self._in_bare_json:
            self._add_data(line)
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._add_data(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"error" or line.startswith(b"{"):
            self._event = "error"
            self._in_bare_json = name != b"error"
            self._add_data(value if name == b"error" else line)
        elif (plain := name.removeprefix(BOM).strip(_BLANKS).lower()) == b"data" or _CHUNK in line:
            self._add_data(value if plain == b"data" else line)
        elif plain not in (b"id", b"retry"):
            self._bare_words = self._bare_words or line[:_MAX_BARE_WORDS]
            self.skipped += 1
        else:
            self.skipped += 1

    def _add_data(self, value: bytes) -> None:
        self._data.append(value)
        self._data_size += len(value) + 1
        self._check(self._data_size)

    def _end_event(self) -> ServerSentEvent | None:
        event = None
        if self._data:
            data = b"\n".join(self._data).decode("utf-8", "replace")
            event = ServerSentEvent(data, self._event)
            self._data.clear()
            self._data_size = 0
        elif self._event == "error":
            event = ServerSentEvent("", "error")
        elif self._bare_words:
            event = ServerSentEvent(self._bare_words.decode("utf-8", "replace"), BARE_WORDS)
        self._event = ""
        self._bare_words = b""
        self._in_bare_json = False
        return event

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            raise EventTooLarge(f"an event of the stream is larger than {self._max_bytes} bytes")
