"""Measure the terminal console: ``python tools/bench_console.py --actors 5000``.

A broker with so many actors runs in a process of its own, and `exai console` in a pseudo-terminal.
Measured: the time from the command to the first picture with figures, and from a key to the screen
that it leads to, as the median and the worst of some repetitions.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import select
import signal
import statistics
import struct
import subprocess
import sys
import termios
import time

from tools.console_load import TOKEN

ROWS, COLUMNS = 24, 80
PATIENCE_S = 10.0
_CONTROL = re.compile(r"\x1b\[[0-9;?>$ ]*[A-Za-z]|\x1b\][^\x07]*\x07")


class Terminal:
    """`exai console` in a pseudo-terminal."""

    def __init__(self, url: str) -> None:
        self.began = time.perf_counter()
        self._child, self._side = pty.fork()
        if self._child == 0:
            os.environ.update(TERM="xterm-256color", EXAI_URL=url, EXAI_OPERATOR_TOKEN=TOKEN)
            os.execv(sys.executable, [sys.executable, "-m", "exai_actors", "console"])
        fcntl.ioctl(self._side, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))

    def press(self, key: str, awaited: str) -> float:
        """Seconds from a key to output with this pattern."""
        self.drain()
        began = time.perf_counter()
        os.write(self._side, key.encode())
        self.await_text(awaited)
        return time.perf_counter() - began

    def await_text(self, pattern: str) -> None:
        """Read until the pattern occurs in the text. Raises SystemExit if it does not."""
        text, until = "", time.perf_counter() + PATIENCE_S
        while not re.search(pattern, _CONTROL.sub("", text)):
            left = until - time.perf_counter()
            if left <= 0 or not select.select([self._side], [], [], left)[0]:
                raise SystemExit(f"the console did not show {pattern!r}:\n{_CONTROL.sub('', text)}")
            text += os.read(self._side, 1 << 16).decode(errors="replace")

    def drain(self, quiet_s: float = 0.15) -> None:
        """Read until the console writes nothing for a moment."""
        while select.select([self._side], [], [], quiet_s)[0]:
            os.read(self._side, 1 << 16)

    def close(self) -> None:
        os.kill(self._child, signal.SIGTERM)
        os.close(self._side)
        os.waitpid(self._child, 0)


def measure(url: str, actors: int, times: int) -> dict[str, list[float]]:
    """The seconds of each step, several times."""
    found: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        found.setdefault(name, []).append(seconds)

    for _ in range(times):
        terminal = Terminal(url)
        terminal.await_text(r"kimi\s+[█·]+ \d/6")
        note("first picture", time.perf_counter() - terminal.began)
        note("pane of actors (3)", terminal.press("3", r"/providers/glm"))
        terminal.press(":actors /idle/\r", rf"of {actors}")
        note("cursor down (j)", terminal.press("j", r">"))
        note("page down", terminal.press("\x1b[6~", r"\d+–\d+"))
        note("last row (G)", terminal.press("G", rf"actor-{actors - 1:05}"))
        note("first row (g)", terminal.press("g", r"actor-00000"))
        note("sort by path (P)", terminal.press("P", r"▲"))
        note("reverse (r)", terminal.press("r", rf"actor-{actors - 1:05}"))
        terminal.press("/", r"idle/")
        note("a letter of a filter", terminal.press("Q", r"none of \d+ rows"))
        terminal.close()
        time.sleep(1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the terminal console.")
    parser.add_argument("--actors", type=int, default=5_000)
    parser.add_argument("--clients", type=int, default=5)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    command = ["-m", "tools.console_load", "--seconds", "300", "--clients", str(options.clients)]
    with subprocess.Popen(
        [sys.executable, *command, "--actors", str(options.actors)],
        stdout=subprocess.PIPE,
        text=True,
    ) as broker:
        try:
            assert broker.stdout is not None
            url = broker.stdout.readline().split()[1].partition("=")[2]
            time.sleep(3)
            found = measure(url, options.actors, options.times)
        finally:
            broker.terminate()
    for name, seconds in found.items():
        print(f"{name:<30}{statistics.median(seconds) * 1e3:6.0f} ms{max(seconds) * 1e3:8.0f} ms")


if __name__ == "__main__":
    main()
