"""`exai version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

import click

from exai_actors import __version__
from exai_actors.daemon.cli.options import json_option

PARTS = ("pykka", "websockets", "aiohttp", "msgspec", "orjson", "uvloop")


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Show versions of exai, Python and the main libraries."""
    from exai_actors.daemon.cli.output import print_json, print_line

    found = {"exai": __version__, "python": platform.python_version()}
    for part in PARTS:
        try:
            found[part] = version_of(part)
        except PackageNotFoundError:
            found[part] = "not installed"
    if as_json:
        print_json(found)
        return
    for name, number in found.items():
        print_line(f"{name} {number}")
