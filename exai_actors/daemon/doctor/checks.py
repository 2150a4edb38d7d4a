"""Each check looks at one thing and says how it is, with the command that repairs it.

None of them changes anything, and all work without a configuration.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Literal

import msgspec

from exai_actors.client.errors import ConnectError
from exai_actors.daemon.config.files import path_of
from exai_actors.daemon.config.reading import Reading
from exai_actors.daemon.config.tables import Config
from exai_actors.daemon.doctor.clock import is_synchronised
from exai_actors.daemon.doctor.port_owner import port_owner
from exai_actors.daemon.interpreter import interpreter
from exai_actors.daemon.programs.running import found_at
from exai_actors.daemon.programs.table import PROGRAMS
from exai_actors.daemon.readiness import readiness
from exai_actors.edges.fd_limit import raise_fd_limit

Verdict = Literal["ok", "warning", "failed"]

LITTLE_DISK_BYTES = 500_000_000


class Finding(msgspec.Struct, frozen=True):
    """The result of a check; ``repair`` is a command, empty if there is nothing to repair."""

    check: str
    verdict: Verdict
    text: str
    repair: str = ""


def python() -> Iterator[Finding]:
    found = interpreter()
    named = f"{found.name} {found.version}"
    if found.optimised is False:
        yield Finding(
            "python",
            "warning",
            f"{named}, built without optimisation: the broker takes 1.3 times the CPU",
            "PYTHON_CONFIGURE_OPTS='--enable-optimizations --with-lto' pyenv install 3",
        )
    else:
        yield Finding("python", "ok", f"{named}{', optimised' if found.optimised else ''}")
    try:
        number = version_of("uvloop")
    except PackageNotFoundError:
        yield Finding("loop", "warning", "asyncio's own, which is slower", "pip install uvloop")
    else:
        yield Finding("loop", "ok", f"uvloop {number}")


def configuration(reading: Reading) -> Iterator[Finding]:
    for problem in reading.problems:
        yield Finding("config", "failed", str(problem), "exai config check")
    for warning in reading.warnings:
        yield Finding("config", "warning", str(warning))
    if reading.config is not None:
        file = reading.config.source.file
        names = ", ".join(provider.name for provider in reading.config.provider)
        if file is None:
            text = "there is no file: the built-in provider answers, which is not an AI"
            yield Finding("config", "ok", f"{text} (`exai config init --preset NAME` writes one)")
        else:
            yield Finding("config", "ok", f"{file} is valid; providers: {names}")


def keys(reading: Reading) -> Iterator[Finding]:
    for missing in reading.missing_keys:
        text, _, cure = str(missing).rpartition("; set it ")
        yield Finding("keys", "failed", text or str(missing), cure.rpartition(": ")[2])
    if reading.config is not None and not reading.missing_keys:
        count = len(reading.config.api_keys)
        yield Finding("keys", "ok", f"{count} found" if count else "none needed")


def port(config: Config) -> Iterator[Finding]:
    """Free, or taken by a broker of ours, or by another program."""
    host, number = config.server.host, config.server.port
    where = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
    if number == 0:
        yield Finding("port", "ok", "a free one is chosen at each start")
        return
    try:
        with socket.create_server((host, number), family=_family(host)):
            pass
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            yield Finding(
                "port",
                "failed",
                f"{where} cannot be listened on: {error.strerror}",
                "exai serve --host 127.0.0.1",
            )
            return
    else:
        yield Finding("port", "ok", f"{where} is free; `exai serve` starts a broker")
        return
    yield _taken(where, number)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _taken(where: str, number: int) -> Finding:
    shown = where.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")  # noqa: S104
    owner = port_owner(number)
    by = f" by {owner}" if owner else ""
    who = f", {owner}" if owner else ""
    try:
        state = readiness(f"ws://{shown}")
    except ConnectError:
        return Finding("port", "failed", f"{where} is used{by}", f"exai serve --port {number + 1}")
    if state["ready"]:
        return Finding("port", "ok", f"{where} is served by a broker{who}")
    reasons = "; ".join(map(str, state["reasons"]))
    return Finding(
        "port", "warning", f"the broker on {where}{who} is not ready: {reasons}", "exai top --once"
    )


def clock() -> Iterator[Finding]:
    if is_synchronised() is False:
        yield Finding(
            "clock",
            "warning",
            "it is not synchronised, as far as the system knows; holds until a time of day "
            "and certificates depend on it",
            "timedatectl set-ntp true",
        )
    else:
        yield Finding("clock", "ok", "it is kept by the system")


def disk(config: Config | None) -> Iterator[Finding]:
    """The folders that the broker writes to have room; without any, the current one."""
    for name, folder in _folders(config):
        existing = next(each for each in (folder, *folder.parents) if each.exists())
        free = shutil.disk_usage(existing).free
        shown = f"{name}: {free / 1e9:.1f} GB free in {existing}"
        if existing != folder:
            missing = f"{name}: the folder {folder} does not exist"
            yield Finding("disk", "warning", missing, f"mkdir -p {folder}")
            continue
        if not os.access(existing, os.W_OK):
            yield Finding(
                "disk", "failed", f"{name}: {existing} cannot be written to", f"ls -ld {existing}"
            )
        elif free < LITTLE_DISK_BYTES:
            yield Finding("disk", "warning", shown, f"df -h {existing}")
        else:
            yield Finding("disk", "ok", shown)


def _folders(config: Config | None) -> Iterator[tuple[str, Path]]:
    written: dict[str, str] = {}
    base = Path.cwd()
    if config is not None:
        base = config.source.file.parent if config.source.file else base
        written = {
            "[audit] file": config.audit.file,
            "[logging] access_file": config.logging.access_file,
            "[server] recordings": config.server.recordings,
        }
    for key, name in written.items():
        if name:
            path = (base / path_of(name)).absolute()
            yield key, path if key.endswith("recordings") else path.parent
    if not any(written.values()):
        yield "nothing is written", Path.cwd()


def open_files(config: Config) -> Iterator[Finding]:
    # It raises the limit of this process only, as a broker does at its start.
    warning = raise_fd_limit(config.server.max_connections, config.server.max_strangers)
    if warning is None:
        yield Finding("files", "ok", f"enough for {config.server.max_connections} connections")
    else:
        needed = config.server.max_connections + 256
        yield Finding("files", "warning", warning.partition(" Raise the")[0], f"ulimit -n {needed}")


def programs() -> Iterator[Finding]:
    found = [name for name, each in PROGRAMS.items() if found_at(each.commands)]
    if found:
        text = f"{', '.join(found)} (`exai run {found[0]}` starts one with the broker)"
        yield Finding("programs", "ok", text)
    else:
        yield Finding("programs", "ok", f"none of {', '.join(PROGRAMS)} is on PATH")


def all_checks(reading: Reading) -> Iterator[Finding]:
    """Everything except the services behind the providers, which need a network."""
    yield from python()
    yield from configuration(reading)
    yield from keys(reading)
    if reading.config is not None:
        yield from port(reading.config)
    yield from clock()
    yield from disk(reading.config)
    if reading.config is not None:
        yield from open_files(reading.config)
    yield from programs()
