"""The picture of the benchmark of streams, as SVG that fits light and dark pages."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from tools.streams.cases import Rows
from tools.streams.servers import BROKER, BROKER_HTTP, BROKER_RPC, DIRECT, RELAY, Sample

_WIDTH, _HEIGHT = 860, 330
_TOP, _BOTTOM = 58, 40
_PANEL = 300
_COLOURS = {BROKER: "a", RELAY: "b", "HAProxy": "c", "nginx": "d"}
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #57606a; }
.title { font-weight: 600; fill: #24292f; }
.grid { stroke: #8c959f; stroke-opacity: .3; }
path { fill: none; stroke-width: 2.2; }
.a { stroke: #0969da; fill: #0969da; } .b { stroke: #bc4c00; fill: #bc4c00; }
.c { stroke: #1a7f37; fill: #1a7f37; } .d { stroke: #8250df; fill: #8250df; }
text.a, text.b, text.c, text.d { stroke: none; }
path.a, path.b, path.c, path.d { fill: none; }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1; } .title { fill: #e6edf3; }
  .a { stroke: #58a6ff; fill: #58a6ff; } .b { stroke: #f0883e; fill: #f0883e; }
  .c { stroke: #3fb950; fill: #3fb950; } .d { stroke: #bc8cff; fill: #bc8cff; }
}
"""


def svg(paced: dict[int, Rows]) -> str:
    """CPU for each piece, and the pieces that came, by the number of streams."""
    shown = [
        name for name in next(iter(paced.values())) if name not in (DIRECT, BROKER_RPC, BROKER_HTTP)
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'role="img" aria-label="{escape(_described(paced, shown))}">'
    )
    parts = [
        head,
        f"<style>{_STYLE}</style>",
        *_panel(60, "CPU for each piece, µs (less is better)", paced, shown, lambda it: it.cpu_us),
        *_panel(
            480,
            "pieces that came in time, % (more is better)",
            paced,
            shown,
            lambda it: min(it.came, 1) * 100,
            highest=100,
        ),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _described(paced: dict[int, Rows], shown: list[str]) -> str:
    return "CPU µs for each piece of a stream: " + "; ".join(
        f"{name} "
        + ", ".join(
            f"{rows[name].cpu_us:.0f} at {streams:,} streams" for streams, rows in paced.items()
        )
        for name in shown
    )


def _panel(
    left: int,
    title: str,
    paced: dict[int, Rows],
    shown: list[str],
    value: Callable[[Sample], float],
    highest: float = 0,
) -> list[str]:
    highest = highest or _round_up(max(value(r[name]) for r in paced.values() for name in shown))
    bottom = _HEIGHT - _BOTTOM
    scale = (bottom - _TOP) / highest
    step = _PANEL / max(1, len(paced) - 1)
    parts = [f'<text class="title" x="{left}" y="20">{escape(title)}</text>']
    for index in range(5):
        figure = highest * index / 4
        y = bottom - figure * scale
        parts += [
            f'<line class="grid" x1="{left}" x2="{left + _PANEL}" y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{figure:g}</text>',
        ]
    for index, streams in enumerate(paced):
        x = left + index * step
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{streams:,}</text>')
    parts.append(
        f'<text x="{left + _PANEL / 2}" y="{bottom + 34}" text-anchor="middle">streams</text>'
    )
    for index, name in enumerate(shown):
        colour = _COLOURS.get(name, "d")
        points = [
            (left + at * step, bottom - value(rows[name]) * scale)
            for at, rows in enumerate(paced.values())
        ]
        line = " L ".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(f'<path class="{colour}" d="M {line}"/>')
        parts += [
            f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>' for x, y in points
        ]
        place = left + sum(7 * len(each) + 18 for each in shown[:index])
        parts.append(f'<text class="{colour}" x="{place:.1f}" y="42">{escape(name)}</text>')
    return parts


def _round_up(value: float) -> float:
    """The next of 20, 40, 80, 100, 200 … , which four parts divide well."""
    size = 1.0
    while True:
        for first in (2, 4, 8):
            if value <= first * size:
                return first * size
        size *= 10
