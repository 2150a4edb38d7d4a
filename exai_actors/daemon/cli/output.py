"""Output of commands: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO

import click

from exai_actors.errors import BrokerError, ConfigError, ErrorCode, ExaiError


def print_line(text: str) -> None:
    """Print a line of the result."""
    click.echo(text)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_error(text: str) -> None:
    """Print a line on stderr, without characters that could control a terminal."""
    click.echo(f"exai: {printable(text)}", err=True)


def lines_of(error: ExaiError) -> list[str]:
    """The message of an error as lines; only a configuration error has several."""
    match error:
        case ConfigError():
            return str(error).splitlines()
        case BrokerError():
            return [_broker_line(error)]
        case _:
            return [" ".join(str(error).split())]


def _broker_line(error: BrokerError) -> str:
    body = error.body
    line = f"{' '.join(body.message.split())} ({body.code})"
    details = body.details or {}
    if body.code == ErrorCode.UNAUTHORIZED:
        if details.get("needs") == "role":
            return f"{line}; use the token of an operator with that role"
        if details.get("needs") == "operator":
            return f"{line}; set it with --token-file or EXAI_OPERATOR_TOKEN"
        return f"{line}; set it with --token or EXAI_TOKEN"
    after = details.get("retry_after")
    if isinstance(after, int | float) and "retry" not in body.message:
        line += f"; try again in {after:g} s"
    return line


def printable(text: str) -> str:
    """``text`` without control characters other than line feed and tab.

    Text from a model or a server could otherwise move the cursor or change the window's title.
    """
    return "".join(
        char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


def one_line(text: str) -> str:
    """``text`` without line feeds and tabs as well: a word of a client is not taken for a row."""
    return printable(text).translate(_ONE_LINE)


_ONE_LINE = str.maketrans("\n\t", "\N{REPLACEMENT CHARACTER}" * 2)


def discard_stdout() -> None:
    """Write to nowhere from now on: the interpreter flushes stdout once more at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


class Pieces:
    """Prints text piece by piece, without control characters on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._clean = stream.isatty()
        self._last = "\n"

    def piece(self, text: str) -> None:
        if text:
            # click's echo would remove escape sequences from piped output.
            self._stream.write(printable(text) if self._clean else text)
            self._stream.flush()
            self._last = text[-1]

    def end(self) -> None:
        """Print a newline unless the text ended with one."""
        if self._last != "\n":
            self.piece("\n")
