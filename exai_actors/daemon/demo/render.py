"""The demo's picture: a snapshot in, lines of text out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import click
import msgspec

from exai_actors.daemon.demo.tally import Figures, SlowDown, Snapshot, Vanished

COLOURS = ("magenta", "cyan")
OTHER = "yellow"
MAX_BAR = 20


class Style(msgspec.Struct, frozen=True):
    """The capabilities of the terminal."""

    width: int = 80
    colour: bool = False
    unicode: bool = True

    @property
    def narrow(self) -> bool:
        """Whether the terminal is too narrow for the full picture."""
        return self.width < 78

    @property
    def held(self) -> str:
        return "■" if self.unicode else "#"

    @property
    def free(self) -> str:
        return "□" if self.unicode else "."

    @property
    def bar(self) -> str:
        return "█" if self.unicode else "="


class Span(msgspec.Struct, frozen=True):
    """A piece of a line with its style."""

    text: str
    fg: str | None = None
    bold: bool = False
    dim: bool = False


Line = list[Span]

# For each act its name and its description on a wide and on a narrow terminal.
_ACTS = (
    ("one queue", "one queue for all 26 clients: first come, first served", "for all clients"),
    ("fair shares", "fair shares: one queue for each session", "a queue for each session"),
    ("mishaps", "mishaps: a client vanishes, then the service answers 429", "a lost client, a 429"),
)


def picture(snapshot: Snapshot, style: Style) -> list[str]:
    """The live picture, no line wider than ``style.width``."""
    lines = [
        _title(snapshot, style),
        [],
        _act(snapshot, style),
        _permits(snapshot, style),
        _waiting(snapshot, style),
        _totals(snapshot, style),
        [],
        *_table(snapshot, style),
    ]
    happened = list(events(snapshot))
    if happened:
        lines.append([])
    for text in happened:
        lines += _folded([Span(f"  {text}")], style.width, indent=2 if style.narrow else 10)
    return [paint(line, style).rstrip() for line in lines]


def events(snapshot: Snapshot) -> Iterator[str]:
    """A sentence on each mishap that is over."""
    gone = snapshot.vanished
    if gone is not None and gone.full_again_s is not None:
        yield f"{gone.at:4.1f} s  {_about_vanished(gone)}"
    slow = snapshot.slow_down
    if slow is not None and slow.silent_s is not None:
        yield f"{slow.at:4.1f} s  {_about_slow_down(slow)}"


def _about_vanished(gone: Vanished) -> str:
    aborted, again = _seconds(gone.aborted_s or 0.0), _seconds(gone.full_again_s or 0.0)
    return (
        "A client vanished in the middle of its call. The service saw the call aborted after "
        f"{aborted} and was full again after {again}."
    )


def _about_slow_down(slow: SlowDown) -> str:
    return (
        f"The service answered 429 and asked for a pause of {_seconds(slow.asked_s)}. The next "
        f"call came after {_seconds(slow.silent_s or 0.0)}."
    )


def _title(snapshot: Snapshot, style: Style) -> Line:
    offer = f"limit {snapshot.limit}, {snapshot.service_s * 1000:g} ms a call"
    if not style.narrow:
        offer += f": {snapshot.possible_rate:g} requests/s are possible"
    clock = f"{snapshot.elapsed:4.1f} of {snapshot.duration:g} s"
    gap = " " * max(2, style.width - len("exai demo  ") - len(offer) - len(clock))
    return [Span("exai demo  ", bold=True), Span(offer), Span(gap), Span(clock, dim=True)]


def _act(snapshot: Snapshot, style: Style) -> Line:
    name, long, short = _ACTS[snapshot.act]
    place = f"{snapshot.act + 1} of {len(_ACTS)}"
    return [
        Span(f"  {place:<10}", dim=True),
        Span(f"{name}: {short}" if style.narrow else long, bold=True),
    ]


def _permits(snapshot: Snapshot, style: Style) -> Line:
    held = [Span(f"{style.held} ", fg=_colour(snapshot, name)) for name in sorted(snapshot.holders)]
    free = [Span(f"{style.free} ", dim=True)] * (snapshot.limit - len(held))
    used = f"{snapshot.utilisation * 100:.1f} %"
    text = f" {len(held)} in flight, never more than {snapshot.peak}; {used} of the limit used"
    if style.narrow:
        text = f" at most {snapshot.peak}; {used} used"
    return [Span("  service   ", dim=True), *held, *free, Span(text)]


def _waiting(snapshot: Snapshot, style: Style) -> Line:
    queue = [Span(style.held, fg=_colour(snapshot, name)) for name in snapshot.queue]
    return [Span("  waiting   ", dim=True), *(queue or [Span("none", dim=True)])]


def _totals(snapshot: Snapshot, style: Style) -> Line:
    planned = snapshot.slow_down is not None
    refused = "429" if style.narrow else "answered 429"
    return [
        Span("  served    ", dim=True),
        Span(f"{snapshot.served}", bold=True),
        Span(f" ({snapshot.rate:.1f}/s)   "),
        Span(f"errors {snapshot.failed}   ", fg="red" if snapshot.failed else None),
        Span(f"{refused}: {snapshot.refused}", fg="red" if snapshot.refused > planned else None),
    ]


NAME, COUNT, SHARE, WAIT = 8, 8, 6, 9


def _table(snapshot: Snapshot, style: Style) -> list[Line]:
    """A row for each session: its clients, and its share and median wait in two acts."""
    bar = _bar_width(style)
    longest = max((each.wait_p50 for view in snapshot.sessions for each in view.acts), default=0)
    head = f"  {'session':<{NAME}}"
    if not style.narrow:
        head += f"{'clients':>{COUNT}}{'waiting':>{COUNT}}"
    for name, _, _ in _ACTS[:2]:
        title = f"{name}" if style.narrow else f"{name}: share, wait"
        width = SHARE + bar + WAIT
        head += f"{title:>{width}}" if style.narrow else f"  {title:<{width}}"
    lines = [[Span(head, dim=True)]]
    for view in snapshot.sessions:
        colour = _colour(snapshot, view.name)
        line = [Span(f"  {view.name:<{NAME}}", fg=colour, bold=True)]
        if not style.narrow:
            line.append(Span(f"{view.connections:>{COUNT}}{view.waiting:>{COUNT}}  "))
        for figures in view.acts:
            line += _figures(figures, longest, bar, colour, style)
        lines.append(line)
    return lines


def _figures(figures: Figures, longest: float, bar: int, colour: str, style: Style) -> Line:
    if not figures.served:
        return [Span(" " * (SHARE + bar + WAIT + (0 if style.narrow else 2)))]
    full = max(1, round(figures.wait_p50 / longest * bar)) if longest and bar else 0
    wait = f"{_seconds(figures.wait_p50):>{WAIT}}"
    if style.narrow:
        return [Span(f"{_percent(figures.share):>{SHARE}}{wait}")]
    return [
        Span(f"{_percent(figures.share):>{SHARE - 1}} "),
        Span(style.bar * full, fg=colour),
        Span(f"{' ' * (bar - full)}{wait}  "),
    ]


def _bar_width(style: Style) -> int:
    if style.narrow:
        return 0
    left = style.width - 2 - NAME - 2 * COUNT - 2 * (2 + SHARE + WAIT)
    return min(MAX_BAR, left // 2)


def progress_line(snapshot: Snapshot) -> str:
    """One line for an output that is not a terminal."""
    act = min(snapshot.act, 1)
    sessions = ", ".join(
        f"{view.name} {_percent(view.acts[act].share)} after {_seconds(view.acts[act].wait_p50)}"
        for view in snapshot.sessions
        if view.acts[act].served
    )
    return (
        f"{snapshot.elapsed:4.1f} s  {_ACTS[snapshot.act][0]}: served {snapshot.served} "
        f"({snapshot.rate:.1f}/s), {len(snapshot.holders)} of {snapshot.limit} in flight, "
        f"{len(snapshot.queue)} waiting{sessions and '; '}{sessions}"
    )


def summary(snapshot: Snapshot, style: Style) -> list[str]:
    """The table and the notes at the end."""
    title, cell = (16, 8) if style.narrow else (24, 11)
    lines: list[Line] = [[Span(" " * (2 + title))], [Span(" " * (2 + title))]]
    for name, _, _ in _ACTS[:2]:
        lines[0].append(Span(f"{name:>{cell * len(snapshot.sessions)}}", bold=True))
        for view in snapshot.sessions:
            head = Span(f"{view.name:>{cell}}", fg=_colour(snapshot, view.name), bold=True)
            lines[1].append(head)
    for name, values in _summary_rows(snapshot):
        cells = "".join(f"{value:>{cell}}" for value in values)
        lines.append([Span(f"  {name:<{title}}", dim=True), Span(cells)])
    for note in _notes(snapshot):
        lines += [[], *_folded(note, style.width)]
    return [paint(line, style).rstrip() for line in lines]


def _summary_rows(snapshot: Snapshot) -> Iterator[tuple[str, list[str]]]:
    views = [(view, view.acts[act]) for act in (0, 1) for view in snapshot.sessions]
    yield "clients", [f"{view.connections}" for view, _ in views]
    yield "requests served", [f"{figures.served}" for _, figures in views]
    yield "share", [_percent(figures.share) for _, figures in views]
    waits = [(each.wait_p50, each.wait_p99) if each.served else () for _, each in views]
    yield "median wait", [_seconds(wait[0]) if wait else "-" for wait in waits]
    yield "99 % waited less", [_seconds(wait[1]) if wait else "-" for wait in waits]


def _notes(snapshot: Snapshot) -> Iterator[Line]:
    planned = snapshot.slow_down is not None
    refused = f"{snapshot.refused} times 429"
    if snapshot.refused == planned:
        refused = "one planned 429" if planned else "no 429"
    used = f"{snapshot.utilisation * 100:.1f} %"
    yield [
        Span("  Counted by the service: "),
        Span(f"never more than {snapshot.peak} calls at once", bold=True),
        Span(f" (limit {snapshot.limit}), {used} of the limit used, {refused}. "),
        Span(f"The clients saw {snapshot.failed or 'no'} errors."),
    ]
    if snapshot.act and not all(view.acts[1].served for view in snapshot.sessions):
        yield [Span("  The run was too short for fair shares: exai demo --seconds 12 shows them.")]
    elif snapshot.act:
        yield [
            Span(
                "  In one queue, all wait equally long. With fair shares, a session waits behind "
                "its own requests: the small one has only two, and gets all it asks for."
            )
        ]


def _folded(line: Sequence[Span], width: int, indent: int = 2) -> list[Line]:
    """The line wrapped at blanks."""
    lines: list[Line] = [[]]
    left = width
    for span in line:
        for word in re.split(r"(?<= )(?=\S)", span.text):
            if len(word.rstrip()) > left:
                lines.append([Span(" " * indent)])
                left = width - indent
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


def _colour(snapshot: Snapshot, session: str) -> str:
    names = [view.name for view in snapshot.sessions]
    return COLOURS[names.index(session) % len(COLOURS)] if session in names else OTHER


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def _percent(value: float) -> str:
    return f"{value * 100:.0f} %"
