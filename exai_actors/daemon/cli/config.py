"""`exai config`: create, check and show configuration."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from exai_actors.daemon.cli.exit_codes import ExitCode
from exai_actors.daemon.cli.options import json_option, run

if TYPE_CHECKING:
    from exai_actors.daemon.config.tables import Config


@click.group()
def config() -> None:
    """Create, check and show configuration."""


file_option = click.option(
    "--config",
    "file",
    metavar="FILE",
    help="The file to use instead of EXAI_CONFIG, ./exai.toml or the user's own.",
)


@config.command()
@click.argument("file", default="exai.toml", metavar="[FILE]")
@click.option(
    "--preset",
    "presets",
    multiple=True,
    metavar="NAME",
    help="Serve this account or server; `exai providers --presets` lists them. Repeatable.",
)
@click.option("--all", "all_keys", is_flag=True, help="Include every key, commented out.")
@click.option("--force", is_flag=True, help="Overwrite the file if it exists.")
def init(file: str, presets: tuple[str, ...], all_keys: bool, force: bool) -> None:
    """Write a short file that is ready to run."""
    from exai_actors.daemon.cli.output import print_line
    from exai_actors.daemon.config.files import FILE_NAME, path_of
    from exai_actors.daemon.config.new_file import key_variables, new_file
    from exai_actors.errors import UsageError

    path = path_of(file)
    text = new_file(presets, all_keys=all_keys)
    try:
        with path.open("w" if force else "x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise UsageError(f"{path} already exists; --force overwrites it") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    chosen = "" if file == FILE_NAME else f" --config {path}"
    print_line(f"wrote {path}; next:")
    for variable in key_variables(presets):
        print_line(f"  export {variable}=...")
    print_line(f"  exai config check{' --connect' if presets else ''}{chosen}")
    print_line(f"  exai serve{chosen}")


@config.command()
@file_option
@click.option(
    "--connect", is_flag=True, help="Try address and key of each provider, too; costs no tokens."
)
@click.pass_context
def check(context: click.Context, file: str | None, connect: bool) -> None:
    """Check the configuration and report all problems."""
    if connect:
        context.exit(_connect(file))
    from exai_actors.daemon.cli.output import print_error, print_line
    from exai_actors.daemon.config.files import user_file
    from exai_actors.daemon.config.load import load

    loaded = load(file, os.environ, {})
    for warning in loaded.warnings:
        print_error(f"warning: {warning}")
    source = loaded.config.source.file
    if source is None:
        print_line(f"neither ./exai.toml nor {user_file()} exists: the defaults are in force")
    else:
        names = ", ".join(provider.name for provider in loaded.config.provider)
        print_line(f"{source} is valid; providers: {names}")


def _connect(file: str | None) -> ExitCode:
    """Try each provider, print a line for each, and return the exit code."""
    from exai_actors.daemon.cli.output import print_error, print_line, printable
    from exai_actors.daemon.config.load import read
    from exai_actors.daemon.service_check import check_services
    from exai_actors.errors import ConfigError

    reading = read(file, os.environ, {})
    if reading.config is None:
        raise ConfigError("\n".join(map(str, reading.problems)))
    for missing in reading.missing_keys:
        print_error(str(missing))
    for warning in reading.warnings:
        print_error(f"warning: {warning}")
    checks = run(check_services(reading.config))
    width = max(len(check.provider) for check in checks)
    for check in checks:
        print_line(printable(f"{check.verdict:<7}  {check.provider:<{width}}  {check.text}"))
    if reading.missing_keys:
        return ExitCode.CONFIG
    failed = any(check.verdict == "failed" for check in checks)
    return ExitCode.PROVIDER if failed else ExitCode.OK


@config.command()
@file_option
@click.option(
    "--limits", is_flag=True, help="Show only the limits of providers, the tenants and the routes."
)
@json_option
def show(file: str | None, limits: bool, as_json: bool) -> None:
    """Show the values in force and their origins, with secrets hidden."""
    from exai_actors.daemon.cli.output import print_json, print_line, printable

    if limits:
        from exai_actors.daemon.cli.provider_text import provider_rows, provider_text

        config = config_to_show(file)
        if as_json:
            print_json(provider_rows(config))
        else:
            print_line(printable(provider_text(config)))
        return
    from exai_actors.daemon.config.render import show as shown
    from exai_actors.daemon.config.render import show_json

    config = config_to_show(file)
    print_line(show_json(config) if as_json else shown(config))


def config_to_show(file: str | None) -> Config:
    """The configuration, after printing missing keys and warnings on stderr."""
    from exai_actors.daemon.cli.output import print_error
    from exai_actors.daemon.config.load import read
    from exai_actors.errors import ConfigError

    reading = read(file, os.environ, {})
    if reading.config is None:
        raise ConfigError("\n".join(map(str, reading.problems)))
    for warning in (*reading.missing_keys, *reading.warnings):
        print_error(f"warning: {warning}")
    return reading.config


@config.command()
def schema() -> None:
    """Print the JSON Schema of the file, for editors."""
    from exai_actors.daemon.cli.output import print_json
    from exai_actors.daemon.config.render import schema as schema_of_the_file

    print_json(schema_of_the_file())
