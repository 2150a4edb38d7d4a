"""`exai health`, and the providers' statistics that other commands show as well."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from exai_actors.daemon.cli.options import ask_broker, broker_options, json_option

if TYPE_CHECKING:
    from exai_actors.client import BrokerClient


@click.command()
@json_option
@broker_options
def health(as_json: bool, url: str, token: str | None) -> None:
    """Show the state of the broker and its providers."""
    from exai_actors.daemon.cli.output import print_json, print_line, printable

    found = ask_broker(url, token, _health)
    if as_json:
        print_json(found)
        return
    for line in as_lines(found):
        print_line(printable(line))


def as_lines(value: Any, indent: str = "") -> list[str]:
    """Nested facts as ``key: value`` lines, with each record of a list on one line.

    To keep that line readable, it has no empty values and no lists, and rounded fractions.
    """
    if not isinstance(value, dict):
        return [f"{indent}{value}"]
    lines: list[str] = []
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            lines += [f"{indent}{key}:", *as_lines(inner, f"{indent}  ")]
        elif isinstance(inner, list) and inner and all(isinstance(row, dict) for row in inner):
            lines.append(f"{indent}{key}:")
            lines += [
                indent
                + "  "
                + ", ".join(
                    f"{name} {_short(fact)}"
                    for name, fact in row.items()
                    if fact not in (None, "", {}) and not isinstance(fact, list)
                )
                for row in inner
            ]
        else:
            lines.append(f"{indent}{key}: {inner}")
    return lines


def _short(fact: Any) -> str:
    return f"{fact:.3g}" if isinstance(fact, float) else f"{fact}"


async def _health(broker: BrokerClient) -> dict[str, Any]:
    return {**await broker.health(), "providers": await provider_statistics(broker)}


async def provider_statistics(broker: BrokerClient) -> list[dict[str, Any]]:
    """The statistics of each provider, from the tool ``status``."""
    status = json.loads((await broker.call("status")).text)
    if "content" in status:  # [compat] envelope = "ex-ai" wraps every answer
        status = json.loads(status["content"])
    providers: list[dict[str, Any]] = status["providers"]
    return providers
