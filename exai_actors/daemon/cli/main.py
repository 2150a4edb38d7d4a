"""The command line `exai`: which commands there are, and how any of them may end.

Nothing but click is imported until a command has been chosen: `exai --help` is instant.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import click

from exai_actors.daemon.cli.exit_codes import ExitCode

COMMANDS = {
    "serve": ("exai_actors.daemon.cli.serve:serve", "Run a broker until it is told to stop."),
    "ask": ("exai_actors.daemon.cli.ask:ask", "Ask a model and print the answer as it comes."),
    "models": ("exai_actors.daemon.cli.models:models", "List the models the broker can ask."),
    "tools": ("exai_actors.daemon.cli.tools:tools", "List the tools the broker offers."),
    "health": (
        "exai_actors.daemon.cli.health:health",
        "Show how the broker and its providers are doing.",
    ),
    "providers": (
        "exai_actors.daemon.cli.providers:providers",
        "Show what each provider allows and where the numbers come from.",
    ),
    "demo": (
        "exai_actors.daemon.demo.command:demo",
        "Watch a broker share a scarce provider fairly.",
    ),
    "config": ("exai_actors.daemon.cli.config:config", "Begin, check and show configuration."),
    "version": ("exai_actors.daemon.cli.version:version", "Show versions."),
}
"""Each command with where it is and what it does, in the order of the help."""


class Exai(click.Group):
    """A group that imports its commands late and turns every end into an exit code."""

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
            # The help and the version are written here, before there is anything to invoke.
            raise click.exceptions.Exit(_tell(error)) from None

    def invoke(self, ctx: click.Context) -> Any:
        code = ExitCode.OK
        try:
            super().invoke(ctx)
            sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit):
            raise
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
        except Exception as error:  # noqa: BLE001 - the last place where anything can be told
            code = _tell(error)
        ctx.exit(code)


def _tell(error: Exception) -> ExitCode:
    if isinstance(error, BrokenPipeError):
        _drop_stdout()
        return ExitCode.BROKEN_PIPE
    from exai_actors.daemon.cli.exit_codes import of_error
    from exai_actors.daemon.cli.output import complain, lines_of
    from exai_actors.errors import ExaiError

    if isinstance(error, ExaiError):
        for line in lines_of(error):
            complain(line)
        return of_error(error)
    if os.environ.get("EXAI_TRACEBACK"):
        raise error
    if isinstance(error, OSError):
        complain(f"{error.filename or 'output'}: {error.strerror or error}")
        _drop_stdout()
        return ExitCode.FAILED
    from exai_actors.daemon.logs.setup import describe

    complain(f"a fault in exai itself: {describe(error)}")
    complain("for the whole story set EXAI_TRACEBACK=1 and do it again")
    return ExitCode.INTERNAL


def _drop_stdout() -> None:
    # The interpreter flushes stdout once more at its end and would complain about the pipe.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
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
    """What the script `exai` and ``python -m exai_actors`` call; ends the process."""
    # Closed by the caller, who has nothing to say or wants nothing told. In this order each gets
    # the number it should have, so that no socket takes it and gets what was meant for a terminal.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - to the process's end
    for stream in (sys.stdout, sys.stderr):
        # A character that the user's encoding does not have must not end a command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    exai(prog_name="exai")
