"""The event stream format (server-sent events), parsed as the bytes come in.

Follows the WHATWG HTML standard, section "Server-sent events": lines end with CR, LF or CRLF, a
blank line ends an event, lines that begin with a colon are comments, several data lines are joined
by LF, one leading byte order mark is dropped, bytes that are not UTF-8 become U+FFFD, and an event
that the end of the stream cuts off is discarded. ``retry`` is ignored, as nothing here reconnects.

Beyond the standard, which passes over both, a field ``error`` (llama.cpp) and a bare line that
begins a JSON object (gateways that break off with an error of their own) are data of an event of
type ``error``.
"""

from __future__ import annotations

import msgspec

from exai_actors.errors import ExaiError

BOM = b"\xef\xbb\xbf"


class EventTooLarge(ExaiError):
    """One event, or one line, is longer than the parser was told to accept."""


class ServerSentEvent(msgspec.Struct, frozen=True):
    """One event. ``event`` is empty where the stream named no type; ``id`` is the last one told."""

    data: str
    event: str = ""
    id: str = ""


class SseParser:
    """Takes bytes in any portions and gives the events they complete.

    ``max_event_bytes`` bounds what an unfinished event may hold.
    """

    def __init__(self, max_event_bytes: int) -> None:
        self._max = max_event_bytes
        self._head: bytes | None = b""
        self._partial: list[bytes] = []
        self._partial_size = 0
        self._after_cr = False
        self._data: list[bytes] = []
        self._data_size = 0
        self._event = ""
        self._id = ""
        self._seen_fields = False

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that these bytes complete. Raises EventTooLarge; the parser is then spent."""
        if self._head is not None:
            data = self._drop_bom(data)
        if self._after_cr and data:
            self._after_cr = False
            if data[0] == 0x0A:
                data = data[1:]
        if b"\r" in data:
            self._after_cr = data[-1] == 0x0D
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in data:
            self._keep(data)
            return []
        lines = data.split(b"\n")
        if self._partial:
            self._partial.append(lines[0])
            lines[0] = b"".join(self._partial)
            self._partial.clear()
            self._partial_size = 0
        rest = lines.pop()
        events: list[ServerSentEvent] = []
        for line in lines:
            if line.startswith(b"data:"):
                # The one field of nearly every line, so it is taken before the general rule.
                self._add_data(line[6:] if line[5:6] == b" " else line[5:])
            elif line:
                self._field(line)
            elif (event := self._end_of_event()) is not None:
                events.append(event)
        self._keep(rest)
        return events

    def close(self) -> bool:
        """The stream has ended. Says whether it ended between two events, so nothing was cut."""
        return not (self._partial or self._seen_fields or self._head)

    def cut_off(self) -> ServerSentEvent | None:
        """The event within which the stream has ended. The standard discards it."""
        if self._partial:
            self._field(b"".join(self._partial))
            self._partial.clear()
            self._partial_size = 0
        return self._end_of_event()

    def _drop_bom(self, data: bytes) -> bytes:
        data = (self._head or b"") + data
        if len(data) < len(BOM) and BOM.startswith(data):
            self._head = data
            return b""
        self._head = None
        return data.removeprefix(BOM)

    def _keep(self, partial: bytes) -> None:
        if partial:
            self._partial.append(partial)
            self._partial_size += len(partial)
            self._check(self._partial_size)

    def _field(self, line: bytes) -> None:
        self._check(len(line))
        if line[0] == 0x3A:
            return
        self._seen_fields = True
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._add_data(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif name == b"error" or line[0] == 0x7B:
            self._event = "error"
            self._add_data(value if name == b"error" else line)

    def _add_data(self, value: bytes) -> None:
        self._seen_fields = True
        self._data.append(value)
        self._data_size += len(value) + 1
        if self._data_size > self._max:
            self._check(self._data_size)

    def _end_of_event(self) -> ServerSentEvent | None:
        event = None
        data = self._data
        if data:
            text = data[0] if len(data) == 1 else b"\n".join(data)
            event = ServerSentEvent(text.decode("utf-8", "replace"), self._event, self._id)
            data.clear()
            self._data_size = 0
        self._event = ""
        self._seen_fields = False
        return event

    def _check(self, size: int) -> None:
        if size > self._max:
            raise EventTooLarge(f"an event of the stream is larger than {self._max} bytes")
