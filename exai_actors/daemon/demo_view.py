"""How the demo looks: a snapshot in, lines of text out."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from exai_actors.daemon.demo_log import SessionView, Snapshot

COLOURS = ("magenta", "cyan", "yellow", "green")


class Look(msgspec.Struct, frozen=True):
    """What the terminal can show."""

    width: int = 80
    colour: bool = False
    unicode: bool = True

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


def screen(snapshot: Snapshot, look: Look) -> list[str]:
    """The live picture, no line wider than ``look.width``."""
    possible = f"{snapshot.possible_rate:g} requests/s are possible"
    offer = f"limit {snapshot.limit}, {snapshot.service_s * 1000:g} ms a call: {possible}"
    clock = f"{snapshot.elapsed:4.1f} of {snapshot.duration:g} s"
    gap = " " * max(2, look.width - len("exai demo  ") - len(offer) - len(clock))
    lines: list[list[Span]] = [
        [Span("exai demo  ", bold=True), Span(offer), Span(gap), Span(clock, dim=True)],
        [],
        _permits(snapshot, look),
        _waiting(snapshot, look),
        _totals(snapshot),
        [],
        _head(look),
    ]
    lines += [
        _session(session, _colour(index), look) for index, session in enumerate(snapshot.sessions)
    ]
    return [paint(line, look) for line in lines]


def _permits(snapshot: Snapshot, look: Look) -> list[Span]:
    colours = {session.name: _colour(at) for at, session in enumerate(snapshot.sessions)}
    held = [Span(f"{look.held} ", fg=colours[name]) for name in sorted(snapshot.holders)]
    free = [Span(f"{look.free} ", dim=True)] * (snapshot.limit - len(held))
    used = f"{snapshot.utilisation * 100:.1f} %"
    return [
        Span("  upstream  ", dim=True),
        *held,
        *free,
        Span(f" {len(held)} in flight, never more than {snapshot.peak}; {used} of the limit used"),
    ]


def _waiting(snapshot: Snapshot, look: Look) -> list[Span]:
    label = [Span("  waiting   ", dim=True)]
    queue = [
        Span(look.held * session.waiting, fg=_colour(index))
        for index, session in enumerate(snapshot.sessions)
        if session.waiting
    ]
    return label + (queue or [Span("nobody", dim=True)])


def _totals(snapshot: Snapshot) -> list[Span]:
    wrong = snapshot.failed + snapshot.refused
    return [
        Span("  served    ", dim=True),
        Span(f"{snapshot.served}", bold=True),
        Span(f" ({snapshot.rate:.1f}/s)   "),
        Span(
            f"errors {snapshot.failed}   refused upstream (429) {snapshot.refused}",
            fg="red" if wrong else None,
        ),
    ]


NAME, COUNT, WAIT = 8, 9, 10
FIXED = 2 + NAME + 3 * COUNT + 6 + 2 * WAIT


def _head(look: Look) -> list[Span]:
    counts = "".join(f"{title:>{COUNT}}" for title in ("clients", "waiting", "served"))
    share = f"  {'share':<{_bar_width(look) + 6}}"
    waits = "".join(f"{title:>{WAIT}}" for title in ("p50 wait", "p99 wait"))
    return [Span(f"  {'session':<{NAME}}{counts}{share}{waits}", dim=True)]


def _session(session: SessionView, colour: str, look: Look) -> list[Span]:
    width = _bar_width(look)
    full = round(session.share * width)
    counts = "".join(
        f"{number:>{COUNT}}" for number in (session.connections, session.waiting, session.served)
    )
    waits = f"{_seconds(session.wait_p50):>{WAIT}}{_seconds(session.wait_p99):>{WAIT}}"
    return [
        Span(f"  {session.name:<{NAME}}", fg=colour, bold=True),
        Span(f"{counts}  "),
        Span(look.bar * full, fg=colour),
        Span(look.rest * (width - full), dim=True),
        Span(f"{_percent(session.share):>6}"),
        Span(waits),
    ]


def _bar_width(look: Look) -> int:
    return max(0, min(40, look.width - FIXED - 2))


def progress_line(snapshot: Snapshot) -> str:
    """One line for an output that is no terminal."""
    sessions = "; ".join(
        f"{session.name} {session.served} ({_percent(session.share)}, {session.waiting} waiting, "
        f"p99 wait {_seconds(session.wait_p99)})"
        for session in snapshot.sessions
    )
    return (
        f"{snapshot.elapsed:4.1f} s  served {snapshot.served} ({snapshot.rate:.1f}/s), "
        f"{len(snapshot.holders)} of {snapshot.limit} in flight; {sessions}"
    )


def summary(snapshot: Snapshot, look: Look) -> list[str]:
    """The table at the end."""
    sessions = snapshot.sessions
    rows: list[tuple[str, list[str], str]] = [
        ("clients", [str(each.connections) for each in sessions], _sum(sessions, "connections")),
        ("requests served", [str(each.served) for each in sessions], str(snapshot.served)),
        ("errors", [str(each.failed) for each in sessions], str(snapshot.failed)),
        ("share of the provider", [_percent(each.share) for each in sessions], ""),
        ("wait, median", [_seconds(each.wait_p50) for each in sessions], ""),
        ("wait, 99 % below", [_seconds(each.wait_p99) for each in sessions], ""),
    ]
    head = [Span(f"  {'':<24}")]
    head += [
        Span(f"{each.name:>12}", fg=_colour(index), bold=True)
        for index, each in enumerate(sessions)
    ]
    head.append(Span(f"{'together':>12}", bold=True))
    lines = [head]
    for title, values, together in rows:
        cells = "".join(f"{value:>12}" for value in [*values, together])
        lines.append([Span(f"  {title:<24}", dim=True), Span(cells)])
    used = f"{snapshot.utilisation * 100:.1f} %"
    # Little's law: so many clients in a closed loop, less the time they are served.
    clients = sum(each.connections for each in sessions)
    alike = max(0.0, clients / snapshot.possible_rate - snapshot.service_s)
    lines += [
        [],
        [
            Span("  By the provider's own count: "),
            Span(f"at most {snapshot.peak} calls at once (limit {snapshot.limit}),", bold=True),
        ],
        [
            Span(f"  {snapshot.refused} refused with 429, "),
            Span(f"{used} of the limit used in {snapshot.elapsed:.1f} s.", bold=True),
        ],
        [Span(f"  In one queue for all, everybody would have waited {_seconds(alike)}.")],
    ]
    return [paint(line, look).rstrip() for line in lines]


def paint(line: Sequence[Span], look: Look) -> str:
    """Join the spans, cut at the width of the terminal, coloured if it can."""
    left = look.width
    parts: list[str] = []
    for span in line:
        text = span.text[:left]
        left -= len(text)
        styled = look.colour and (span.fg or span.bold or span.dim)
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
