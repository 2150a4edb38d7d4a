"""`exai serve`."""

from __future__ import annotations

import errno
import os
import select
import sys

import click

from exai_actors.daemon.cli.exit_codes import ExitCode
from exai_actors.daemon.cli.output import discard_stdout

_CLOSING_S = 1.0
"""How long the closed broker may wait for its threads before the process ends."""


@click.command()
@click.option("--config", "file", metavar="FILE", help="The configuration file.")
@click.option("--host", metavar="H", help="The address to listen on.")
@click.option("--port", type=int, metavar="N", help="The port to listen on; 0 picks a free one.")
@click.option(
    "--local", is_flag=True, help="Serve a small model on this machine, too (extra `local`)."
)
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.option("--log-format", metavar="FORMAT", help="auto, text or json.")
@click.pass_context
def serve(
    ctx: click.Context,
    file: str | None,
    host: str | None,
    port: int | None,
    local: bool,
    log_level: str | None,
    log_format: str | None,
) -> None:
    """Run a broker until a signal stops it.

    Prints `ready ws://HOST:PORT` on stdout once clients can connect, and then the other addresses;
    everything else goes to stderr. Ctrl-C or SIGTERM lets the requests in flight end; a second one
    stops immediately.

    Without a configuration file, it serves a built-in provider that invents its answers.
    """
    _import_structlog()
    from exai_actors.daemon.cli.output import lines_of, print_error
    from exai_actors.daemon.config.load import load
    from exai_actors.daemon.logs.setup import configure_logging
    from exai_actors.errors import UsageError

    flags = {
        "--host": host,
        "--port": port,
        "--log-level": log_level,
        "--log-format": log_format,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    loaded = load(file, os.environ, given)
    configure_logging(loaded.config.logging, sys.stderr)

    import structlog

    log = structlog.get_logger("exai")
    for warning in loaded.warnings:
        log.warning("config.warning", problem=str(warning))
    if loaded.config.source.file is None:
        log.info("config.defaults_used", detail="no configuration file; built-in provider only")
    else:
        names = [provider.name for provider in loaded.config.provider]
        log.info("config.loaded", file=str(loaded.config.source.file), providers=names)

    config, beside = loaded.config, None
    if local:
        from exai_actors.daemon.local_model import child, parts

        try:
            parts.require()
        except UsageError as error:
            print_error(str(error))
            ctx.exit(ExitCode.USAGE)
        model_port = child.free_port()
        config = child.with_local_model(config, model_port)
        beside = child.local_model(child.command(model_port))

    from exai_actors.daemon.logs.in_force import log_in_force

    log_in_force(config)

    from exai_actors.daemon import lifecycle
    from exai_actors.daemon.watchdog import end_process, end_within

    try:
        lifecycle.serve(
            config,
            _say_ready,
            on_end=lambda error: end_within(_CLOSING_S, _code_of(error)),
            kill=lambda cause: end_process(ExitCode.WATCHDOG, cause),
            beside=beside,
        )
    except (UsageError, lifecycle.BrokerGaveUp, lifecycle.EndedByWatchdog) as error:
        is_report = isinstance(error, lifecycle.BrokerGaveUp)
        for line in str(error).splitlines() if is_report else lines_of(error):
            print_error(line)
        ctx.exit(_code_of(error))


def _code_of(error: BaseException | None) -> ExitCode:
    from exai_actors.daemon.lifecycle import BrokerGaveUp, EndedByWatchdog
    from exai_actors.errors import ConfigError, UsageError

    match error:
        case None:
            return ExitCode.OK
        case BrokerGaveUp():
            return ExitCode.GAVE_UP
        case EndedByWatchdog():
            return ExitCode.WATCHDOG
        case ConfigError():
            return ExitCode.CONFIG
        case UsageError():
            return ExitCode.CANNOT_LISTEN
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED
        case _:
            return ExitCode.INTERNAL


def _say_ready(url: str) -> None:
    """Print the addresses, if stdout takes them: a broker that serves does not end for it.

    In one write: a program may end the pipe once it has read the first line.
    """
    import structlog

    from exai_actors.daemon.programs.address import address_of

    address = address_of(url)
    lines = (
        f"ready {url}",
        f"openai {address.v1}",
        f"anthropic {address.root}",
        f"mcp {address.mcp}",
        f"console {address.console}",
    )
    try:
        _require_room()
        click.echo("\n".join(lines))
    except OSError as error:
        discard_stdout()
        log = structlog.get_logger("exai")
        log.warning("broker.ready_not_printed", url=url, cause=error.strerror or str(error))


def _require_room() -> None:
    """Raise BlockingIOError if writing to stdout would wait for its reader."""
    try:
        number = sys.stdout.fileno()
    except OSError:
        return
    if hasattr(select, "poll"):
        room = select.poll()
        room.register(number, select.POLLOUT)
        if not room.poll(0):
            raise BlockingIOError(errno.EAGAIN, "its reader does not read")


def _import_structlog() -> None:
    """Import structlog without rich, which takes longer than a third of the start and is not used.

    It is there with the extra ``console``.
    """
    if "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]
