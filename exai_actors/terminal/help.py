"""The page of keys."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap

from exai_actors.terminal.layout import sort_letters
from exai_actors.terminal.lines import DIM, KEY, PLAIN, TITLE, Line
from exai_actors.terminal.view import TableView

_KEYS = 27

MOVING = (
    ("1 … 9 0", "the panes of the second line; : and a name for the others"),
    ("tab, shift+tab", "the next pane, the one before"),
    ("↑ ↓ j k, pgup pgdn, g G", "move the cursor; g to the first row, G to the last"),
    ("enter", "everything about the row; a click on the chosen row does the same"),
    ("esc", "back: from a page, marks, the filter, the pane"),
    (", . or ← →", "columns that did not fit"),
    ("f", "fold or unfold a subtree"),
    ("q", "quit"),
)
CHOOSING = (
    ("/", "filter: kimi, !idle, state:held, queued>=10; terms with blanks between them"),
    (":", "go to a pane; further words are its filter"),
    ("shift+letter", "sort by the column with that underlined letter, or click its title"),
    ("shift+letter twice", "reverse the order, or show a total as its growth per second"),
    ("r, v", "reverse the order; totals or growth per second over 10 s"),
    ("p, + -", "freeze the screen; ask more or less often"),
)
ACTING = (
    ("space", "mark a row; actions concern the marked rows, or all that match the filter"),
    ("w", "why a request waits"),
    ("a", "actions: choose one, see its effect, give a reason, confirm"),
    ("u", "undo the last action"),
)
REPLAYING = (
    ("← →, shift", "one second, ten seconds"),
    ("space, + -", "play or stop; faster or slower"),
    ("home end", "the beginning and the end of the recording"),
)


def help_lines(view: TableView | None, width: int, *, is_replay: bool = False) -> Iterable[Line]:
    """All keys, and the meaning of the columns of a pane."""
    sections = [("Moving", MOVING), ("Choosing rows", CHOOSING), ("Acting", ACTING)]
    if is_replay:
        sections.insert(0, ("Time", REPLAYING))
    for title, keys in sections:
        yield [(title, TITLE)]
        for key, meaning in keys:
            first, *more = wrap(meaning, max(20, width - _KEYS))
            yield [(f"  {key:<{_KEYS - 2}}", KEY), (first, PLAIN)]
            yield from ([(" " * _KEYS + each, PLAIN)] for each in more)
        yield []
    if view is None:
        return
    yield [(f"Columns of {view.name.replace('_', ' ')}", TITLE)]
    letters = {column: letter for letter, column in sort_letters(view.columns).items()}
    for column in view.columns:
        yield [
            (f"  {letters.get(column['name'], ' ')} ", KEY),
            (f"{column['title']:<22}", PLAIN),
            (column["help"], DIM),
        ]
