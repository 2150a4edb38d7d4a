"""Find the line of every key in a TOML document, which tomllib does not report.

The document must be valid: results for text that tomllib rejects are undefined.
"""

from __future__ import annotations

import tomllib
from bisect import bisect_right

KeyPath = tuple[str | int, ...]
"""The path of a value: ``("server", "port")`` or ``("provider", 0, "limit")``."""


def locate(text: str) -> dict[KeyPath, int]:
    """The line, counted from 1, of each key, table and array element in ``text``.

    Paths consist of key names and, in arrays and arrays of tables, indexes from 0. An implied table
    (``a`` in ``[a.b]``) has the line that first implies it.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


Span = tuple[int, int]
"""The place of the first character, and that behind the last."""


def value_spans(text: str) -> dict[KeyPath, Span]:
    """The place of the value of each key in ``text``."""
    scanner = _Scanner(text)
    scanner.document()
    return scanner.spans


class _Scanner:
    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.spans: dict[KeyPath, Span] = {}
        self._text = text
        self._at = 0
        self._line_starts = [0, *(at + 1 for at, char in enumerate(text) if char == "\n")]
        self._array_lengths: dict[KeyPath, int] = {}

    def document(self) -> None:
        table: KeyPath = ()
        while self._skip_to_content():
            if self._peek() == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> KeyPath:
        start = self._at
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        *outer, last = self._key()
        self._at += 2 if is_array else 1
        path: KeyPath = ()
        for part in outer:
            path = self._latest((*path, part))
            self._record(path, start)
        path = (*path, last)
        self._record(path, start)
        if is_array:
            index = self._array_lengths.get(path, 0)
            self._array_lengths[path] = index + 1
            path = (*path, index)
            self._record(path, start)
        return path

    def _latest(self, path: KeyPath) -> KeyPath:
        """The path that a header extends: of an array of tables, its last table."""
        length = self._array_lengths.get(path)
        return path if length is None else (*path, length - 1)

    def _pair(self, table: KeyPath) -> None:
        start = self._at
        path = table
        for part in self._key():
            path = (*path, part)
            self._record(path, start)
        self._at += 1  # the equals sign, where _key stopped
        self._skip_blanks()
        start = self._at
        self._value(path)
        self.spans[path] = start, start + len(self._text[start : self._at].rstrip(" \t"))

    def _value(self, path: KeyPath) -> None:
        char = self._peek()
        if char == "[":
            self._array(path)
        elif char == "{":
            self._inline_table(path)
        elif char in "\"'":
            self._string()
        else:
            while self._at < len(self._text) and self._peek() not in ",]}#\r\n":
                self._at += 1

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while self._skip_to_content() and self._peek() != "]":
            element = (*path, index)
            self._record(element, self._at)
            self._value(element)
            index += 1
            self._skip_separator()
        self._at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while self._skip_to_content() and self._peek() != "}":
            self._pair(path)
            self._skip_separator()
        self._at += 1

    def _skip_separator(self) -> None:
        if self._skip_to_content() and self._peek() == ",":
            self._at += 1

    def _key(self) -> list[str]:
        """Read a possibly dotted key, up to the ``=`` or ``]`` after it."""
        parts: list[str] = []
        while True:
            self._skip_blanks()
            start = self._at
            if self._peek() in "\"'":
                self._string()
                parts.append(next(iter(tomllib.loads(f"{self._text[start : self._at]} = 0"))))
            else:
                while self._peek() not in " \t.=]":
                    self._at += 1
                parts.append(self._text[start : self._at])
            self._skip_blanks()
            if self._peek() != ".":
                return parts
            self._at += 1

    def _string(self) -> None:
        quote = self._peek()
        if not self._text.startswith(quote * 3, self._at):
            self._at += 1
            self._skip_string_body(quote)
            return
        self._at += 3
        self._skip_string_body(quote * 3)
        # The closing three may be preceded directly by one or two quotes of the text.
        for _ in range(2):
            if self._at < len(self._text) and self._peek() == quote:
                self._at += 1

    def _skip_string_body(self, end: str) -> None:
        while not self._text.startswith(end, self._at):
            self._at += 2 if self._peek() == "\\" and end[0] == '"' else 1
        self._at += len(end)

    def _skip_to_content(self) -> bool:
        while self._at < len(self._text):
            char = self._peek()
            if char == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif char in " \t\r\n":
                self._at += 1
            else:
                return True
        return False

    def _skip_blanks(self) -> None:
        while self._at < len(self._text) and self._peek() in " \t":
            self._at += 1

    def _peek(self) -> str:
        return self._text[self._at]

    def _record(self, path: KeyPath, at: int) -> None:
        self.lines.setdefault(path, bisect_right(self._line_starts, at))
