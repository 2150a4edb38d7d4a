"""`exai providers`: the limits of each provider, and where the values come from."""

from __future__ import annotations

import os
from typing import Any

import click

from exai_actors.daemon.cli.config import file_option
from exai_actors.daemon.cli.options import json_option, run, token_option


@click.command()
@file_option
@click.option(
    "--url", metavar="URL", help="Show the current values of the broker at this URL instead."
)
@token_option("The token of that broker.")
@click.option("--presets", is_flag=True, help="List the presets with their values.")
@json_option
def providers(
    file: str | None, url: str | None, token: str | None, presets: bool, as_json: bool
) -> None:
    """Show each provider's limits and where the values come from: file, preset or default."""
    from exai_actors.daemon.cli.output import complain, printable, say, say_json

    if presets:
        from exai_actors.daemon.cli.provider_text import preset_rows, preset_text

        if as_json:
            say_json(preset_rows())
        else:
            say(preset_text())
        return
    if url is not None:
        from exai_actors.daemon.cli.provider_text import running_text

        found = run(_running(url, token))
        if as_json:
            say_json(found)
        else:
            say(printable(running_text(found)))
        return

    from exai_actors.daemon.cli.provider_text import provider_rows, provider_text
    from exai_actors.daemon.config.load import read
    from exai_actors.errors import ConfigError

    reading = read(file, os.environ, {})
    if reading.config is None:
        raise ConfigError("\n".join(map(str, reading.problems)))
    for warning in (*reading.missing_keys, *reading.warnings):
        complain(f"warning: {warning}")
    if as_json:
        say_json(provider_rows(reading.config))
    else:
        say(printable(provider_text(reading.config)))


async def _running(url: str, token: str | None) -> list[dict[str, Any]]:
    from exai_actors.client import connect
    from exai_actors.daemon.cli.health import provider_statistics

    async with connect(url, token=token) as broker:
        return await provider_statistics(broker)
