"""The demo's picture: a snapshot in, lines of text out."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click
import msgspec

from exai_actors.daemon.demo.tally import SessionView, Snapshot

COLOURS = ("magenta", "cyan", "yellow", "green")


class Style(msgspec.Struct, frozen=True):
    """The capabilities of the terminal."""

    width: int = 80
    colour: bool = False
    unicode: bool = True

    @property
    def narrow(self) -> bool:
        """Whether the terminal is too narrow for the full picture."""
        return self.width < 72

    @property
    def held(self) -> str:
        return "■" if self.unicode else "#"

    @property
    def free(self) -> str:
        return "□" if self.unicode else "."

    @property
    def bar(self) -> str:
        return "█" if self.unicode else "="

    @property
    def rest(self) -> str:
        return "░" if self.unicode else " "


class Span(msgspec.Struct, frozen=True):
    """A piece of a line with its style."""

    text: str
    fg: str | None = None
    bold: bool = False
    dim: bool = False


def picture(snapshot: Snapshot, style: Style) -> list[str]:
    """The live picture, no line wider than ``style.width``."""
    offer = f"limit {snapshot.limit}, {snapshot.service_s * 1000:g} ms a call"
    if not style.narrow:
        offer += f": {snapshot.possible_rate:g} requests/s are possible"
    clock = f"{snapshot.elapsed:4.1f} of {snapshot.duration:g} s"
    gap = " " * max(2, style.width - len("exai demo  ") - len(offer) - len(clock))
    lines: list[list[Span]] = [
        [Span("exai demo  ", bold=True), Span(offer), Span(gap), Span(clock, dim=True)],
        [],
        _permits(snapshot, style),
        _waiting(snapshot, style),
        _totals(snapshot, style),
        [],
        _head(style),
    ]
    lines += [
        _session(session, _colour(index), style) for index, session in enumerate(snapshot.sessions)
    ]
    return [paint(line, style) for line in lines]


def _permits(snapshot: Snapshot, style: Style) -> list[Span]:
    colours = {session.name: _colour(at) for at, session in enumerate(snapshot.sessions)}
    held = [Span(f"{style.held} ", fg=colours[name]) for name in sorted(snapshot.holders)]
    free = [Span(f"{style.free} ", dim=True)] * (snapshot.limit - len(held))
    used = f"{snapshot.utilisation * 100:.1f} %"
    peak = "" if style.narrow else f", never more than {snapshot.peak}"
    return [
        Span("  upstream  ", dim=True),
        *held,
        *free,
        Span(f" {len(held)} in flight{peak}; {used} of the limit used"),
    ]


def _waiting(snapshot: Snapshot, style: Style) -> list[Span]:
    label = [Span("  waiting   ", dim=True)]
    queue = [
        Span(style.held * session.waiting, fg=_colour(index))
        for index, session in enumerate(snapshot.sessions)
        if session.waiting
    ]
    return label + (queue or [Span("none", dim=True)])


def _totals(snapshot: Snapshot, style: Style) -> list[Span]:
    wrong = snapshot.failed + snapshot.refused
    refused = "429" if style.narrow else "refused upstream (429)"
    return [
        Span("  served    ", dim=True),
        Span(f"{snapshot.served}", bold=True),
        Span(f" ({snapshot.rate:.1f}/s)   "),
        Span(
            f"errors {snapshot.failed}   {refused} {snapshot.refused}",
            fg="red" if wrong else None,
        ),
    ]


NAME, SHARE = 8, 6


def _columns(style: Style) -> tuple[int, int]:
    """The widths of a count and of a wait."""
    return (8, 9) if style.narrow else (9, 10)


def _head(style: Style) -> list[Span]:
    count, wait = _columns(style)
    counts = "".join(f"{title:>{count}}" for title in ("clients", "waiting", "served"))
    share = f"  {'share':<{_bar_width(style) + SHARE}}"
    waits = "".join(f"{title:>{wait}}" for title in ("p50 wait", "p99 wait"))
    return [Span(f"  {'session':<{NAME}}{counts}{share}{waits}", dim=True)]


def _session(session: SessionView, colour: str, style: Style) -> list[Span]:
    width = _bar_width(style)
    count, wait = _columns(style)
    full = round(session.share * width)
    counts = "".join(
        f"{number:>{count}}" for number in (session.connections, session.waiting, session.served)
    )
    waits = f"{_seconds(session.wait_p50):>{wait}}{_seconds(session.wait_p99):>{wait}}"
    return [
        Span(f"  {session.name:<{NAME}}", fg=colour, bold=True),
        Span(f"{counts}  "),
        Span(style.bar * full, fg=colour),
        Span(style.rest * (width - full), dim=True),
        Span(f"{_percent(session.share):>{SHARE}}"),
        Span(waits),
    ]


def _bar_width(style: Style) -> int:
    count, wait = _columns(style)
    return max(0, min(40, style.width - 2 - NAME - 3 * count - 2 - SHARE - 2 * wait))


def progress_line(snapshot: Snapshot) -> str:
    """One line for an output that is not a terminal."""
    sessions = "; ".join(
        f"{session.name} {session.served} ({_percent(session.share)}, {session.waiting} waiting, "
        f"p99 wait {_seconds(session.wait_p99)})"
        for session in snapshot.sessions
    )
    return (
        f"{snapshot.elapsed:4.1f} s  served {snapshot.served} ({snapshot.rate:.1f}/s), "
        f"{len(snapshot.holders)} of {snapshot.limit} in flight; {sessions}"
    )


def summary(snapshot: Snapshot, style: Style) -> list[str]:
    """The table and the notes at the end."""
    sessions = snapshot.sessions
    rows: list[tuple[str, list[str], str]] = [
        ("clients", [str(each.connections) for each in sessions], _sum(sessions, "connections")),
        ("requests served", [str(each.served) for each in sessions], str(snapshot.served)),
        ("errors", [str(each.failed) for each in sessions], str(snapshot.failed)),
        ("share of the provider", [_percent(each.share) for each in sessions], ""),
        ("wait, median", [_seconds(each.wait_p50) for each in sessions], ""),
        ("wait, 99th percentile", [_seconds(each.wait_p99) for each in sessions], ""),
    ]
    title_width, cell = (22, 11) if style.narrow else (24, 12)
    head = [Span(f"  {'':<{title_width}}")]
    head += [
        Span(f"{each.name:>{cell}}", fg=_colour(index), bold=True)
        for index, each in enumerate(sessions)
    ]
    head.append(Span(f"{'total':>{cell}}", bold=True))
    lines = [head]
    for title, values, total in rows:
        cells = "".join(f"{value:>{cell}}" for value in [*values, total])
        lines.append([Span(f"  {title:<{title_width}}", dim=True), Span(cells)])
    used = f"{snapshot.utilisation * 100:.1f} %"
    # Little's law for that many clients in a closed loop, less the service time.
    clients = sum(each.connections for each in sessions)
    common_wait = max(0.0, clients / snapshot.possible_rate - snapshot.service_s)
    notes = [
        [
            Span("  Counted by the service: "),
            Span(f"at most {snapshot.peak} calls at once (limit {snapshot.limit}),", bold=True),
        ],
        [
            Span(f"  {snapshot.refused} refused with 429, "),
            Span(f"{used} of the limit used in {snapshot.elapsed:.1f} s.", bold=True),
        ],
        [Span(f"  In a single queue, every request would have waited {_seconds(common_wait)}.")],
    ]
    lines.append([])
    for line in notes:
        lines += _folded(line, style.width)
    return [paint(line, style).rstrip() for line in lines]


def _folded(line: Sequence[Span], width: int) -> list[list[Span]]:
    """The line wrapped at blanks."""
    lines: list[list[Span]] = [[]]
    left = width
    for span in line:
        for word in re.split(r"(?<= )", span.text):
            if len(word.rstrip()) > left:
                lines.append([Span("  ")])
                left = width - 2
            lines[-1].append(msgspec.structs.replace(span, text=word))
            left -= len(word)
    return lines


def paint(line: Sequence[Span], style: Style) -> str:
    """Join the spans, cut to the width of the terminal, in colour if it has any."""
    left = style.width
    parts: list[str] = []
    for span in line:
        text = span.text[:left]
        left -= len(text)
        styled = style.colour and (span.fg or span.bold or span.dim)
        parts.append(
            click.style(text, fg=span.fg, bold=span.bold or None, dim=span.dim or None)
            if styled and text
            else text
        )
    return "".join(parts)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def _percent(value: float) -> str:
    return f"{value * 100:.0f} %"


def _sum(sessions: Sequence[SessionView], field: str) -> str:
    return str(sum(getattr(session, field) for session in sessions))
