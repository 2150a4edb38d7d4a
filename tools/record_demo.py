"""Record `exai demo` as an animated SVG: ``python tools/record_demo.py`` writes docs/img/demo.svg.

The picture is that of a real run in a pseudo-terminal, at its own speed. rich reads the colours.
Every line is written once; a frame places its lines side by side with the other frames, and a
stylesheet moves the film. It needs no script, so that it plays where a page shows it as an image.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import struct
import sys
import termios
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

from rich.console import Console
from rich.style import Style
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "img" / "demo.svg"
COLUMNS, ROWS = 80, 21
FRAME_S = 0.2
LAST_S = 8.0
PROMPT = "$ exai demo"

CELL, LINE, FONT, EDGE = 8.4, 19, 14, 16
# The classes of the demo's colours, by their numbers in the terminal.
COLOURS = {1: "r", 3: "y", 5: "m", 6: "c"}
_UPDATE = re.compile(r"\x1b\[\?2026h(.*?)\x1b\[\?2026l", re.DOTALL)
_CONTROL = re.compile(r"\x1b\[(?:\d+F|K|J|\?25[hl])|\r")


_SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" \
height="{height}" role="img">
<title>{title}</title>
<style>
text{{font:{size}px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',\
'Liberation Mono',monospace;fill:#d7dce2;white-space:pre}}
.m{{fill:#e78bd8}}.c{{fill:#5fd3e0}}.y{{fill:#e8c46a}}.r{{fill:#ff7b72}}
.b{{font-weight:bold}}.d{{fill:#8b949e}}
.film{{animation:film {length}s step-end infinite}}
@keyframes film{{{steps}}}
@media (prefers-reduced-motion:reduce){{.film{{animation:none;transform:translateX(-{end}px)}}}}
</style>
<defs>
<clipPath id="screen"><rect width="{width}" height="{height}"/></clipPath>
{lines}
</defs>
<rect x=".5" y=".5" width="{inner_width}" height="{inner_height}" rx="8" fill="#161b22" \
stroke="#3d444d"/>
<g clip-path="url(#screen)"><g class="film">
{pictures}
</g></g>
</svg>
"""


@dataclass(frozen=True)
class Frame:
    """The lines of the terminal, with escape sequences for colours, from some second on."""

    at: float
    lines: tuple[str, ...]


def capture(command: list[str], columns: int, rows: int) -> list[tuple[float, str]]:
    """Run a command in a terminal of that size; what it wrote, with the seconds since its start."""
    began = time.monotonic()
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm-256color", LANG="C.UTF-8")
        os.environ.pop("NO_COLOR", None)
        os.execv(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    written: list[tuple[float, str]] = []
    rest = b""
    while data := _read(terminal):
        # A character may be cut in two.
        text, rest = _decoded(rest + data)
        written.append((time.monotonic() - began, text))
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return written


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says that the other side is closed by an error
        return b""


def _decoded(data: bytes) -> tuple[str, bytes]:
    for cut in range(min(4, len(data))):
        try:
            return data[: len(data) - cut].decode(), data[len(data) - cut :]
        except UnicodeDecodeError:
            continue
    return data.decode(errors="replace"), b""


def frames_of(written: list[tuple[float, str]]) -> list[Frame]:
    """The screens of the demo: it marks each redrawing, and writes its summary below the last."""
    frames = [Frame(0.0, (PROMPT,))]
    pending = ""
    for at, text in written:
        pending += text
        frames += [Frame(at, (PROMPT, *_lines(match[1]))) for match in _UPDATE.finditer(pending)]
        end = pending.rfind("\x1b[?2026l")
        pending = pending[end + len("\x1b[?2026l") :] if end >= 0 else pending
    below = _lines(pending)
    last = frames[-1]
    return [*frames, Frame(written[-1][0], (*last.lines, *below))]


def _lines(text: str) -> list[str]:
    return _CONTROL.sub("", text).rstrip("\n").split("\n")


def thinned(frames: list[Frame]) -> list[Frame]:
    """One frame for each FRAME_S, the last of those, and always the end."""
    kept = [now for now, after in pairwise(frames) if now.at // FRAME_S != after.at // FRAME_S]
    return [*kept, frames[-1]]


class Film:
    """Frames as an SVG. Each different line is defined once."""

    def __init__(self, columns: int, rows: int) -> None:
        self._columns, self._rows = columns, rows
        self._width = round(columns * CELL) + 2 * EDGE
        self._height = rows * LINE + 2 * EDGE
        self._names: dict[str, str] = {}
        self._console = Console(color_system="truecolor", width=columns)

    def svg(self, frames: list[Frame], title: str) -> str:
        """The film in a loop, its last frame for LAST_S; still at that for who wants no motion."""
        pictures = [
            f'<g transform="translate({at * self._width})">{self._uses(frame)}</g>'
            for at, frame in enumerate(frames)
        ]
        length = frames[-1].at + LAST_S
        steps = [
            f"{100 * frame.at / length:.2f}%{{transform:translateX(-{at * self._width}px)}}"
            for at, frame in enumerate(frames)
        ]
        lines = [f'<g id="{name}">{self._texts(line)}</g>' for line, name in self._names.items()]
        return _SVG.format(
            width=self._width,
            height=self._height,
            title=escape(title),
            size=FONT,
            length=f"{length:.1f}",
            steps="".join(steps),
            end=(len(frames) - 1) * self._width,
            lines="\n".join(lines),
            pictures="\n".join(pictures),
            inner_width=self._width - 1,
            inner_height=self._height - 1,
        )

    def _uses(self, frame: Frame) -> str:
        uses = []
        for row, line in enumerate(frame.lines[-self._rows :]):
            if line.strip():
                name = self._names.setdefault(line, f"l{len(self._names)}")
                uses.append(f'<use href="#{name}" y="{row * LINE}"/>')
        return "".join(uses)

    def _texts(self, line: str) -> str:
        """The pieces of a line, each at its column and as wide as its cells in any font."""
        texts, column = [], 0
        for segment in Text.from_ansi(line).render(self._console):
            shown = segment.text.strip("\n ")
            if shown:
                start = column + len(segment.text) - len(segment.text.lstrip())
                texts.append(
                    f'<text x="{EDGE + start * CELL:g}" y="{EDGE + FONT}"{_class(segment.style)} '
                    f'textLength="{len(shown) * CELL:g}">{escape(shown)}</text>'
                )
            column += len(segment.text.rstrip("\n"))
        return "".join(texts)


def _class(style: Style | None) -> str:
    names = []
    if style is not None:
        if style.color is not None:
            names.append(COLOURS[style.color.number or 0])
        names += ["b"] if style.bold else []
        names += ["d"] if style.dim else []
    return f' class="{" ".join(names)}"' if names else ""


def main() -> None:
    parser = argparse.ArgumentParser(description="Record `exai demo` as an animated SVG.")
    parser.add_argument("--output", type=Path, default=PICTURE)
    parser.add_argument("--seconds", default="12")
    options = parser.parse_args()
    command = [sys.executable, "-m", "exai_actors", "demo", "--seconds", options.seconds]
    frames = thinned(frames_of(capture(command, COLUMNS, ROWS)))
    title = "exai demo: one queue for all clients, then fair shares, then a lost client and a 429"
    options.output.write_text(Film(COLUMNS, ROWS).svg(frames, title), "utf-8")
    print(f"{options.output}: {len(frames)} frames, {options.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
