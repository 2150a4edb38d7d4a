"""`exai tools`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from exai_actors.daemon.cli.options import broker_options, json_option, run

if TYPE_CHECKING:
    from exai_actors.client import Tool


@click.command()
@json_option
@broker_options
def tools(as_json: bool, url: str, token: str | None) -> None:
    """List the tools that the broker offers."""
    from exai_actors.daemon.cli.output import printable, say, say_json

    found = run(_tools(url, token))
    if as_json:
        say_json(
            [
                {
                    "name": tool.name,
                    "description": tool.description,
                    "inputSchema": tool.input_schema,
                }
                for tool in found
            ]
        )
        return
    width = max((len(tool.name) for tool in found), default=0)
    for tool in found:
        first = next(iter(tool.description.splitlines()), "")
        say(printable(f"{tool.name:<{width}}  {first}").rstrip())


async def _tools(url: str, token: str | None) -> tuple[Tool, ...]:
    from exai_actors.client import connect

    async with connect(url, token=token) as broker:
        return await broker.tools()
