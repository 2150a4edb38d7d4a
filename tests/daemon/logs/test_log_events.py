"""Log events are stable keys with fields, and the reference page lists all of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from exai_actors.daemon.logs.nonblocking import ENTRIES_LOST

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "log-events.md"
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
OWN_LOGGER = r"structlog\.get_logger\(|logging\.getLogger\('exai_actors\.runtime'\)"

Event = tuple[str, str, frozenset[str]]


def events_in(source: str) -> Iterator[Event]:
    """Key, level and field names of each call on a logger of our own.

    The runtime also runs where structlog is not configured, so it logs to the standard library,
    with the fields in ``extra``.
    """
    tree = ast.parse(source)
    loggers = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and re.match(OWN_LOGGER, ast.unparse(node.value))
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=level)) if (
                name in loggers and level in LEVELS
            ):
                assert len(node.args) == 1, ast.unparse(node)
                key = ast.literal_eval(node.args[0])
                yield (
                    key,
                    "error" if level == "exception" else level,
                    frozenset(field for each in node.keywords for field in fields_of(each)),
                )


def fields_of(keyword: ast.keyword) -> Iterator[str]:
    match keyword:
        case ast.keyword(arg="exc_info"):
            # The output shows an exception as one line in this field.
            yield "error"
        case ast.keyword(arg="extra", value=ast.Dict(keys=keys)):
            yield from (ast.literal_eval(key) for key in keys if key is not None)
        case _:
            yield str(keyword.arg)


def events_in_code() -> set[Event]:
    found = {(ENTRIES_LOST, "warning", frozenset({"entries"}))}
    for file in (ROOT / "exai_actors").rglob("*.py"):
        found |= set(events_in(file.read_text("utf-8")))
    return found


def events_on_page() -> list[Event]:
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \| (.*?) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    return [(key, level, frozenset(re.findall(r"`(\w+)`", fields))) for key, level, fields in rows]


def test_the_page_lists_exactly_the_events_of_the_code() -> None:
    on_page = events_on_page()
    assert set(on_page) == events_in_code()
    assert on_page == sorted(on_page)


def test_an_event_key_is_an_area_and_a_name() -> None:
    keys = {key for key, _, _ in events_in_code()}
    assert [key for key in keys if not re.fullmatch(r"[a-z]+(\.[a-z]+(_[a-z]+)*)+", key)] == []


def test_the_search_finds_calls_on_structlog_loggers_only() -> None:
    source = (
        "import structlog\nlog = structlog.get_logger()\nlog.info('a.b', c=1)\nother.info('d')\n"
    )
    assert list(events_in(source)) == [("a.b", "info", frozenset({"c"}))]
