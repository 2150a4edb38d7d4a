"""The first pane: the broker's last minutes as plots, its providers, and the latest events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from exai_actors.terminal.cells import (
    cell_text,
    clock_text,
    count_text,
    cut,
    level,
    one_line,
    seconds_text,
)
from exai_actors.terminal.figures import Figures
from exai_actors.terminal.lines import (
    BAD,
    DIM,
    GOOD,
    PLAIN,
    STRONG,
    STYLES,
    TITLE,
    WARN,
    Line,
    Lines,
    Piece,
)
from exai_actors.terminal.plots import bar, plot
from exai_actors.terminal.source import SeenTable

_LABEL, _VALUE = 11, 9
_FEWEST_EVENTS = 3
_TALL, _MIDDLE = 40, 30
"""Screens of so many lines have plots of three lines, and of two."""
_RATES = (("done/s", "completed"), ("refused/s", "refused"), ("failed/s", "failed"))
_TROUBLES = ("refused/s", "failed/s")
_RECENT = 60


class Overview(Lines):
    """``providers`` and ``events`` are the tables that it shows below the plots."""

    def __init__(self, figures: Figures) -> None:
        super().__init__()
        self._figures = figures
        self.providers: SeenTable | None = None
        self.events: SeenTable | None = None
        self.started_at: float | None = None

    def lines(self) -> Iterable[Line]:
        plots = list(self._plots())
        providers = list(self._providers())
        room = self.size.height - len(plots) - _FEWEST_EVENTS - 1
        if len(providers) > room > 1:
            more = len(providers) - room + 1
            providers = [*providers[: room - 1], [(f"  and {more} more: press 4", DIM)]]
        lines = [*plots, *providers]
        yield from lines
        yield from self._events(self.size.height - len(lines))

    def _plots(self) -> Iterable[Line]:
        figures = self._figures
        now = figures.now
        limit = now.get("limit") or 0
        in_flight, queued = now.get("in_flight") or 0, now.get("queued") or 0
        height = 3 if self.size.height >= _TALL else 2 if self.size.height >= _MIDDLE else 1
        yield from self._plot(
            "in flight", f"{in_flight}", figures.series("in_flight"), height, limit
        )
        yield from self._plot("queued", f"{queued}", figures.series("queued"), height)
        for name, column in _RATES:
            rate = figures.rate(column)
            yield from self._plot(name, f"{rate or 0.0:.1f}", figures.rates(column), height)
        lag = seconds_text(now.get("loop_lag_s") or 0.0)
        yield from self._plot("loop lag", lag, figures.series("loop_lag_s"), height)

    def _plot(
        self,
        name: str,
        text: str,
        values: list[float | None],
        height: int,
        top: float | None = None,
    ) -> Iterable[Line]:
        width = self.size.width - _LABEL - _VALUE - 2
        recent = [value for value in values[-_RECENT:] if value is not None]
        is_trouble = name in _TROUBLES and any(recent)
        *above, ground = plot(values, width, height, top)
        for row in above:
            yield [(" " * (_LABEL + _VALUE + 2), PLAIN), (row, WARN if is_trouble else GOOD)]
        yield [
            (f"{name:<{_LABEL}}", DIM),
            (f"{text:>{_VALUE}}  ", STRONG),
            (ground, WARN if is_trouble else GOOD),
        ]

    def _providers(self) -> Iterable[Line]:
        table = self.providers
        if table is None or not table.rows:
            return
        places = {column["name"]: at for at, column in enumerate(table.columns)}
        columns = {column["name"]: column for column in table.columns}
        name_width = max(8, min(20, max(len(str(row[0])) for row in table.rows.values())))
        width = max(8, min(40, self.size.width - name_width - 58))
        yield [
            (f"{'Provider':<{name_width}}  {'In flight':<{width + 8}}{'Queued':>7}  ", TITLE),
            ("Permits  State", TITLE),
        ]
        for row in table.rows.values():
            cell: dict[str, Any] = {name: row[at] for name, at in places.items()}
            used, limit = cell["in_flight"], cell["limit"]
            adds_up = cell["conserved"]
            yield [
                (f"{cut(cell['name'], name_width):<{name_width}}  ", STRONG),
                (bar(used, limit, width), GOOD),
                (f" {used}/{limit}".ljust(8), PLAIN),
                (
                    f"{count_text(cell['queued']):>7}  ",
                    STYLES[level(cell["full"], columns["full"])],
                ),
                ("add up   " if adds_up else "DIFFER   ", GOOD if adds_up else BAD),
                (one_line(str(cell["state"])), STYLES[level(cell["state"], columns["state"])]),
            ]

    def _events(self, room: int) -> Iterable[Line]:
        table = self.events
        if table is None or room < 2:
            return
        yield [("Latest events", TITLE)]
        if not table.rows:
            yield [("none yet", DIM)]
        for row in list(table.rows.values())[: room - 1]:
            at_s, event, where, text = row[:4]
            at = (
                cell_text(at_s, "seconds")
                if self.started_at is None
                else clock_text(self.started_at + at_s)
            )
            pieces: list[Piece] = [
                (f"{at}  ", DIM),
                (f"{event:<26} ", PLAIN),
                (f"{where}  ", STRONG),
            ]
            yield [*pieces, (one_line(str(text)), PLAIN)]
