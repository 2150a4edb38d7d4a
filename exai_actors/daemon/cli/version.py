"""`exai version`."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

import click

from exai_actors import __version__
from exai_actors.daemon.cli.options import json_option
from exai_actors.daemon.interpreter import interpreter

PARTS = ("pykka", "websockets", "aiohttp", "msgspec", "orjson", "uvloop")


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Show versions of exai, Python and the main libraries."""
    from exai_actors.daemon.cli.output import print_json, print_line

    python = interpreter()
    build = {True: "yes", False: "no", None: "unknown"}[python.optimised]
    found = {"exai": __version__, "python": python.version, "optimised": build}
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
