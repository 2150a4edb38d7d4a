"""`exai call`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

from exai_actors.daemon.cli.options import (
    ask_broker,
    broker_options,
    json_option,
    timeout_option,
    times,
)

if TYPE_CHECKING:
    from exai_actors.client import BrokerClient, CallResult


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
    from exai_actors.client import InvalidArguments
    from exai_actors.daemon.cli.output import Pieces, print_json

    given = dict(map(_argument, arguments))

    async def ask(broker: BrokerClient) -> CallResult:
        try:
            return await broker.call(tool, given, **times(timeout))
        except InvalidArguments as error:
            value = given.get(error.field or "")
            if not _could_be_json(value):
                raise
            hint = f"for JSON instead of text write {error.field}:={value}"
            body = msgspec.structs.replace(error.body, message=f"{error.body.message}; {hint}")
            raise InvalidArguments(body) from None

    result = ask_broker(url, token, ask)
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
        answer = Pieces(sys.stdout)
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


def _could_be_json(value: Any) -> bool:
    """Whether an argument that was given as text is JSON other than a text."""
    if not isinstance(value, str):
        return False
    try:
        return not isinstance(json.loads(value), str)
    except ValueError:
        return False
