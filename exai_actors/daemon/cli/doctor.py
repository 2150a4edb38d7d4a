"""`exai doctor`: look at everything that a broker on this machine depends on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from exai_actors.daemon.cli.exit_codes import ExitCode
from exai_actors.daemon.cli.options import json_option, run

if TYPE_CHECKING:
    from exai_actors.daemon.config.reading import Reading
    from exai_actors.daemon.doctor.checks import Finding

_CODES = {
    "config": ExitCode.CONFIG,
    "keys": ExitCode.CONFIG,
    "port": ExitCode.CANNOT_LISTEN,
    "provider": ExitCode.PROVIDER,
}


@click.command()
@click.option("--config", "file", metavar="FILE", help="The configuration file.")
@click.option(
    "--connect", is_flag=True, help="Try address and key of each provider, too; costs no tokens."
)
@json_option
@click.pass_context
def doctor(context: click.Context, file: str | None, connect: bool, as_json: bool) -> None:
    """Check everything that a broker depends on.

    Each line is ok, a warning or failed, with the command that repairs it. Works without a
    configuration, and beside a running broker. The exit code is that of the first failure.
    """
    import msgspec

    from exai_actors.daemon.cli.output import print_json, print_line, printable
    from exai_actors.daemon.config.load import read
    from exai_actors.daemon.doctor.checks import Finding, all_checks
    from exai_actors.errors import ConfigError

    findings: list[Finding] = []
    try:
        reading = read(file, os.environ, {})
    except ConfigError as error:
        findings.append(Finding("config", "failed", str(error), "exai config init"))
    else:
        findings += all_checks(reading)
        if connect:
            findings += _providers(reading)
    if as_json:
        print_json(msgspec.to_builtins(findings))
    else:
        width = max(len(each.check) for each in findings)
        for each in findings:
            repair = f"; run: {each.repair}" if each.repair else ""
            line = f"{each.verdict:<7}  {each.check:<{width}}  {each.text}{repair}"
            print_line(printable(line))
    failed = [each.check for each in findings if each.verdict == "failed"]
    context.exit(_CODES.get(failed[0], ExitCode.FAILED) if failed else ExitCode.OK)


def _providers(reading: Reading) -> list[Finding]:
    from exai_actors.daemon.doctor.checks import Finding
    from exai_actors.daemon.service_check import check_services

    if reading.config is None:
        return []
    checks = run(check_services(reading.config))
    return [Finding("provider", each.verdict, f"{each.provider}: {each.text}") for each in checks]
