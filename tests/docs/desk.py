"""Runs a page as its reader would: in a folder, with one terminal for the broker and one more."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.docs.blocks import Block

COMMAND_TIMEOUT_S = 20
NEEDS_BROKER = re.compile(r"(?<!\d)8079(?!\d)|^(?:\S+/)?exai (?:ask|call) ", re.MULTILINE)
PAGES_PORT = re.compile(r"(?<!\d)8079(?!\d)")

# The programs on a reader's machine, replaced by those of the environment under test.
_PROGRAMS = {
    ".venv/bin/exai": 'exec "{python}" -m exai_actors "$@"',
    ".venv/bin/python": 'exec "{python}" "$@"',
    ".venv/bin/pip": ":",
    ".path/exai": 'exec "{python}" -m exai_actors "$@"',
    ".path/python": 'exec "{python}" "$@"',
    ".path/python3": '[ "$1 $2" = "-m venv" ] || exec "{python}" "$@"',
}


class Desk:
    """Runs and checks the blocks of one page. Raises AssertionError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._output = ""
        self._url = ""
        self._broker: subprocess.Popen[str] | None = None
        for name, line in _PROGRAMS.items():
            program = folder / name
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text(f"#!/bin/sh\n{line.format(python=sys.executable)}\n")
            program.chmod(0o755)

    def read(self, page: list[Block]) -> None:
        """Run a page in order. If it needs a broker and starts none, one is running."""
        if not any(block.kind == "background" for block in page):
            runs = [block for block in page if block.language in ("sh", "python")]
            needs = [block for block in runs if NEEDS_BROKER.search(block.body)]
            if needs:
                self._start_broker(needs[0], "exai serve")
        for block in page:
            self.do(block)

    def do(self, block: Block) -> None:
        """Run, write or check this block, according to its language and note."""
        match block.language, block.kind:
            case _, "output":
                self._compare(block)
            case (("" | "text" | "mermaid" | "diff" | "ini"), ""):
                pass
            case "json", "":
                json.loads(block.body)
            case "toml", ("" | "file"):
                self._check_configuration(block, block.argument or "block.toml")
            case (("sh" | "python"), "skip"):
                _check_syntax(block)
            case "sh", "background":
                self._start_broker(block, block.body)
            case (("sh" | "python"), ("" | "exits" | "runs as")):
                self._run(block)
            case _, "file":
                _check_syntax(block)
                (self._folder / block.argument).write_text(self._here(block.body))
            case language, kind:
                raise AssertionError(f"{block.where}: cannot check {language!r} {kind!r}")

    def leave(self) -> None:
        """Stop the broker, which must exit with 0."""
        broker, self._broker = self._broker, None
        if broker is None:
            return
        os.killpg(broker.pid, signal.SIGINT)
        _, err = broker.communicate(timeout=COMMAND_TIMEOUT_S)
        assert broker.returncode == 0, f"the broker ended with {broker.returncode}: {err}"

    def abandon(self) -> None:
        """Kill the broker if it is still running."""
        broker, self._broker = self._broker, None
        if broker is not None:
            _kill(broker)
            broker.communicate(timeout=COMMAND_TIMEOUT_S)

    def _run(self, block: Block) -> None:
        body = block.argument if block.kind == "runs as" else block.body
        shell = block.language == "sh" or block.kind == "runs as"
        command = ["bash", "-euc"] if shell else [sys.executable, "-c"]
        ended = subprocess.run(
            [*command, self._here(body)],
            cwd=self._folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        self._output = ended.stdout + ended.stderr
        expected = int(block.argument) if block.kind == "exits" else 0
        if ended.returncode != expected:
            raise AssertionError(
                f"{block.where}: exit code {ended.returncode}, not {expected}\n{self._output}"
            )

    def _start_broker(self, block: Block, script: str) -> None:
        self.leave()
        broker = subprocess.Popen(
            ["bash", "-euc", self._here(script)],
            cwd=self._folder,
            env=self._environment() | {"EXAI_WS_PORT": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert broker.stdout is not None
        line = broker.stdout.readline()
        if not line.startswith("ready ws://"):
            _kill(broker)
            raise AssertionError(f"{block.where}: {line!r}\n{broker.communicate()[1]}")
        self._broker = broker
        self._output = line + "".join(broker.stdout.readline() for _ in range(4))
        self._url = line.split()[1]

    def _check_configuration(self, block: Block, name: str) -> None:
        file = self._folder / name
        file.write_text(block.body)
        keys = re.findall(
            r'^\s*(?:\w+_)?(?:api_key|token)_env\s*=\s*"(\w+)"', block.body, re.MULTILINE
        )
        ended = subprocess.run(
            [sys.executable, "-m", "exai_actors", "config", "check", "--config", str(file)],
            env=self._environment() | {key: f"a-key-for-{key}" for key in keys},
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert ended.returncode == 0, f"{block.where}: {ended.stderr}"
        if not block.kind:
            file.unlink()

    def _compare(self, block: Block) -> None:
        assert _pattern(self._here(block.body)).search(self._output), (
            f"{block.where}: the page says\n{block.body}\nbut the output was\n{self._output}"
        )

    def _here(self, text: str) -> str:
        """Replace the default port by that of this page's broker."""
        return PAGES_PORT.sub(self._url.rpartition(":")[2], text) if self._url else text

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EXAI_")}
        path = os.pathsep.join([str(self._folder / ".path"), kept.get("PATH", "")])
        more = {"PATH": path, "XDG_CONFIG_HOME": str(self._folder), "PYTHONUNBUFFERED": "1"}
        return kept | more | ({"EXAI_URL": self._url} if self._url else {})


@contextmanager
def desk(folder: Path) -> Iterator[Desk]:
    """A desk that stops its broker at the end, in order unless the block raised."""
    reader = Desk(folder)
    try:
        yield reader
        reader.leave()
    finally:
        reader.abandon()


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _check_syntax(block: Block) -> None:
    if block.language == "python":
        compile(block.body, block.where, "exec")
    elif block.language == "sh":
        checked = subprocess.run(
            ["bash", "-n"], input=block.body, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, f"{block.where}: {checked.stderr}"


def _pattern(shown: str) -> re.Pattern[str]:
    """A pattern for printed text in which … matches any text, or any lines if alone on a line."""
    lines = [
        r"(?:.*\n)*?" if line.strip() == "…" else re.escape(line).replace("…", ".*?") + r"\s*?\n"
        for line in shown.splitlines()
    ]
    return re.compile("^" + "".join(lines), re.MULTILINE)
