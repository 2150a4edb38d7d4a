"""Reading the outermost level of text that need not be JSON at all.

A frame that cannot be parsed still has to be answered under the id its sender gave it. This scanner
looks for that id without recursion and without caring what stands inside nested values, in time
linear in the text and at most ``MAX_STEPS`` steps, so that no text keeps the event loop busy.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

MAX_STEPS = 250_000
"""At most about a fifth of a second."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SPACE = re.compile(rb"[ \t\r\n\x00\xef\xbb\xbf]*+")
_SCALAR = re.compile(rb'[^\s,:"\[\]{}\x00]++')
_TO_STRING_OR_BRACKET = re.compile(rb'[^"\[\]{}]*+')
_STRING_OR_BRACKETS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]++|[\]}]++', re.DOTALL)

_parse = msgspec.json.Decoder().decode


class _OutOfSteps(Exception):
    """The text has more strings and brackets than we are willing to look at."""


class _Walk:
    """A position in the text and the steps left."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.at = 0
        self.steps = MAX_STEPS

    def skip(self, pattern: re.Pattern[bytes]) -> bytes:
        """Move over one match of ``pattern`` and return it; empty when there is none here."""
        self._spend()
        found = pattern.match(self.text, self.at)
        if found is None:
            return b""
        self.at = found.end()
        return found.group()

    def peek(self) -> bytes:
        self.skip(_SPACE)
        return self.text[self.at : self.at + 1]

    def skip_nested(self) -> None:
        """Move over one bracketed value; to the end of the text if it is never closed."""
        now = 0
        for token in _STRING_OR_BRACKETS.finditer(self.text, self.at):
            self._spend()
            start, end = token.span()
            first = self.text[start]
            if first in b"[{":
                now += end - start
            elif first in b"]}":
                if end - start >= now:
                    self.at = start + now
                    return
                now -= end - start
        self.at = len(self.text)

    def _spend(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise _OutOfSteps


def salvage(text: bytes, names: frozenset[str]) -> dict[str, Any]:
    """The members of the outermost object called ``names``, as far as they can be made out.

    Scalars come with their value, nested values as None. Text that is no object gives ``{}``.
    """
    found: dict[str, Any] = {}
    walk = _Walk(text)
    try:
        _members(walk, names, found)
    except _OutOfSteps:
        return found
    return found


def _members(walk: _Walk, names: frozenset[str], found: dict[str, Any]) -> None:
    if walk.peek() != b"{":
        return
    walk.at += 1
    while True:
        walk.skip(_TO_STRING_OR_BRACKET)
        match walk.peek():
            case b'"':
                name = walk.skip(_STRING)
                if not name:
                    return
                if walk.peek() == b":":
                    walk.at += 1
                    _member(walk, _scalar(name), names, found)
            case b"[" | b"{":
                walk.skip_nested()
            case _:
                return


def _member(walk: _Walk, name: Any, names: frozenset[str], found: dict[str, Any]) -> None:
    value = None
    if walk.peek() in (b"[", b"{"):
        walk.skip_nested()
    else:
        value = _scalar(walk.skip(_STRING) or walk.skip(_SCALAR))
    if name in names:
        found[name] = value


def _scalar(text: bytes) -> Any:
    """What ``text`` spells; None when it spells nothing."""
    try:
        return _parse(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
