"""Finds members of the outermost object in text that is not valid JSON.

A frame that cannot be parsed is still answered under its id. This scanner finds the id without
recursion, ignores the inside of nested values, and takes time linear in the text and at most
``MAX_STEPS`` steps, so that no text blocks the event loop.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

MAX_STEPS = 250_000
"""About a fifth of a second."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SPACE = re.compile(rb"[ \t\r\n\x00\xef\xbb\xbf]*+")
_SCALAR = re.compile(rb'[^\s,:"\[\]{}\x00]++')
_TO_STRING_OR_BRACKET = re.compile(rb'[^"\[\]{}]*+')
_STRING_OR_BRACKETS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]++|[\]}]++', re.DOTALL)

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

    def skip_nested(self) -> None:
        """Skip one bracketed value; everything if it is never closed."""
        depth = 0
        for token in _STRING_OR_BRACKETS.finditer(self.text, self.position):
            self._spend()
            start, end = token.span()
            first = self.text[start]
            if first in b"[{":
                depth += end - start
            elif first in b"]}":
                if end - start >= depth:
                    self.position = start + depth
                    return
                depth -= end - start
        self.position = len(self.text)

    def _spend(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise _OutOfSteps


def salvage(text: bytes, names: frozenset[str]) -> dict[str, Any]:
    """The members of the outermost object named in ``names``, as far as they can be found.

    Nested values are None. Text that does not begin an object gives ``{}``.
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
                name = scanner.skip(_STRING)
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
    if scanner.peek() in (b"[", b"{"):
        scanner.skip_nested()
    else:
        value = _scalar(scanner.skip(_STRING) or scanner.skip(_SCALAR))
    if name in names:
        found[name] = value


def _scalar(text: bytes) -> Any:
    """The value that ``text`` encodes; None if it encodes none."""
    try:
        return _parse(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
