"""`exai connect`: configure a client program or an MCP host for the broker, or check it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exai_actors.daemon.cli.exit_codes import ExitCode
from exai_actors.daemon.cli.options import json_option
from exai_actors.daemon.cli.program_options import program_options

if TYPE_CHECKING:
    from exai_actors.daemon.programs.edits import Changes, Edit
    from exai_actors.daemon.programs.table import Program, Target, Token


@click.command()
@click.argument("program", metavar="[PROGRAM]", required=False)
@click.option("--mcp", is_flag=True, help="Connect it as an MCP host: it gets the broker's tools.")
@click.option("--write", is_flag=True, help="Change its configuration file; keeps a copy.")
@click.option("--undo", is_flag=True, help="Take that change back.")
@click.option("--check", is_flag=True, help="Send the broker one short request as it would.")
@json_option
@program_options
@click.pass_context
def connect(
    context: click.Context,
    program: str | None,
    mcp: bool,
    write: bool,
    undo: bool,
    check: bool,
    as_json: bool,
    model: str | None,
    small_model: str | None,
    url: str,
    token_file: str | None,
) -> None:
    """Configure a client PROGRAM for the broker, or check it.

    Prints its configuration, unless an option says otherwise. Without PROGRAM, it lists the
    programs with the API that each uses. `exai run PROGRAM` starts one without configuration.
    """
    from exai_actors.daemon.cli.program_options import program_named, token_of
    from exai_actors.errors import UsageError

    if write + undo + check > 1:
        raise UsageError("use one of --write, --undo and --check at a time")
    if program is None:
        if write or undo or check:
            raise UsageError("name the program, such as: exai connect claude --check")
        _list(url, mcp=mcp, as_json=as_json)
        return
    token = token_of(token_file)
    if mcp:
        context.exit(_connect_host(program, url, token, write=write, undo=undo, check=check))
    known = program_named(program)
    if undo:
        _undo(known.name)
    elif check:
        context.exit(_check(known, url, token, model, as_json=as_json))
    else:
        from exai_actors.daemon.cli.program_options import target_of

        target = target_of(known, url, token, model, small_model)
        _lasting(known, target, write=write)


def _list(url: str, *, mcp: bool, as_json: bool) -> None:
    from exai_actors.daemon.cli.columns import aligned
    from exai_actors.daemon.cli.output import print_json, print_line
    from exai_actors.daemon.programs.address import address_of
    from exai_actors.daemon.programs.mcp_hosts import MCP_HOSTS
    from exai_actors.daemon.programs.running import found_at
    from exai_actors.daemon.programs.table import PROGRAMS

    address = address_of(url)
    rows: list[dict[str, Any]] = []
    if mcp:
        rows += [
            {"name": each.name, "title": each.title, "api": "mcp", "address": "exai mcp"}
            | {"path": found_at(each.commands)}
            for each in MCP_HOSTS.values()
        ]
    else:
        rows += [
            {"name": each.name, "title": each.title, "api": each.family}
            | {"address": address.root if each.family == "messages" else address.v1}
            | {"path": found_at(each.commands)}
            for each in PROGRAMS.values()
        ]
    if as_json:
        print_json(rows)
        return
    head = ("program", "api", "address", "found")
    cells = [(row["name"], row["api"], row["address"], row["path"] or "-") for row in rows]
    for line in aligned([head, *cells]):
        print_line(line)


def _lasting(program: Program, target: Target, *, write: bool) -> None:
    from exai_actors.daemon.cli.output import print_error, print_line
    from exai_actors.errors import UsageError

    lasting = program.lasting(target, Path.home())
    if lasting.edit is None and write:
        raise UsageError(
            f"{program.title} keeps its configuration in a form that only it changes; run: "
            f"{lasting.steps[0]}"
        )
    _edit(program.name, lasting.edit, write=write)
    if lasting.steps:
        print_error("then run:" if lasting.edit else "run:")
    for step in lasting.steps:
        print_line(step)


def _edit(name: str, edit: Edit | None, *, write: bool) -> None:
    """Print the change, or make it."""
    from exai_actors.daemon.cli.output import print_error, print_line

    if edit is None:
        return
    if not write:
        print_error(f"put this into {edit.file}, or let --write do it:")
        print_line(edit.text().rstrip("\n"))
        return
    record = _changes().write(name, edit)
    kept = f"; a copy of it as it was is {record.before}" if record.before else ""
    print_line(f"wrote {record.file}{kept}")


def _undo(name: str) -> None:
    from exai_actors.daemon.cli.output import print_line

    print_line(_changes().undo(name))


def _changes() -> Changes:
    from platformdirs import user_state_path

    from exai_actors.daemon.programs.edits import Changes

    return Changes(user_state_path("exai") / "connect")


def _check(
    program: Program, url: str, token: Token, model: str | None, *, as_json: bool
) -> ExitCode:
    import msgspec

    from exai_actors.daemon.cli.output import print_json, print_line, printable
    from exai_actors.daemon.cli.program_options import target_of
    from exai_actors.daemon.programs.broker import check

    target = target_of(program, url, token, model, None)
    found = check(target.address, token.value, program.family, target.model, program.name)
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        words = [f"{'failed' if found.error else 'ok'}  {program.name}: {program.family}"]
        words += [f"model {found.model}", f"{found.took_s:.1f} s"]
        words += [f"share of {found.tenant}"] if found.tenant else []
        words += [f"answered by {found.provider}"] if found.provider else []
        words += [f"HTTP {found.status}: {found.error}"] if found.error else []
        print_line(printable(", ".join(words)))
    return _code_of(found.status, failed=bool(found.error))


def _code_of(status: int, *, failed: bool) -> ExitCode:
    match status:
        case 200:
            return ExitCode.PROVIDER if failed else ExitCode.OK
        case 401 | 403:
            return ExitCode.UNAUTHORIZED
        case 400 | 404 | 413:
            return ExitCode.INVALID
        case 429 | 503:
            return ExitCode.BUSY
        case 504:
            return ExitCode.TIMEOUT
        case _:
            return ExitCode.PROVIDER


def _connect_host(
    name: str, url: str, token: Token, *, write: bool, undo: bool, check: bool
) -> ExitCode:
    from exai_actors.daemon.config.wording import suggestion
    from exai_actors.daemon.programs.address import address_of
    from exai_actors.daemon.programs.mcp_hosts import MCP_HOSTS, bridge_command
    from exai_actors.errors import UsageError

    if name not in MCP_HOSTS:
        raise UsageError(f'there is no MCP host "{name}"{suggestion(name, MCP_HOSTS)}')
    if undo:
        _undo(f"{name}-mcp")
        return ExitCode.OK
    if token.value and not token.file:
        raise UsageError(
            "name a file with the token by --token-file: a host does not pass your variables on"
        )
    command = bridge_command(address_of(url), token.file)
    if check:
        return _check_bridge(name, command)
    _edit(f"{name}-mcp", MCP_HOSTS[name].edit(command, Path.home()), write=write)
    return ExitCode.OK


def _check_bridge(name: str, command: list[str]) -> ExitCode:
    from exai_actors.daemon.cli.output import print_line, printable
    from exai_actors.daemon.programs.mcp_check import check_bridge

    found = check_bridge(command, os.environ)
    if found.error:
        print_line(printable(f"failed  {name}: mcp, {' '.join(command)}: {found.error}"))
        return ExitCode.FAILED
    models = ", ".join(found.models) or "no models"
    print_line(printable(f"ok  {name}: mcp, {len(found.tools)} tools, {models}"))
    return ExitCode.OK
