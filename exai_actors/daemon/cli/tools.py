"""`exai tools`."""

from __future__ import annotations

import click

from exai_actors.daemon.cli.options import ask_broker, broker_options, json_option


@click.command()
@json_option
@broker_options
def tools(as_json: bool, url: str, token: str | None) -> None:
    """List the tools that the broker offers."""
    from exai_actors.daemon.cli.output import print_json, print_line, printable

    found = ask_broker(url, token, lambda broker: broker.tools())
    if as_json:
        print_json(
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
        print_line(printable(f"{tool.name:<{width}}  {first}").rstrip())
