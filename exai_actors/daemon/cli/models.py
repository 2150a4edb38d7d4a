"""`exai models`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from exai_actors.daemon.cli.exit_codes import ExitCode
from exai_actors.daemon.cli.options import ask_broker, broker_options, json_option

if TYPE_CHECKING:
    from exai_actors.client import BrokerClient


@click.command()
@json_option
@broker_options
@click.pass_context
def models(context: click.Context, as_json: bool, url: str, token: str | None) -> None:
    """List the models that the broker can ask, one per line; the first is the default."""
    from exai_actors.daemon.cli.output import one_line, print_error, print_json, print_line

    found, troubles = ask_broker(url, token, _models)
    if as_json:
        print_json(list(found))
    else:
        for model in found:
            print_line(one_line(model))
    for provider, trouble in troubles.items():
        print_error(f"{provider}: could not list its models: {trouble}")
    if found:
        return
    if not troubles:
        print_error("no provider has listed its models yet; try again in a moment")
    context.exit(ExitCode.PROVIDER if troubles else ExitCode.BUSY)


async def _models(broker: BrokerClient) -> tuple[tuple[str, ...], dict[str, str]]:
    """The models, and for each provider that could not list its models the reason."""
    from exai_actors.daemon.cli.health import provider_statistics

    providers = await provider_statistics(broker)
    troubles = {each["name"]: each["trouble"] for each in providers if each["trouble"]}
    return await broker.models(), troubles
