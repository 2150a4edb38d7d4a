"""`exai usage`, `tree`, `inspect` and `events`: looks at a running broker."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import click

from exai_actors.daemon.cli.exit_codes import ExitCode
from exai_actors.daemon.cli.options import json_option, operator_options, run
from exai_actors.daemon.cli.top import console_options, print_table, show

if TYPE_CHECKING:
    from exai_actors.client.console import ConsoleClient, WatchedTable

MAX_ROWS = 2000


@click.command()
@console_options
def usage(**options: Any) -> None:
    """List the users of each account: now, in the last hour, in the last day."""
    show("usage", once=True, every_s=1.0, **options)


@click.command()
@operator_options
@json_option
def tree(url: str, token: str | None, as_json: bool) -> None:
    """Show the supervision tree of the running broker."""
    table = run(_table("tree", url, token))
    if not as_json:
        _indent(table)
        _name_allowance(table)
    print_table(table, as_json=as_json)


@click.command()
@click.argument("path")
@operator_options
@json_option
def inspect(path: str, url: str, token: str | None, as_json: bool) -> None:
    """Show all that is known of the actor at PATH.

    A path is, for example, /providers/kimi; `exai ps` lists them.
    """
    path = path if path.startswith("/") else f"/{path}"
    found = run(_inspect(path, url, token))
    from exai_actors.daemon.cli.output import one_line, print_error, print_json, print_line

    if found is None:
        print_error(f"there is no actor at {path}; exai ps lists them")
        raise SystemExit(ExitCode.INVALID)
    if as_json:
        print_json(found)
        return
    print_line("\n".join(map(one_line, _lines(found))))


@click.command()
@click.option("--follow", is_flag=True, help="Print further events as they happen, until Ctrl-C.")
@click.option("--filter", "filter_", default="", metavar="TERMS", help="Only those that match.")
@operator_options
@json_option
def events(follow: bool, filter_: str, url: str, token: str | None, as_json: bool) -> None:
    """Print the latest events of the running broker.

    The newest comes last.
    """
    with contextlib.suppress(KeyboardInterrupt) if follow else contextlib.nullcontext():
        run(_events(follow, filter_, url, token, as_json=as_json))


async def _table(name: str, url: str, token: str | None) -> WatchedTable:
    from exai_actors.client.console import open_console

    async with open_console(url, token) as console:
        return await _first(console, name, limit=MAX_ROWS)


async def _first(console: ConsoleClient, name: str, **query: Any) -> WatchedTable:
    async for table in console.watch(name, **query):
        return table
    raise AssertionError("a watched table has a first state")


def _indent(table: WatchedTable) -> None:
    """Show the depth of each part by the indentation of its name."""
    names = [column["name"] for column in table.columns]
    path, depth = names.index("path"), names.index("depth")
    for row in table.rows.values():
        name = row[path].rpartition("/")[2] or row[path]
        row[path] = f"{'  ' * row[depth]}{name if row[depth] else row[path]}"
        del row[depth]
    table.columns = [column for column in table.columns if column["name"] != "depth"]


def _name_allowance(table: WatchedTable) -> None:
    """Name the allowed restarts by themselves: the used ones are left out where there are none."""
    for column in table.columns:
        if column["name"] == "intensity":
            column["title"] = "Allowed"


async def _inspect(path: str, url: str, token: str | None) -> dict[str, Any] | None:
    from exai_actors.client.console import open_console
    from exai_actors.errors import UsageError

    async with open_console(url, token) as console:
        if "actor" in console.greeting.get("questions", ()):
            try:
                return await console.ask("actor", path)
            except UsageError:
                return None
        table = await _first(console, "actors", filter=f'path:"{path}"', limit=MAX_ROWS)
        names = [column["name"] for column in table.columns]
        found = (dict(zip(names, row, strict=True)) for row in table.rows.values())
        return next((each for each in found if each["path"] == path), None)


def _lines(found: dict[str, Any]) -> list[str]:
    """Each fact on a line of its own; lists and objects indented below their names."""
    width = max(map(len, found), default=0)
    lines = []
    for name, value in found.items():
        if isinstance(value, dict):
            lines += [name, *(f"  {line}" for line in _lines(value))]
        elif isinstance(value, list) and value:
            lines.append(name)
            lines += [f"  {each if isinstance(each, str) else json.dumps(each)}" for each in value]
        else:
            shown = "-" if value is None or value == [] else value
            lines.append(f"{name:<{width}}  {shown}")
    return lines


async def _events(
    follow: bool,
    filter_: str,
    url: str,
    token: str | None,
    *,
    as_json: bool,
) -> None:
    from exai_actors.client.console import open_console
    from exai_actors.daemon.cli.output import one_line, print_json, print_line

    seen: set[str] = set()
    async with open_console(url, token) as console:
        async for table in console.watch(
            "events", filter=filter_, limit=MAX_ROWS, every_s=0.5 if follow else 1.0
        ):
            names = [column["name"] for column in table.columns]
            fresh = [
                dict(zip(names, row, strict=True))
                for key, row in reversed(table.rows.items())
                if key not in seen
            ]
            seen = set(table.rows)
            if as_json and not follow:
                print_json(fresh)
            for each in fresh if follow or not as_json else ():
                text = json.dumps(each, ensure_ascii=False) if as_json else _event_line(each)
                print_line(one_line(text))
            if not follow:
                if not fresh and not as_json:
                    print_line("no events match" if table.total else "no events")
                return


def _event_line(event: dict[str, Any]) -> str:
    return f"{event['at_s']:>10.3f} s  {event['event']}  {event['where']}  {event['what']}".rstrip()
