"""Start a client program for one run, with the broker in its environment."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

from exai_actors.daemon.programs.table import Program, Start
from exai_actors.errors import UsageError

_FORWARDED = (signal.SIGTERM, signal.SIGHUP)
_FOR_THE_PROGRAM = (signal.SIGINT, signal.SIGQUIT)
"""The terminal sends them to both processes; the program decides."""


def found_at(commands: Iterable[str]) -> str | None:
    """The path of the first of the commands that is on PATH."""
    return next(filter(None, map(shutil.which, commands)), None)


def path_of(program: Program) -> str:
    """The path of the program. Raises UsageError with the command that installs it."""
    path = found_at(program.commands)
    if path is None:
        raise UsageError(
            f"{program.title} is not installed (there is no `{program.commands[0]}` on PATH); "
            f"install it with: {program.install}"
        )
    return path


def run(path: str, start: Start, arguments: tuple[str, ...], env: Mapping[str, str]) -> int:
    """Run the program until it ends; return its exit code, as a shell has it.

    A program that needs no files takes this process's place.
    """
    if not start.files:
        _become(path, start, arguments, env)
    with tempfile.TemporaryDirectory(prefix="exai-") as folder:
        for name, text in start.files.items():
            file = Path(folder) / name
            file.touch(mode=0o600)
            file.write_text(text)
        placed = [word.replace("{folder}", folder) for word in start.arguments]
        environment = {
            name: value.replace("{folder}", folder) for name, value in start.environment.items()
        }
        return _wait_for([path, *placed, *arguments], {**env, **environment})


def _become(
    path: str, start: Start, arguments: tuple[str, ...], env: Mapping[str, str]
) -> NoReturn:
    try:
        os.execve(path, [path, *start.arguments, *arguments], {**env, **start.environment})  # noqa: S606
    except OSError as error:
        raise UsageError(f"{path} cannot be started: {error.strerror}") from None


def _wait_for(command: list[str], env: dict[str, str]) -> int:
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def forward(number: int, _: object) -> None:
        if process is None:
            early.append(number)
        else:
            process.send_signal(number)

    kept = {each: signal.getsignal(each) for each in (*_FORWARDED, *_FOR_THE_PROGRAM)}
    try:
        for each in kept:
            signal.signal(each, forward if each in _FORWARDED else lambda *_: None)
        process = subprocess.Popen(command, env=env)  # noqa: S603 - the user's own program
        for number in early:
            process.send_signal(number)
        code = process.wait()
    except OSError as error:
        raise UsageError(f"{command[0]} cannot be started: {error.strerror}") from None
    finally:
        for each, handler in kept.items():
            signal.signal(each, handler)
    return code if code >= 0 else 128 - code
