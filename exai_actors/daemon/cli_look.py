"""`exai tools`, `exai models` and `exai health`: what a broker says about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from exai_actors.daemon.cli_options import broker_options, json_option, run

if TYPE_CHECKING:
    from exai_actors.client import Tool


@click.command()
@json_option
@broker_options
def tools(as_json: bool, url: str, token: str | None) -> None:
    """List the tools the broker offers."""
    from exai_actors.daemon.cli_output import printable, say, say_json

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


@click.command()
@json_option
@broker_options
def models(as_json: bool, url: str, token: str | None) -> None:
    """List the models the broker can ask, one a line; the first is the default."""
    from exai_actors.daemon.cli_output import complain, printable, say, say_json

    found = run(_models(url, token))
    if as_json:
        say_json(list(found))
        return
    for model in found:
        say(printable(model))
    if not found:
        complain("no provider has named a model yet; `exai health` shows how they are")


@click.command()
@json_option
@broker_options
def health(as_json: bool, url: str, token: str | None) -> None:
    """Show how the broker is doing."""
    from exai_actors.daemon.cli_output import printable, say, say_json

    found = run(_health(url, token))
    if as_json:
        say_json(found)
        return
    for line in facts(found):
        say(printable(line))


def facts(value: Any, indent: str = "") -> list[str]:
    """Nested facts as ``key: value`` lines; a list of records has one record a line."""
    if not isinstance(value, dict):
        return [f"{indent}{value}"]
    lines: list[str] = []
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            lines += [f"{indent}{key}:", *facts(inner, f"{indent}  ")]
        elif isinstance(inner, list) and inner and all(isinstance(row, dict) for row in inner):
            lines.append(f"{indent}{key}:")
            lines += [
                f"{indent}  {', '.join(f'{name} {fact}' for name, fact in row.items())}"
                for row in inner
            ]
        else:
            lines.append(f"{indent}{key}: {inner}")
    return lines


async def _tools(url: str, token: str | None) -> tuple[Tool, ...]:
    from exai_actors.client import connect

    async with connect(url, token=token or None) as broker:
        return await broker.tools()


async def _models(url: str, token: str | None) -> tuple[str, ...]:
    from exai_actors.client import connect

    async with connect(url, token=token or None) as broker:
        return await broker.models()


async def _health(url: str, token: str | None) -> dict[str, Any]:
    from exai_actors.client import connect

    async with connect(url, token=token or None) as broker:
        return await broker.health()
