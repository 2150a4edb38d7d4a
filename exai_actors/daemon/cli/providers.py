"""`exai providers`: the providers of a running broker, and the known presets."""

from __future__ import annotations

import click

from exai_actors.daemon.cli.explain import explain
from exai_actors.daemon.cli.options import ask_broker, broker_options, json_option


@click.group(invoke_without_command=True)
@click.option("--presets", is_flag=True, help="List the presets with their values instead.")
@json_option
@broker_options
@click.pass_context
def providers(
    context: click.Context, presets: bool, as_json: bool, url: str, token: str | None
) -> None:
    """Show each provider of the running broker in detail.

    `exai config show --limits` shows the limits in the file and where they come from.
    """
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
    from exai_actors.daemon.cli.health import provider_statistics
    from exai_actors.daemon.cli.health_text import running_text

    found = ask_broker(url, token, provider_statistics)
    if as_json:
        print_json(found)
    else:
        print_line(printable(running_text(found)))


providers.add_command(explain)
