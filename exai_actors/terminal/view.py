"""One table as a console looks at it: query, cursor, marks and the rows on the screen."""

from __future__ import annotations

from collections import deque
from typing import Any

from exai_actors.terminal.source import SeenTable, Window

RATE_S = 10.0
FEWEST_ROWS = 100
MOST_ROWS = 500
_PAGES_FETCHED = 5

Cells = list[Any]


class TableView:
    """The state of a pane with rows. ``cursor`` and ``top`` count from the first matching row."""

    def __init__(self, name: str, columns: list[dict[str, str]], sort: str = "") -> None:
        self.name = name
        self.columns = columns
        self.filter = ""
        self.sort = sort
        self.is_per_second = False
        """Totals are shown as their growth per second."""
        self.cursor = 0
        self.top = 0
        self.page = 20
        self.first_column = 1
        self.marks: set[str] = set()
        self.matching = 0
        self.total = 0
        self.is_loaded = False
        self._skip = 0
        self._keys: list[str] = []
        self._rows: dict[str, Cells] = {}
        self._key = ""
        self._totals = [at for at, each in enumerate(columns) if each["kind"] == "total"]
        self._past: deque[tuple[float, dict[str, Cells]]] = deque()

    @property
    def key(self) -> str:
        """The key of the row at the cursor; empty if there is none."""
        at = self.cursor - self._skip
        return self._keys[at] if 0 <= at < len(self._keys) else ""

    @property
    def row(self) -> Cells | None:
        return self._rows.get(self.key)

    def cells(self, key: str) -> Cells | None:
        """The row with this key, if it is among those that were fetched."""
        return self._rows.get(key)

    @property
    def keys(self) -> list[str]:
        """The keys of the rows that were fetched, in their order."""
        return self._keys

    def window(self, every_s: float = 1.0) -> Window:
        """The rows to fetch: those on the screen with some pages around them."""
        limit = min(MOST_ROWS, max(FEWEST_ROWS, _PAGES_FETCHED * self.page))
        first, end = self.top, self.top + self.page
        skip = self._skip
        if first < skip or end > skip + limit:
            skip = max(0, first - (limit - self.page) // 2)
        return Window(self.filter, self.sort, skip, limit, every_s)

    def take(self, table: SeenTable) -> None:
        """Show the rows of a frame; the cursor stays at its row if that is there."""
        key = self._key
        self.matching, self.total = table.matching, table.total
        self._skip, self._rows, self.is_loaded = table.window.skip, table.rows, True
        self._note_totals(table)
        self._keys = self._ordered(list(table.rows))
        if key in self._rows:
            self.cursor = self._skip + self._keys.index(key)
        self.move_to(self.cursor)

    def ask_again(self) -> None:
        """The query has changed: begin at its first row."""
        self.cursor = self.top = 0
        self._key = ""
        self._skip = 0

    def move_to(self, cursor: int) -> None:
        """Put the cursor at a row, and the screen so that it shows it."""
        self.cursor = max(0, min(cursor, self._count() - 1))
        self.top = min(self.top, self.cursor)
        self.top = max(self.top, self.cursor - self.page + 1, 0)
        self.top = min(self.top, max(0, self._count() - self.page))
        self._key = self.key or self._key

    def scroll(self, rows: int) -> None:
        """Move the screen, and the cursor only if it would leave it."""
        self.top = max(0, min(self.top + rows, self._count() - self.page))
        self.move_to(max(self.top, min(self.cursor, self.top + self.page - 1)))

    def visible(self) -> list[tuple[str, Cells | None]]:
        """The rows on the screen; None for one that has not arrived yet."""
        found: list[tuple[str, Cells | None]] = []
        for at in range(
            self.top - self._skip, min(self._count(), self.top + self.page) - self._skip
        ):
            key = self._keys[at] if 0 <= at < len(self._keys) else ""
            found.append((key, self._rows.get(key)))
        return found

    def toggle_mark(self) -> None:
        """Mark the row at the cursor, or no more."""
        if self.key:
            self.marks ^= {self.key}

    def sort_by(self, column: str) -> None:
        """Sort; for a second time, show a total per second, or reverse the order of others."""
        kind = next(each["kind"] for each in self.columns if each["name"] == column)
        if self.sort.removeprefix("-") != column:
            self.sort = column if kind == "text" else f"-{column}"
        elif kind == "total":
            self.is_per_second = not self.is_per_second
        else:
            self.reverse()
            return
        self.ask_again()

    def reverse(self) -> None:
        if self.sort:
            self.sort = self.sort[1:] if self.sort.startswith("-") else f"-{self.sort}"
            self.ask_again()

    def rate(self, key: str, place: int) -> float | None:
        """The growth of a total per second over the last seconds; None if not known yet."""
        if len(self._past) < 2:
            return None
        began, old = self._past[0]
        at, new = self._past[-1]
        if key not in old or key not in new or at <= began:
            return None
        column = self._totals.index(place)
        before, now = old[key][column], new[key][column]
        if before is None or now is None or now < before:
            return None
        return float((now - before) / (at - began))

    def _count(self) -> int:
        """The rows that can be scrolled through."""
        return self.matching

    def _note_totals(self, table: SeenTable) -> None:
        if not self._totals:
            return
        if self._past and self._past[-1][0] >= table.time:
            self._past.clear()  # a recording was wound back
        totals = {key: [row[at] for at in self._totals] for key, row in table.rows.items()}
        self._past.append((table.time, totals))
        while len(self._past) > 2 and table.time - self._past[0][0] > RATE_S:
            self._past.popleft()

    def _ordered(self, keys: list[str]) -> list[str]:
        """The broker sorts by totals; growth per second is sorted here, if all rows are here."""
        place = next(
            (at for at in self._totals if self.columns[at]["name"] == self.sort.removeprefix("-")),
            None,
        )
        if not self.is_per_second or place is None or self.matching > len(keys):
            return keys
        sign = -1.0 if self.sort.startswith("-") else 1.0
        return sorted(keys, key=lambda key: sign * (self.rate(key, place) or 0.0))


class TreeView(TableView):
    """A table in depth-first order whose subtrees can be folded; those in trouble stay open."""

    def __init__(self, name: str, columns: list[dict[str, str]]) -> None:
        super().__init__(name, columns)
        self.folded: set[str] = set()
        places = {each["name"]: at for at, each in enumerate(columns)}
        self._depth = places["depth"]
        self._trouble = [places[name] for name in ("backoff_s", "last_error") if name in places]
        self._shown = 0
        self._parents: set[str] = set()

    def window(self, every_s: float = 1.0) -> Window:
        return Window(self.filter, "", 0, 2_000, every_s)

    def fold(self, key: str) -> None:
        """Fold or unfold the subtree of a row."""
        self.folded ^= {key}
        self._keys = self._ordered(list(self._rows))
        self.move_to(self.cursor)

    def has_children(self, key: str) -> bool:
        return key in self._parents

    def depth_of(self, key: str) -> int:
        """How many rows are above this one; the root has none."""
        return int(self._rows[key][self._depth])

    def _is_in_trouble(self, key: str) -> bool:
        return any(self._rows[key][at] for at in self._trouble)

    def _ordered(self, keys: list[str]) -> list[str]:
        """The rows that are not in a folded subtree, and the way to each that is in trouble."""
        self._parents.clear()
        shown: list[str] = []
        way: list[str] = []
        hidden: list[str] = []
        for key in keys:
            depth = self.depth_of(key)
            way = [each for each in way if self.depth_of(each) < depth]
            hidden = [each for each in hidden if each in way]
            self._parents.update(way[-1:])
            if not any(each in self.folded for each in way):
                shown.append(key)
            elif self._is_in_trouble(key):
                shown += [each for each in hidden if each not in shown]
                shown.append(key)
            else:
                hidden.append(key)
            way.append(key)
        self._shown = len(shown)
        return shown

    def _count(self) -> int:
        return self._shown
