"""Errors of the TOML parser in plain words, with the cure."""

from __future__ import annotations

import re

_AT = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
_KEY = re.compile(r"\((.*?),?\)", re.DOTALL)

# Patterns of the parser's messages, and the advice; {key} is the table in the message.
_ADVICE: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), advice)
    for pattern, advice in (
        (r"Cannot declare .* twice", "[{key}] is there twice; write its keys into one table"),
        (r"Cannot overwrite a value|Duplicate inline", "the key is there twice; remove one"),
        (r"Invalid value", "this is no value; put text into quotes, and write true or false small"),
        (r"Invalid date", "this is no date; put text into quotes"),
        (r"Invalid statement", "a line must be a key, as in port = 8079, or a [table]"),
        (r"Expected '='", 'a key needs a value after "=", as in port = 8079'),
        (r"Expected newline", "there is more after the value; put text into quotes, once"),
        (r"Unclosed array", 'the list lacks its end "]", or a comma between two values'),
        (r"Unclosed inline", 'the table lacks its end "}}", or a comma between two values'),
        (r"Expected '\]\]'", 'the name of a list of tables ends in "]]", as in [[provider]]'),
        (r"Expected '\]'", 'the name of a table ends in "]", as in [server]'),
        (r"Invalid initial character for a key", "a key is missing, or needs quotes"),
        (r"Unterminated string|Expected .*['\"]", "the text lacks its closing quote"),
        (r"Illegal character '\\n'", "the text lacks its closing quote"),
        (r"Unescaped", "write a backslash twice, or the text in single quotes"),
        (r"Invalid hex|Escaped character", "write a backslash twice, or the text in single quotes"),
        (r"Illegal character|Found invalid character", "there is a character that TOML forbids"),
    )
)


LISTS = ("access", "provider", "route")


def _mixed_header(written: str, message: str) -> str:
    """The advice for a header with a name that means something else above it."""
    name = written.strip("[] ").split("]")[0]
    if name in LISTS and re.search("twice|overwrite|mutate|redefine", message):
        return f"{written} is not the first {name}; write each one as [[{name}]]"
    if re.search("overwrite|mutate|redefine", message):
        return f"{written} is already something else above it; rename one of the two"
    return ""


def explain(error: str, text: str) -> tuple[int, str]:
    """The line of a tomllib error in ``text``, and the mistake there with its cure."""
    found = _AT.fullmatch(error)
    message = found[1] if found else error
    key = _KEY.search(message)
    table = ".".join(part.strip(" '\"") for part in key[1].split(",")) if key else ""
    line = int(found[2]) if found and found[2] else text.rstrip().count("\n") + 1
    written = text.splitlines()[line - 1].strip() if text.strip() else ""
    if written.startswith("[") and (mixed := _mixed_header(written, message)):
        return line, f"is not TOML: {mixed}"
    advice = next((advice for pattern, advice in _ADVICE if pattern.search(message)), "")
    if not advice:
        return line, f"is not TOML: {error}"
    place = f" (column {found[3]})" if found and found[3] else ""
    return line, f"is not TOML: {advice.format(key=table)}{place}"
