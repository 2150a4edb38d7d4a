"""Draw the demo: redrawn in place on a terminal, plain lines anywhere else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import TextIO

from exai_actors.daemon.demo.render import Style, events, picture, progress_line, summary
from exai_actors.daemon.demo.tally import Snapshot

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
# Terminals with synchronized updates show the whole picture in one step, others ignore these.
BEGIN_UPDATE, END_UPDATE = "\x1b[?2026h", "\x1b[?2026l"
CLEAR_LINE, CLEAR_BELOW = "\x1b[K", "\x1b[J"
PLAIN_INTERVAL_S = 1.0


class Display:
    """Shows snapshots on ``stream``; as a context manager it restores the cursor."""

    def __init__(self, stream: TextIO, env: Mapping[str, str]) -> None:
        self._stream = stream
        self.live = stream.isatty() and env.get("TERM", "") not in ("", "dumb")
        self._colour = self.live and not env.get("NO_COLOR")
        self._unicode = "utf" in (stream.encoding or "").lower()
        self._drawn = 0
        self._next_line = PLAIN_INTERVAL_S
        self._events_shown = 0

    def __enter__(self) -> Display:
        self._write(HIDE_CURSOR if self.live else "")
        return self

    def __exit__(self, *_: object) -> None:
        self._write(SHOW_CURSOR if self.live else "")

    def show(self, snapshot: Snapshot) -> None:
        """Update the picture; without a terminal, print one line per second and each event."""
        if self.live:
            self._redraw(picture(snapshot, self._style()))
        elif snapshot.elapsed >= self._next_line:
            self._next_line += PLAIN_INTERVAL_S
            self._write(f"{progress_line(snapshot)}\n")
        if not self.live:
            happened = list(events(snapshot))[self._events_shown :]
            self._events_shown += len(happened)
            self._write("".join(f"{event}\n" for event in happened))

    def finish(self, snapshot: Snapshot) -> None:
        """Leave the last picture and print the summary below."""
        if self.live:
            self._redraw(picture(snapshot, self._style()))
        self._write("\n" + "\n".join(summary(snapshot, self._style())) + "\n")

    def _style(self) -> Style:
        width = shutil.get_terminal_size().columns if self.live else 100
        return Style(width=width, colour=self._colour, unicode=self._unicode)

    def _redraw(self, lines: list[str]) -> None:
        # A picture taller than the terminal would scroll at every redraw.
        lines = lines[: max(1, shutil.get_terminal_size().lines - 1)]
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        body = "".join(f"{line}{CLEAR_LINE}\n" for line in lines)
        self._write(f"{BEGIN_UPDATE}{up}{body}{CLEAR_BELOW}{END_UPDATE}")
        self._drawn = len(lines)

    def _write(self, text: str) -> None:
        if text:
            self._stream.write(text)
            self._stream.flush()


def stdout_display(stream: TextIO) -> Display:
    return Display(stream, os.environ)
