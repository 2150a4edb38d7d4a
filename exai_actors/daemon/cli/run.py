"""`exai run`: start a client program with the broker in its environment."""

from __future__ import annotations

import os

import click

from exai_actors.daemon.cli.program_options import program_options


@click.command(context_settings={"allow_interspersed_args": False})
@program_options
@click.argument("program", metavar="PROGRAM")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGS]")
@click.pass_context
def run(
    context: click.Context,
    program: str,
    arguments: tuple[str, ...],
    model: str | None,
    small_model: str | None,
    url: str,
    token_file: str | None,
) -> None:
    """Start a client PROGRAM that uses the broker.

    The programs are claude, codex, opencode, kilo, cline, continue, qwen, pi, aider and llm. Their
    configuration stays as it is. The exit code is the program's.
    """
    from exai_actors.daemon.cli.program_options import program_named, target_of, token_of
    from exai_actors.daemon.programs import running
    from exai_actors.daemon.programs.address import address_of
    from exai_actors.daemon.programs.broker import models_of

    known = program_named(program)
    path = running.path_of(known)
    token = token_of(token_file)
    if model is not None:
        # A broker that is missing is better reported here than in the program's words.
        models_of(address_of(url), token.value)
    target = target_of(known, url, token, model, small_model)
    # Click leaves the "--" that separates the arguments to a command with free ones.
    rest = arguments[1:] if arguments[:1] == ("--",) else arguments
    context.exit(running.run(path, known.start(target), rest, os.environ))
