"""`exai top` and `exai ps`: tables of a running broker, once or as they change."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from exai_actors.daemon.cli.options import Seconds, json_option, operator_options, run

if TYPE_CHECKING:
    from exai_actors.client.console import WatchedTable

P = ParamSpec("P")
R = TypeVar("R")

LONGEST_S = 60.0
FILTER_HELP = (
    "Only rows that match all terms: `kimi`, `!idle`, `state:held` or `queued>=10`, with blanks "
    "between them."
)


def console_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add the options that choose rows, and those of the connection."""
    options = (
        click.option("--filter", "filter_", default="", metavar="TERMS", help=FILTER_HELP),
        click.option("--sort", default="", metavar="COLUMN", help="-COLUMN for descending order."),
        click.option(
            "--limit", type=click.IntRange(1, 2000), default=200, show_default=True, metavar="ROWS"
        ),
        operator_options,
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("table", default="providers")
@click.option("--once", is_flag=True, help="Print it once.")
@click.option(
    "--every",
    type=Seconds(LONGEST_S),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="The time between two updates.",
)
@console_options
def top(once: bool, every: float, table: str, **options: Any) -> None:
    """Watch a TABLE of the running broker, such as providers, requests, tenants or actors."""
    # Ctrl-C is the way to end it.
    with contextlib.suppress(KeyboardInterrupt) if not once else contextlib.nullcontext():
        show(table, once=once, every_s=every, **options)


@click.command()
@console_options
def ps(**options: Any) -> None:
    """List the actors of the running broker."""
    show("actors", once=True, every_s=1.0, **options)


def show(
    table: str,
    *,
    once: bool,
    every_s: float,
    filter_: str,
    sort: str,
    limit: int,
    url: str,
    token: str | None,
    as_json: bool,
) -> None:
    """Print a table of the broker, once or each time that it changes."""
    from exai_actors.client.console import open_console

    async def watch() -> None:
        async with open_console(url, token) as console:
            query = {"filter": filter_, "sort": sort, "limit": limit, "every_s": every_s}
            async for found in console.watch(table, **query):
                print_table(found, as_json=as_json, clears=not once, keep=sort.removeprefix("-"))
                if once:
                    return

    run(watch())


def print_table(
    table: WatchedTable, *, as_json: bool, clears: bool = False, keep: str = ""
) -> None:
    """Print a table as it is now; ``clears`` the screen of a terminal first."""
    from exai_actors.daemon.cli.output import print_json, print_line, printable

    if as_json:
        names = [column["name"] for column in table.columns]
        print_json([dict(zip(names, row, strict=True)) for row in table.rows.values()])
        return
    from exai_actors.daemon.cli.top_text import table_text

    width = height = None
    if sys.stdout.isatty():
        width, lines = shutil.get_terminal_size()
        if clears:
            height = lines
            click.clear()
    print_line(printable(table_text(table, width=width, height=height, keep=keep)))
    sys.stdout.flush()
