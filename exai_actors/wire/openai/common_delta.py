"""Reads the most common events of a streamed answer, those of OpenAI's API reference, in one pass.

Most data of a stream is one or more of ``data: {...}``, each with one piece of text, and each at a
tenth of what the general path in ``stream`` costs. For the events that it accepts, the result
equals that of the general path, to which it leaves all others: with another field, a line end other
than LF, a member that is not named here, or a value of another type.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

_Empty = Annotated[list[None], Meta(max_length=0)]
_Count = Annotated[int, Meta(ge=0, le=10**12)]
_LF, _CR = 0x0A, 0x0D

MAX_BYTES = 1 << 16
"""Of data that is read in one pass: no event in it is too large for the general path."""


class Delta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    role: str | None = None
    refusal: None = None
    tool_calls: _Empty | None = None
    function_call: None = None


class Choice(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    delta: Delta
    index: Literal[0] | None = None
    finish_reason: Literal["stop", "length"] | None = None
    logprobs: None = None
    stop_reason: None = None
    matched_stop: None = None
    token_ids: None = None
    native_finish_reason: str | None = None


class Chunk(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    choices: Annotated[list[Choice], Meta(min_length=1, max_length=1)]
    model: str | None = None
    id: str | None = None
    object: str | None = None
    created: int | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    provider: str | None = None
    obfuscation: str | None = None
    usage: None = None
    error: None = None


class Counts(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The event behind the last choice, which has the token counts of the answer."""

    choices: _Empty
    usage: dict[str, _Count | dict[str, _Count | None] | None]
    model: str | None = None
    id: str | None = None
    object: Literal["chat.completion.chunk"] | None = None
    created: int | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    provider: str | None = None
    obfuscation: str | None = None
    error: None = None


_decode = msgspec.json.Decoder(Chunk).decode
_decode_counts = msgspec.json.Decoder(Counts).decode
_texts = msgspec.json.Decoder(str)
_decode_text, _decode_texts = _texts.decode, _texts.decode_lines
_NOT_COMMON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_CONTENT = re.compile(rb'"content": ?"')


class Template:
    """The bytes around the text in an event that is nothing but a piece of text."""

    __slots__ = ("_before", "_between", "_end", "_from", "_least_of_two", "_to")

    def __init__(self, before: bytes, after: bytes) -> None:
        """Both include a quotation mark of the text; ``after`` ends with the line."""
        self._before = before
        self._end = after + b"\n\n"
        self._between = self._end + before
        self._least_of_two = 2 * len(self._between)
        self._from, self._to = len(before) - 1, 1 - len(self._end)

    def read(self, data: bytes) -> tuple[str, bytes]:
        """The text of such events that ``data`` begins with, and its rest.

        Without text, as where another event is between them, nothing of ``data`` counts as read.
        """
        if not data.startswith(self._before):
            return "", data
        events, rest = data, b""
        if not data.endswith(self._end):
            end = data.rfind(self._end) + len(self._end)
            events, rest = data[:end], data[end:]
        value = events[self._from : self._to]
        try:
            if len(events) < self._least_of_two:
                return _decode_text(value), rest
            values = value.split(self._between)
            texts = _decode_texts(b'"\n"'.join(values))
        except _NOT_COMMON:
            return "", data
        # More texts than values: an event has a line end and another text.
        if len(texts) != len(values) or len(events) > MAX_BYTES:
            return "", data
        return "".join(texts), rest


def template_of(event: bytes, chunk: Chunk) -> Template | None:
    """The template of the line of an event, which is ``chunk``; None if it has none."""
    found = _CONTENT.search(event)
    if found is None:
        return None
    before = event[: found.end()]
    after = event[event.find(b'"', found.end()) :]
    # With another text in its place, this must be the text, and all the rest the same.
    try:
        other = _decode(before[5:] + after)
    except _NOT_COMMON:
        return None
    delta = other.choices[0].delta
    if delta.content != "":
        return None
    delta.content = chunk.choices[0].delta.content
    return Template(before, after) if other == chunk else None


def read_counts(data: bytes) -> tuple[Counts, bytes, bytes] | None:
    """The counts, their event's JSON, and what follows it, if ``data`` begins with such an event.

    ``data`` must begin where an event may begin.
    """
    end = data.find(b"\n\n")
    if end < 0 or end > MAX_BYTES or not data.startswith(b"data:"):
        return None
    document = data[5:end].removeprefix(b" ")
    if b"\n" in document or _CR in document:
        return None
    try:
        return _decode_counts(document), document, data[end + 2 :]
    except _NOT_COMMON:
        return None


def read_common_events(data: bytes, *, until_text: bool = False) -> tuple[list[Chunk], bytes]:
    """The chunks that ``data`` begins with, and its rest, for the general path.

    ``data`` must begin where an event may begin. ``until_text``: read none behind the first with
    text.
    """
    found: list[Chunk] = []
    start = 0
    if len(data) > MAX_BYTES or _CR in data:
        return found, data
    while data.startswith(b"data:", start):
        end = data.find(b"\n", start)
        # The blank line that ends the event.
        if end < 0 or end + 1 == len(data) or data[end + 1] != _LF:
            break
        try:
            chunk = _decode(data[start + 5 : end])
        except _NOT_COMMON:
            break
        found.append(chunk)
        start = end + 2
        if until_text and chunk.choices[0].delta.content:
            break
    return found, data[start:]
