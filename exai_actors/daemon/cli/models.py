"""`exai models`."""

from __future__ import annotations

import click

from exai_actors.daemon.cli.options import broker_options, json_option, run


@click.command()
@json_option
@broker_options
def models(as_json: bool, url: str, token: str | None) -> None:
    """List the models that the broker can ask, one per line; the first is the default."""
    from exai_actors.daemon.cli.output import complain, printable, say, say_json

    found, troubles = run(_models(url, token))
    if as_json:
        say_json(list(found))
    else:
        for model in found:
            say(printable(model))
    for provider, trouble in troubles.items():
        complain(f"{provider}: could not list its models: {trouble}")
    if not found and not troubles:
        complain("no provider has listed its models yet; try again in a moment")


async def _models(url: str, token: str | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """The models, and for each provider that could not list its models the reason."""
    from exai_actors.client import connect
    from exai_actors.daemon.cli.health import provider_statistics

    async with connect(url, token=token) as broker:
        models = await broker.models()
        providers = await provider_statistics(broker)
        troubles = {each["name"]: each["trouble"] for each in providers if each["trouble"]}
        return models, troubles
