"""The columns of a table that fit a line, and the letters that sort by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

GAP = 2
ALWAYS = 2
NARROWEST = 8
READABLE = 24
LAST = 14

Column = Mapping[str, str]


class Fitted(msgspec.Struct, frozen=True):
    """The places of the columns to show with their widths, and how many are left out."""

    places: tuple[int, ...]
    widths: dict[int, int]
    before: int = 0
    after: int = 0


def fit(
    columns: Sequence[Column],
    widths: Mapping[int, int],
    width: int,
    *,
    order: Sequence[int] = (),
    first: int = 1,
    empty: frozenset[int] = frozenset(),
    keep: str = "",
) -> Fitted:
    """The first column, then those from number ``first`` on that fit, without ``empty`` ones.

    ``order`` has the places of all columns in the order in which they are shown.

    The column named ``keep``, by which rows are sorted, is always among them.
    """
    order = order or range(len(columns))
    candidates = [
        at
        for number, at in enumerate(order)
        if number < ALWAYS or at not in empty or columns[at]["name"] == keep
    ]
    scrolled = candidates[1:][min(first - 1, max(0, len(candidates) - 2)) :]
    chosen = [order[0], *scrolled]
    found = {at: widths[at] for at in chosen}
    kept = next((at for at in scrolled if columns[at]["name"] == keep), None)
    dropped = 0
    while len(chosen) > ALWAYS and _excess(chosen, found, width, columns) > 0:
        out = next(at for at in reversed(chosen) if at != kept)
        chosen.remove(out)
        dropped += 1
    _narrow(chosen, found, width, columns)
    return Fitted(tuple(chosen), found, len(candidates) - 1 - len(scrolled), dropped)


FIRST = {
    "requests": (
        "request", "tenant", "state", "position", "waited_s", "starts_in_s", "reason", "model",
        "detail",
    ),
    "actors": ("path", "state", "user", "oldest_s", "message", "for_s", "processed", "p99_s"),
    "providers": (
        "name", "state", "limit", "in_flight", "free", "queued", "conserved", "full", "gate",
        "held_s", "circuit", "wait_p99_s", "service_p50_s",
    ),
    "alarms": ("name", "subject", "severity", "since_s", "text"),
}  # fmt: skip
"""The columns that come first where not all fit; the others follow in the broker's order."""
LEFT_OUT = {"tree": {"depth"}}
"""Columns that the pane shows in another way."""


def order_of(table: str, columns: Sequence[Column]) -> list[int]:
    """The places of the columns in the order in which they are shown."""
    names = {column["name"]: at for at, column in enumerate(columns)}
    first = [names[name] for name in FIRST.get(table, ()) if name in names]
    left_out = LEFT_OUT.get(table, set())
    rest = (at for name, at in names.items() if at not in first and name not in left_out)
    return [*first, *rest]


def _line(chosen: Sequence[int], widths: Mapping[int, int]) -> int:
    return sum(widths[at] for at in chosen) + GAP * (len(chosen) - 1)


def _excess(
    chosen: Sequence[int], widths: Mapping[int, int], width: int, columns: Sequence[Column]
) -> int:
    """How much a line is too long when its longest texts are as narrow as can be read.

    The beginning of the last text is better than nothing.
    """
    readable = dict(widths)
    for at in chosen:
        if columns[at]["kind"] == "text":
            readable[at] = min(widths[at], LAST if at == chosen[-1] else READABLE)
    return _line(chosen, readable) - width


def _narrow(
    chosen: Sequence[int], widths: dict[int, int], width: int, columns: Sequence[Column]
) -> None:
    """Cut the widest texts until the line fits."""
    texts = [at for at in chosen if columns[at]["kind"] == "text"]
    while texts and (too_much := _line(chosen, widths) - width) > 0:
        widest = max(texts, key=lambda at: widths[at])
        others = max((widths[at] for at in texts if at != widest), default=NARROWEST)
        goal = max(NARROWEST, min(others, widths[widest] - 1), widths[widest] - too_much)
        if goal >= widths[widest]:
            return
        widths[widest] = goal


def sort_letters(columns: Sequence[Column]) -> dict[str, str]:
    """For each column a capital letter, preferably of its title: with shift, it sorts by it.

    G is the key for the last row.
    """
    free = dict.fromkeys("ABCDEFHIJKLMNOPQRSTUVWXYZ")
    letters: dict[str, str] = {}
    for column in columns:
        wished = [c for c in column["title"].upper() if c in free]
        letter = wished[0] if wished else next(iter(free), "")
        if letter:
            del free[letter]
            letters[letter] = column["name"]
    return letters
