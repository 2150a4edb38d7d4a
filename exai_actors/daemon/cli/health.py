"""`exai health`, and the broker's statistics that other commands show as well."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from exai_actors.daemon.cli.exit_codes import ExitCode
from exai_actors.daemon.cli.options import (
    Seconds,
    ask_broker,
    ask_tool,
    broker_options,
    json_option,
)

if TYPE_CHECKING:
    from exai_actors.client import BrokerClient

SHORTEST_S = 0.5
LONGEST_S = 3600


@click.command()
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--every",
    type=Seconds(LONGEST_S),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help=f"The time between two updates of --watch, at least {SHORTEST_S:g}.",
)
@click.option(
    "--ready", is_flag=True, help="Only whether it takes requests: exit code 0, or 8 if not."
)
@json_option
@broker_options
@click.pass_context
def health(
    ctx: click.Context,
    watch: bool,
    every: float,
    ready: bool,
    as_json: bool,
    url: str,
    token: str | None,
) -> None:
    """Show the state of the broker, its providers and its tenants."""
    from exai_actors.daemon.cli.output import print_json

    if ready:
        ctx.exit(_print_readiness(url, as_json=as_json))
    if watch:
        # Ctrl-C is the way to end it.
        with contextlib.suppress(KeyboardInterrupt):
            ask_broker(url, token, lambda broker: _watch(broker, max(every, SHORTEST_S), as_json))
        return
    found = ask_broker(url, token, broker_health)
    if as_json:
        print_json(found)
    else:
        _print(found)


def _print_readiness(url: str, *, as_json: bool) -> ExitCode:
    from exai_actors.daemon.cli.output import print_json, print_line, printable
    from exai_actors.daemon.readiness import readiness

    found = readiness(url)
    if as_json:
        print_json(found)
    else:
        reasons = "; ".join(map(str, found["reasons"]))
        print_line(printable("ready" if found["ready"] else f"not ready: {reasons}"))
    return ExitCode.OK if found["ready"] else ExitCode.BUSY


async def _watch(broker: BrokerClient, every_s: float, as_json: bool) -> None:
    on_terminal = sys.stdout.isatty() and not as_json
    while True:
        found = await broker_health(broker)
        if as_json:
            click.echo(json.dumps(found, ensure_ascii=False))
        else:
            if on_terminal:
                click.clear()
            _print(found)
            if not on_terminal:
                click.echo()
        sys.stdout.flush()
        await asyncio.sleep(every_s)


def _print(found: dict[str, Any]) -> None:
    from exai_actors.daemon.cli.health_text import health_text
    from exai_actors.daemon.cli.output import print_line, printable

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print_line(printable(health_text(found, width)))


async def broker_health(broker: BrokerClient) -> dict[str, Any]:
    """The operation ``health`` together with the tool ``status``."""
    return {**await broker.health(), **await broker_status(broker)}


async def broker_status(broker: BrokerClient) -> dict[str, Any]:
    """The tool ``status``."""
    return await ask_tool(broker, "status")


async def provider_statistics(broker: BrokerClient) -> list[dict[str, Any]]:
    """The statistics of each provider."""
    providers: list[dict[str, Any]] = (await broker_status(broker))["providers"]
    return providers
