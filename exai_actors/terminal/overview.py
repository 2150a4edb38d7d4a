"""The first pane: the last minutes as plots, then providers, shares, the longest waits and events.

A small screen has fewer of these sections.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from exai_actors.core.observe.written import duration
from exai_actors.terminal.cells import (
    cell_text,
    clock_text,
    count_text,
    cut,
    level,
    one_line,
)
from exai_actors.terminal.figures import Figures
from exai_actors.terminal.lines import (
    BAD,
    DIM,
    GOOD,
    PLAIN,
    PLOT,
    STRONG,
    STYLES,
    TITLE,
    WARN,
    Line,
    Lines,
)
from exai_actors.terminal.plots import bar, plot
from exai_actors.terminal.source import SeenTable

_LABEL, _VALUE = 11, 9
_MOST_FOR_EVENTS = 3
_TALL, _MIDDLE = 44, 34
"""Screens of so many lines have plots of three lines, and of two."""
_RATES = (("done/s", "completed"), ("refused/s", "refused"), ("failed/s", "failed"))
_TROUBLES = ("refused/s", "failed/s")
_RECENT = 60
_ROOMY = 16
"""From so many lines on there can be room for shares and waits."""
_FULL = {"name": "full", "kind": "share"}
_STATE = {"name": "state", "kind": "text"}
_MOST_TENANTS, MOST_WAITS = 6, 5


class Overview(Lines):
    """``tables`` are those that it shows below the plots, by name."""

    def __init__(self, figures: Figures) -> None:
        super().__init__()
        self._figures = figures
        self.tables: dict[str, SeenTable] = {}
        self.started_at: float | None = None

    @property
    def is_roomy(self) -> bool:
        """Whether there can be room for shares and waits."""
        return self.size.height >= _ROOMY

    def lines(self) -> Iterable[Line]:
        plots = list(self._plots())
        providers = list(self._providers())
        room = self.size.height - len(plots) - self._lines_for_events
        if len(providers) > room > 1:
            more = len(providers) - room + 1
            providers = [*providers[: room - 1], [(f"  and {more} more: press 4", DIM)]]
        lines = [*plots, *providers]
        if self.is_roomy:
            lines += self._shares_and_waits(room - len(providers))
        yield from lines
        yield from self._events(self.size.height - len(lines))

    @property
    def _lines_for_events(self) -> int:
        """The title, and the latest event or two; if there is more room they get that, too."""
        return min(_MOST_FOR_EVENTS, 1 + max(1, len(self._rows("events"))))

    def _shares_and_waits(self, room: int) -> list[Line]:
        """The first rows of both as far as there is room; each gets half if it is short."""
        shares, waits = list(self._tenants()), list(self._waits())
        waits = waits[: max(room // 2, room - len(shares))]
        shares = shares[: room - len(waits)]
        # A title without a row says nothing.
        return [line for section in (shares, waits) if len(section) > 1 for line in section]

    def _rows(self, table: str) -> list[dict[str, Any]]:
        """The rows by column; a recording of another version may lack some columns."""
        found = self.tables.get(table)
        if found is None:
            return []
        names = [column["name"] for column in found.columns]
        rows = (zip(names, row, strict=True) for row in found.rows.values())
        return [defaultdict(lambda: None, row) for row in rows]

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
        lag = duration(now.get("loop_lag_s") or 0.0)
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
            yield [(" " * (_LABEL + _VALUE + 2), PLAIN), (row, WARN if is_trouble else PLOT)]
        yield [
            (f"{name:<{_LABEL}}", DIM),
            (f"{text:>{_VALUE}}  ", STRONG),
            (ground, WARN if is_trouble else PLOT),
        ]

    def _providers(self) -> Iterable[Line]:
        rows = self._rows("providers")
        if not rows:
            return
        name_width = self._name_width(rows, "name")
        width = self._bar_width(name_width)
        yield [
            (f"{'Provider':<{name_width}}  {'In flight':<{width + 8}}{'Queued':>7}  ", TITLE),
            ("Permits  State", TITLE),
        ]
        for row in rows:
            used, limit = row["in_flight"] or 0, row["limit"] or 0
            adds_up = row["conserved"]
            yield [
                (f"{cut(str(row['name']), name_width):<{name_width}}  ", STRONG),
                (bar(used, limit, width), GOOD),
                (f" {used}/{limit}".ljust(8), PLAIN),
                (f"{count_text(row['queued'] or 0):>7}  ", STYLES[level(row["full"], _FULL)]),
                ("add up   " if adds_up else "DIFFER   ", GOOD if adds_up else BAD),
                (one_line(str(row["state"])), STYLES[level(row["state"], _STATE)]),
            ]

    def _name_width(self, rows: list[dict[str, Any]], name: str) -> int:
        return max(8, min(20, max(len(str(row[name])) for row in rows)))

    def _bar_width(self, name_width: int) -> int:
        return max(8, min(40, self.size.width - name_width - 58))

    def _tenants(self) -> Iterable[Line]:
        """The share that each tenant got, beside the one that its weight entitles it to."""
        rows = [row for row in self._rows("tenants") if row["share_entitled"] is not None]
        rows.sort(key=lambda row: -(row["share_received"] or 0.0))
        if not rows:
            return
        name_width = self._name_width(rows, "tenant")
        width = self._bar_width(name_width)
        yield [
            (f"{'Tenant':<{name_width}}  {'Share received':<{width + 8}}{'Queued':>7}  ", TITLE),
            ("Entitled  Weight", TITLE),
        ]
        for row in rows[:_MOST_TENANTS]:
            received = row["share_received"] or 0.0
            yield [
                (f"{cut(one_line(str(row['tenant'])), name_width):<{name_width}}  ", STRONG),
                (bar(received, 1.0, width), PLOT),
                (f" {received:.0%}".ljust(8), PLAIN),
                (f"{count_text(row['queued'] or 0):>7}  ", PLAIN),
                (f"{row['share_entitled']:<8.0%}  {count_text(row['weight'] or 0)}", PLAIN),
            ]

    def _waits(self) -> Iterable[Line]:
        """The requests that have waited longest, and the limit that each waits for."""
        rows = [row for row in self._rows("requests") if row["waited_s"] is not None]
        if not rows:
            return
        yield [("Waiting longest", TITLE)]
        for row in rows[:MOST_WAITS]:
            starts = row["starts_in_s"]
            when = "" if starts is None else f"starts in {duration(starts)}"
            yield [
                (f"{cut(str(row['request']), 10):<10}  ", STRONG),
                (f"{cut(one_line(row['tenant'] or ''), 12):<12}  ", PLAIN),
                (f"{duration(row['waited_s']):>7}  ", STRONG),
                (f"{row['reason'] or '':<16}  ", WARN),
                (f"{when:<18}{one_line(row['model'] or '')}", DIM),
            ]

    def _events(self, room: int) -> Iterable[Line]:
        table = self.tables.get("events")
        if table is None or room < 2:
            return
        yield [("Latest events", TITLE)]
        if not table.rows:
            yield [("none yet", DIM)]
        for row in self._rows("events")[: room - 1]:
            at_s = row["at_s"] or 0.0
            at = (
                cell_text(at_s, "seconds")
                if self.started_at is None
                else clock_text(self.started_at + at_s)
            )
            yield [
                (f"{at}  ", DIM),
                (f"{row['event']!s:<26} ", PLAIN),
                (f"{row['where']}  ", STRONG),
                (one_line(str(row["what"])), PLAIN),
            ]
