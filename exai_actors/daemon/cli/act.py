"""`exai act`, `exai provider`, `exai drain` and `exai snapshot`: act on a running broker."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from exai_actors.daemon.cli.exit_codes import ExitCode
from exai_actors.daemon.cli.options import json_option, operator_options, run

if TYPE_CHECKING:
    from exai_actors.client.console import ConsoleClient

P = ParamSpec("P")
R = TypeVar("R")

FILTER_HELP = "All rows that match instead of named targets, as in `exai top`."


def act_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add the options of every action."""
    options = (
        click.option("--preview", is_flag=True, help="Only show what it would do."),
        click.option("--reason", default="", metavar="TEXT", help="The reason, for the audit log."),
        click.option("--yes", is_flag=True, help="Do not ask first."),
        operator_options,
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("action")
@click.argument("targets", nargs=-1, metavar="[TARGET...]")
@click.option("--filter", "filter_", default="", metavar="TERMS", help=FILTER_HELP)
@click.option(
    "--argument",
    "arguments",
    multiple=True,
    metavar="NAME=VALUE",
    help="An argument of the action. Repeatable.",
)
@act_options
def act(
    action: str, targets: tuple[str, ...], filter_: str, arguments: tuple[str, ...], **how: Any
) -> None:
    """Take an ACTION of the console on targets, which are keys of its table.

    Without --yes it shows the effect and asks first. `exai act list` lists the actions.
    """
    if action == "list":
        _list(**how)
        return
    given: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            raise click.UsageError(f'"{argument}" is no NAME=VALUE')
        given[name] = value
    _act(action, targets, given, filter_=filter_, **how)


@click.group()
def provider() -> None:
    """Pause, resume, drain or limit a provider of the running broker."""


def _provider_command(verb: str, text: str) -> None:
    @provider.command(verb.replace("_", "-"), help=text)
    @click.argument("names", nargs=-1, required=True, metavar="NAME...")
    @act_options
    def command(names: tuple[str, ...], **how: Any) -> None:
        _act(f"provider.{verb}", names, {}, **how)


_provider_command("pause", "Grant no call until it is resumed; requests wait.")
_provider_command("resume", "End a pause or a drain.")
_provider_command("drain", "Refuse new requests and finish the others.")
_provider_command("lift_hold", "End its holds now.")
_provider_command("reset_circuit", "Close its circuit now.")


@provider.command()
@click.argument("name")
@click.argument("limit", type=click.IntRange(0))
@click.option("--model", metavar="MODEL", help="A model with a limit of its own.")
@act_options
def limit(name: str, limit: int, model: str | None, **how: Any) -> None:
    """Set how many calls may run at the same time."""
    _act("provider.limit", (name,), {"limit": limit, "model": model}, **how)


@provider.command()
@click.argument("name")
@click.argument("gate")
@click.argument("limit", type=click.IntRange(0))
@act_options
def gate(name: str, gate: str, limit: int, **how: Any) -> None:
    """Set a rate gate, such as requests_per_minute; 0 removes it."""
    _act("provider.gate", (name,), {"gate": gate, "limit": limit}, **how)


@click.command()
@act_options
def drain(**how: Any) -> None:
    """Refuse new requests, finish the others, and end the broker."""
    _act("broker.drain", (), {}, **how)


@click.command()
@act_options
def snapshot(**how: Any) -> None:
    """Save the last minutes of the broker as a recording."""
    _act("broker.snapshot", (), {}, **how)


def _act(
    action: str,
    targets: Sequence[str],
    arguments: Mapping[str, Any],
    *,
    preview: bool,
    reason: str,
    yes: bool,
    url: str,
    token: str | None,
    as_json: bool,
    filter_: str = "",
) -> None:
    from exai_actors.client.console import open_console

    asks = not (preview or yes)
    if asks and not sys.stdin.isatty():
        raise click.UsageError("add --yes to do it without a question, or --preview to look only")

    async def take() -> dict[str, Any] | None:
        async with open_console(url, token) as console:
            given = _typed(console, action, arguments)
            request: dict[str, Any] = {"filter": filter_, "arguments": given, "reason": reason}
            if preview or asks:
                effect = await console.act(action, targets, **request, preview=True)
                if preview or effect["failed"] == effect["count"]:
                    return effect
                _show(effect, as_json=False)
                if not click.confirm("Do it?", err=True):
                    return None
            return await console.act(action, targets, **request)

    effect = run(take())
    if effect is not None:
        _show(effect, as_json=as_json)
        if effect["failed"]:
            raise click.exceptions.Exit(ExitCode.INVALID)


def _typed(console: ConsoleClient, action: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with the types that the action names; the broker refuses wrong ones."""
    found = next((each for each in console.greeting["actions"] if each["name"] == action), None)
    kinds = {} if found is None else {each["name"]: each["kind"] for each in found["arguments"]}
    types: dict[str, Callable[[Any], Any]] = {"count": int, "number": float}
    typed = {}
    for name, value in arguments.items():
        if value is None:
            continue
        try:
            typed[name] = types.get(kinds.get(name, ""), str)(value)
        except ValueError:
            typed[name] = value
    return typed


def _show(effect: Mapping[str, Any], *, as_json: bool) -> None:
    from exai_actors.daemon.cli.output import print_error, print_json, print_line, printable

    if as_json:
        print_json({name: effect[name] for name in effect if name not in ("op", "id")})
        return
    for each in effect["effects"]:
        # Several lines are a diff, which programs can read only as it is.
        target = "" if "\n" in each["text"] else f"{each['target']}: "
        line = printable(f"{target}{each['text']}")
        if each["ok"]:
            print_line(line)
        else:
            print_error(line)
    if effect["count"] > len(effect["effects"]):
        print_line(f"and {effect['count'] - len(effect['effects'])} more")
    if not effect["preview"]:
        for undo in effect["undos"]:
            print_error(f"undo: {printable(_command(undo))}")


def _command(undo: Mapping[str, Any]) -> str:
    """The command line that undoes an action."""
    words = ["exai", "act", undo["action"], *undo["targets"]]
    for name, value in undo["arguments"].items():
        words += ["--argument", f"{name}={value}"]
    return shlex.join(words)


def _list(*, url: str, token: str | None, as_json: bool, **_: Any) -> None:
    from exai_actors.client.console import open_console
    from exai_actors.daemon.cli.output import print_json, print_line

    async def read() -> list[dict[str, Any]]:
        async with open_console(url, token) as console:
            actions: list[dict[str, Any]] = console.greeting["actions"]
            return actions

    actions = run(read())
    if as_json:
        print_json(actions)
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print_line(actions_text(actions, width))


def actions_text(actions: Sequence[Mapping[str, Any]], width: int | None) -> str:
    """The actions of each table with their roles; their meanings are wrapped to the width."""
    from exai_actors.daemon.cli.columns import GAP, aligned

    tables = list(dict.fromkeys(action["table"] for action in actions))
    actions = sorted(actions, key=lambda action: tables.index(action["table"]))
    names = [" ".join([a["name"], *(_shown(each) for each in a["arguments"])]) for a in actions]
    roles = [f"{a['role']}{'' if a['allowed'] else ', not yours'}" for a in actions]
    lines: list[str] = []
    table = None
    heads = aligned(zip(names, roles, strict=True))
    longest = max(map(len, heads), default=0)
    for action, head in zip(actions, heads, strict=True):
        if action["table"] != table:
            table = action["table"]
            lines += ["", table] if lines else [table]
        room = None if width is None else max(20, width - longest - 2 * len(GAP))
        meaning = [action["help"]] if room is None else textwrap.wrap(action["help"], room)
        for number, text in enumerate(meaning):
            lines.append(f"{GAP}{head if number == 0 else '':{longest}}{GAP}{text}")
    return "\n".join(lines)


def _shown(argument: Mapping[str, Any]) -> str:
    name: str = argument["name"]
    return name if argument["required"] else f"[{name}]"
