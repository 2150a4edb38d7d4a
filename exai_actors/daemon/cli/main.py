"""The command line `exai`: its commands, and the exit code of every ending.

Nothing but click is imported until a command has been chosen: `exai --help` is instant.
"""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from exai_actors.daemon.cli.exit_codes import ExitCode

COMMANDS = {
    "serve": ("exai_actors.daemon.cli.serve:serve", "Run a broker until a signal stops it."),
    "run": (
        "exai_actors.daemon.cli.run:run",
        "Start a client PROGRAM that uses the broker.",
    ),
    "connect": (
        "exai_actors.daemon.cli.connect:connect",
        "Configure a client PROGRAM for the broker, or check it.",
    ),
    "ask": ("exai_actors.daemon.cli.ask:ask", "Ask a model and print the answer as it arrives."),
    "call": ("exai_actors.daemon.cli.call:call", "Call a tool and print its answer."),
    "mcp": ("exai_actors.daemon.cli.mcp:mcp", "Serve MCP on stdin and stdout."),
    "models": ("exai_actors.daemon.cli.models:models", "List the models that the broker can ask."),
    "tools": ("exai_actors.daemon.cli.tools:tools", "List the tools that the broker offers."),
    "health": (
        "exai_actors.daemon.cli.health:health",
        "Show the state of the broker, its providers and its tenants.",
    ),
    "providers": (
        "exai_actors.daemon.cli.providers:providers",
        "Show each provider of the running broker in detail.",
    ),
    "console": (
        "exai_actors.daemon.cli.console:console",
        "Watch the running broker in the terminal.",
    ),
    "top": ("exai_actors.daemon.cli.top:top", "Watch a TABLE of the running broker."),
    "ps": ("exai_actors.daemon.cli.top:ps", "List the actors of the running broker."),
    "why": ("exai_actors.daemon.cli.why:why", "Show why a REQUEST waits."),
    "usage": ("exai_actors.daemon.cli.look:usage", "List the users of each account."),
    "tree": ("exai_actors.daemon.cli.look:tree", "Show the supervision tree."),
    "inspect": (
        "exai_actors.daemon.cli.look:inspect",
        "Show all that is known of the actor at PATH.",
    ),
    "events": (
        "exai_actors.daemon.cli.look:events",
        "Print the latest events of the running broker.",
    ),
    "provider": (
        "exai_actors.daemon.cli.act:provider",
        "Pause, resume, drain or limit a provider of the running broker.",
    ),
    "drain": (
        "exai_actors.daemon.cli.act:drain",
        "Refuse new requests, finish the others, and end the broker.",
    ),
    "snapshot": (
        "exai_actors.daemon.cli.act:snapshot",
        "Save the last minutes of the broker as a recording.",
    ),
    "act": ("exai_actors.daemon.cli.act:act", "Take an ACTION of the console."),
    "demo": (
        "exai_actors.daemon.demo.command:demo",
        "Watch a broker share a scarce provider fairly.",
    ),
    "config": ("exai_actors.daemon.cli.config:config", "Create, check and show configuration."),
    "doctor": (
        "exai_actors.daemon.cli.doctor:doctor",
        "Check everything that a broker depends on.",
    ),
    "version": ("exai_actors.daemon.cli.version:version", "Show versions."),
}
"""The location and the short help of each command, in the order of `exai --help`."""


class Exai(click.Group):
    """A group that imports its commands late and turns every ending into an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from exai_actors.daemon.config.wording import did_you_mean

            hint = did_you_mean(args[0], COMMANDS)
            ctx.fail(f'there is no command "{args[0]}"{hint or "; see exai --help"}')
        return super().resolve_command(ctx, args)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except OSError as error:
            # Help and version are printed here, before any command runs.
            raise click.exceptions.Exit(_report(error)) from None

    def invoke(self, ctx: click.Context) -> Any:
        code = ExitCode.OK
        try:
            if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            super().invoke(ctx)
            sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit):
            raise
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
        except Exception as error:  # noqa: BLE001 - the last place to report anything
            code = _report(error)
        ctx.exit(code)


def _report(error: Exception) -> ExitCode:
    if isinstance(error, BrokenPipeError):
        from exai_actors.daemon.cli.output import discard_stdout

        discard_stdout()
        return ExitCode.BROKEN_PIPE
    from exai_actors.daemon.cli.exit_codes import of_error
    from exai_actors.daemon.cli.output import discard_stdout, lines_of, print_error
    from exai_actors.errors import ExaiError

    if isinstance(error, ExaiError):
        for line in lines_of(error):
            print_error(line)
        return of_error(error)
    if os.environ.get("EXAI_TRACEBACK"):
        raise error
    if isinstance(error, OSError):
        print_error(f"{error.filename or 'output'}: {error.strerror or error}")
        discard_stdout()
        return ExitCode.FAILED
    from exai_actors.daemon.logs.setup import describe

    print_error(f"internal error: {describe(error)}")
    print_error("for the traceback, set EXAI_TRACEBACK=1 and run the command again")
    return ExitCode.INTERNAL


def _show_version(ctx: click.Context, _param: click.Parameter, given: bool) -> None:
    if given:
        from exai_actors import __version__

        click.echo(f"exai {__version__}")
        ctx.exit()


@click.group(
    cls=Exai,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `exai serve`, and in a second terminal `exai ask hello`.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version.",
)
def exai() -> None:
    """A broker between many clients and few, scarce AI providers."""


def main() -> None:
    """Run the command that the arguments name; ends the process."""
    # A stream that the caller has closed. In this order each gets its usual number, so that no
    # socket gets it and with it the output that was meant for a terminal.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - open until the process ends
    for stream in (sys.stdout, sys.stderr):
        # A character missing in the user's encoding must not end a command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    exai(prog_name="exai")
