"""`exai providers`: the limits of each provider, and where the values come from."""

from __future__ import annotations

import click

from exai_actors.daemon.cli.config import config_to_show, file_option
from exai_actors.daemon.cli.explain import explain
from exai_actors.daemon.cli.options import ask_broker, json_option, token_option


@click.group(invoke_without_command=True)
@file_option
@click.option(
    "--url", metavar="URL", help="Show the current values of the broker at this URL instead."
)
@token_option("The token of that broker.")
@click.option("--presets", is_flag=True, help="List the presets with their values.")
@json_option
@click.pass_context
def providers(
    context: click.Context,
    file: str | None,
    url: str | None,
    token: str | None,
    presets: bool,
    as_json: bool,
) -> None:
    """Show each provider's limits and where the values come from: file, preset or default."""
    if context.invoked_subcommand is not None:
        return
    from exai_actors.daemon.cli.output import print_json, print_line, printable

    if presets:
        from exai_actors.daemon.cli.provider_text import preset_rows, preset_text

        if as_json:
            print_json(preset_rows())
        else:
            print_line(preset_text())
        return
    if url is not None:
        from exai_actors.daemon.cli.health import provider_statistics
        from exai_actors.daemon.cli.provider_text import running_text

        found = ask_broker(url, token, provider_statistics)
        if as_json:
            print_json(found)
        else:
            print_line(printable(running_text(found)))
        return

    from exai_actors.daemon.cli.provider_text import provider_rows, provider_text

    config = config_to_show(file)
    if as_json:
        print_json(provider_rows(config))
    else:
        print_line(printable(provider_text(config)))


providers.add_command(explain)
