"""`exai call`."""

from __future__ import annotations

import json
from typing import Any

import click

from exai_actors.daemon.cli.options import (
    ask_broker,
    broker_options,
    json_option,
    timeout_option,
    times,
)


@click.command()
@click.argument("tool")
@click.argument("arguments", nargs=-1, metavar="[KEY=TEXT | KEY:=JSON]...")
@timeout_option
@json_option
@broker_options
def call(
    tool: str,
    arguments: tuple[str, ...],
    timeout: float | None,
    as_json: bool,
    url: str,
    token: str | None,
) -> None:
    """Call a tool and print its answer.

    `exai tools` lists the tools. An argument is KEY=TEXT, or KEY:=JSON for anything but text:
    `exai call chat prompt=hello max_tokens:=5`.
    """
    from exai_actors.daemon.cli.output import Answer, print_json

    given = dict(map(_argument, arguments))
    result = ask_broker(url, token, lambda broker: broker.call(tool, given, **times(timeout)))
    if as_json:
        print_json(
            {
                "outputs": list(result.outputs),
                "continuation_id": result.continuation_id,
                "metadata": result.metadata,
                "request_id": result.request_id,
            }
        )
        return
    for text in result.outputs:
        answer = Answer()
        answer.piece(text)
        answer.end()


def _argument(written: str) -> tuple[str, Any]:
    key, equals, value = written.partition("=")
    if not equals or not key.rstrip(":"):
        raise click.UsageError(f'"{written}" is not an argument; write KEY=TEXT or KEY:=JSON')
    if not key.endswith(":"):
        return key, value
    try:
        return key[:-1], json.loads(value)
    except ValueError:
        raise click.UsageError(
            f'"{value}" is not JSON; write {key[:-1]}={value} if it is text'
        ) from None
