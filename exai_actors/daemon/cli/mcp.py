"""`exai mcp`."""

from __future__ import annotations

from typing import Any

import click

from exai_actors.daemon.cli.exit_codes import ExitCode
from exai_actors.daemon.cli.options import broker_options


@click.command()
@click.option(
    "--token-file",
    type=click.File("r"),
    metavar="FILE",
    help="A file with the broker's token, for hosts that pass no variables on.",
)
@broker_options
def mcp(url: str, token: str | None, token_file: Any) -> None:
    """Serve MCP on stdin and stdout, for a host that starts this command.

    It connects to a running broker, waits for one that is not there yet, and ends with its host.
    """
    if token_file is not None:
        token = token_file.read().strip() or None
    from exai_actors.daemon.mcp_bridge.run import run

    if run(url, token):
        raise SystemExit(ExitCode.INTERRUPTED)
