"""The options of the commands that set up other people's client programs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

from exai_actors.daemon.cli.options import token_file_option, url_option

if TYPE_CHECKING:
    from exai_actors.daemon.programs.table import Program, Target, Token

P = ParamSpec("P")
R = TypeVar("R")


def program_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add the options that say which broker and model a program is to use."""
    small = click.option(
        "--small-model",
        metavar="MODEL",
        help="The model of its titles and hints; without it the same one.",
    )
    model = click.option(
        "--model",
        "-m",
        metavar="MODEL",
        help="The model; without it the broker's first with the program's API.",
    )
    return model(small(url_option(token_file_option(command))))


def token_of(file: str | None) -> Token:
    """The token in the file or the variable. Raises UsageError if the file has none."""
    from exai_actors.daemon.programs.table import Token
    from exai_actors.errors import UsageError

    if file is None:
        names = ("EXAI_TOKEN", "EXAI_WS_TOKEN")
        return Token(next(filter(None, (os.environ.get(name, "").strip() for name in names)), ""))
    path = Path(file).expanduser().absolute()
    try:
        value = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if not value:
        raise UsageError(f"{path} is empty; write the broker's token to it")
    return Token(value, str(path))


def program_named(name: str) -> Program:
    """The program of this name. Raises UsageError with a suggestion."""
    from exai_actors.daemon.config.wording import suggestion
    from exai_actors.daemon.programs.table import PROGRAMS
    from exai_actors.errors import UsageError

    if name == "cursor":
        raise UsageError(
            "Cursor calls models from its maker's servers, which cannot reach a broker on this "
            "machine; `exai connect --mcp cursor` gives it the broker's tools"
        )
    if name not in PROGRAMS:
        raise UsageError(f'there is no program "{name}"{suggestion(name, PROGRAMS)}')
    return PROGRAMS[name]


def target_of(
    program: Program, url: str, token: Token, model: str | None, small: str | None
) -> Target:
    """Without a ``model``, ask the broker; raises the errors of ``models_of`` and ``model_for``."""
    from exai_actors.daemon.programs.address import address_of
    from exai_actors.daemon.programs.broker import model_for, models_of
    from exai_actors.daemon.programs.table import Target

    address = address_of(url)
    chosen = model or model_for(program.family, models_of(address, token.value))
    return Target(address, token, chosen, small or chosen)
