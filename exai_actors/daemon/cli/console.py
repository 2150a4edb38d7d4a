"""`exai console`: watch the running broker, or a recording, in the terminal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from exai_actors.daemon.cli.options import url_option

MEBIBYTE = 1_048_576


@click.command()
@url_option
@click.option(
    "--token-file",
    type=click.File("r"),
    metavar="FILE",
    help="A file with an operator's token; the variable EXAI_OPERATOR_TOKEN comes second.",
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also record all tables to a new file.",
)
@click.option(
    "--record-limit",
    type=click.IntRange(1, 10_000),
    default=64,
    show_default=True,
    metavar="MIB",
    help="End the recording at this size.",
)
@click.option(
    "--replay",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Show a recording instead of a running broker.",
)
def console(
    url: str, token_file: Any, record: Path | None, record_limit: int, replay: Path | None
) -> None:
    """Watch the running broker in the terminal: press ? for the keys.

    Needs the extra `console`.
    """
    from exai_actors.errors import UsageError

    try:
        from exai_actors.terminal.start import open_recording, watch_broker
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("textual", "rich"):
            raise
        raise UsageError(
            'exai console needs the extra "console": pip install "exai-actors[console]"'
        ) from None
    if replay is not None:
        if record is not None:
            raise UsageError("--record and --replay exclude each other")
        open_recording(replay)
        return
    token = token_file.read() if token_file else os.environ.get("EXAI_OPERATOR_TOKEN", "")
    watch_broker(url, token.strip() or None, record, record_limit * MEBIBYTE)
