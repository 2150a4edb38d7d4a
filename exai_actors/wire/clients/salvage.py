"""Finds members of the outermost object in text that is not valid JSON.

A frame that cannot be parsed is still answered under its id. This scanner finds the id without
recursion, ignores the inside of nested values, skips a string in one step for each quote in it, and
takes at most ``MAX_STEPS`` steps, so that no text blocks the event loop.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from exai_actors.wire.clients.dialects.fields import MAX_ID_BYTES

MAX_STEPS = 50_000
"""Some 50 ms."""

_SPACE = re.compile(rb"[ \t\r\n\x00\xef\xbb\xbf]*+")
_SCALAR = re.compile(rb'[^\s,:"\[\]{}\x00]++')
_TO_STRING_OR_BRACKET = re.compile(rb'[^"\[\]{}]*+')
_TO_QUOTE_OR_BRACKETS = re.compile(rb'[^"\[\]{}]*+("|[\[{]++|[\]}]++)')

_parse = msgspec.json.Decoder().decode


class _OutOfSteps(Exception):
    """The text has more tokens than MAX_STEPS."""


class _Scanner:
    """A position in the text, and the number of steps left."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.position = 0
        self.steps = MAX_STEPS

    def skip(self, pattern: re.Pattern[bytes]) -> bytes:
        """Skip and return a match of ``pattern`` at the position; empty if there is none."""
        self._spend()
        found = pattern.match(self.text, self.position)
        if found is None:
            return b""
        self.position = found.end()
        return found.group()

    def peek(self) -> bytes:
        """Skip white space and return the next byte; empty at the end."""
        self.skip(_SPACE)
        return self.text[self.position : self.position + 1]

    def skip_string(self) -> bytes:
        """Skip and return the string that begins at the position; all, and empty, if it is open."""
        start = self.position
        self.position += 1
        while True:
            self._spend()
            quote = self.text.find(b'"', self.position)
            if quote < 0:
                self.position = len(self.text)
                return b""
            before = self.text[self.position : quote]
            self.position = quote + 1
            if (len(before) - len(before.rstrip(b"\\"))) % 2 == 0:
                return self.text[start : quote + 1]

    def skip_nested(self) -> None:
        """Skip one bracketed value; everything if it is never closed."""
        depth = 0
        while (token := _TO_QUOTE_OR_BRACKETS.match(self.text, self.position)) is not None:
            self._spend()
            start, end = token.span(1)
            first = self.text[start]
            if first in b"[{":
                depth += end - start
            elif first in b"]}":
                if end - start >= depth:
                    self.position = start + depth
                    return
                depth -= end - start
            else:
                self.position = start
                self.skip_string()
                continue
            self.position = end
        self.position = len(self.text)

    def _spend(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise _OutOfSteps


def salvage(text: bytes, names: frozenset[str]) -> dict[str, Any]:
    """The members of the outermost object named in ``names``, as far as they can be found.

    Nested values are None, and so are those of more than ``MAX_ID_BYTES``. Text that does not
    begin an object gives ``{}``.
    """
    found: dict[str, Any] = {}
    scanner = _Scanner(text)
    try:
        _members(scanner, names, found)
    except _OutOfSteps:
        return found
    return found


def _members(scanner: _Scanner, names: frozenset[str], found: dict[str, Any]) -> None:
    if scanner.peek() != b"{":
        return
    scanner.position += 1
    while True:
        scanner.skip(_TO_STRING_OR_BRACKET)
        match scanner.peek():
            case b'"':
                name = scanner.skip_string()
                if not name:
                    return
                if scanner.peek() == b":":
                    scanner.position += 1
                    _member(scanner, _scalar(name), names, found)
            case b"[" | b"{":
                scanner.skip_nested()
            case _:
                return


def _member(scanner: _Scanner, name: Any, names: frozenset[str], found: dict[str, Any]) -> None:
    value = None
    match scanner.peek():
        case b"[" | b"{":
            scanner.skip_nested()
        case b'"':
            value = _scalar(scanner.skip_string())
        case _:
            value = _scalar(scanner.skip(_SCALAR))
    if name in names:
        found[name] = value


def _scalar(text: bytes) -> Any:
    """The value that ``text`` encodes; None if it encodes none, or is too long."""
    if len(text) > MAX_ID_BYTES:
        return None
    try:
        return _parse(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
