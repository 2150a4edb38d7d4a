"""The messages of the console protocol, version 1.

A console says hello and then watches tables. The broker answers with a snapshot of each and then
sends numbered changes. A console that misses a number, or loses track, asks for a resync.
"""

from __future__ import annotations

from typing import Any, final

import msgspec

from exai_actors.core.observe.query import Column, Query, Table
from exai_actors.core.observe.tables import Row, TableChange

VERSION = 1
MIN_INTERVAL_S = 0.25
MAX_INTERVAL_S = 60.0
MAX_MESSAGE_BYTES = 4_096


@final
class Hello(msgspec.Struct, frozen=True, tag_field="op", tag="hello"):
    """The first message. ``version`` is the highest that the console understands."""

    token: str = ""
    version: int = VERSION


@final
class Watch(msgspec.Struct, frozen=True, tag_field="op", tag="watch"):
    """Send a table now and its changes every ``every_s``; replaces an earlier Watch of the table.

    The snapshot repeats ``id``, by which a console knows that its rows are those of this Watch.
    The other fields are those of ``Query``.
    """

    table: str
    filter: str = ""
    sort: str = ""
    limit: int = 200
    skip: int = 0
    every_s: float = 1.0
    id: int = 0

    @property
    def query(self) -> Query:
        return Query(self.filter, self.sort, self.limit, self.skip)


@final
class Unwatch(msgspec.Struct, frozen=True, tag_field="op", tag="unwatch"):
    """Send no more changes of a table."""

    table: str


@final
class Resync(msgspec.Struct, frozen=True, tag_field="op", tag="resync"):
    """Send a watched table whole once more."""

    table: str


ConsoleMessage = Hello | Watch | Unwatch | Resync

_decoder = msgspec.json.Decoder(ConsoleMessage)
_encoder = msgspec.json.Encoder()


def decode(text: bytes) -> ConsoleMessage | str:
    """The message in a frame, or the reason why it is none."""
    if len(text) > MAX_MESSAGE_BYTES:
        return f"a message has at most {MAX_MESSAGE_BYTES} bytes"
    try:
        message: ConsoleMessage = _decoder.decode(text)
    except msgspec.ValidationError as error:
        return str(error)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return "the message is not JSON"
    return message


def welcome(
    role: str, broker: dict[str, Any], tables: tuple[Table, ...], interval_s: float
) -> bytes:
    """The answer to hello: the console's role, and the tables that there are."""
    return _encoder.encode(
        {
            "op": "hello_ack",
            "version": VERSION,
            "role": role,
            "broker": broker,
            "interval_s": interval_s,
            "tables": {table.name: [_column(each) for each in table.columns] for table in tables},
        }
    )


def snapshot(
    table: str,
    number: int,
    time: float,
    rows: dict[str, Row],
    matching: int,
    total: int,
    watch_id: int = 0,
) -> bytes:
    """A whole table; changes count on from its number. Rows are [key, cell, ...] in their order."""
    content = {
        "op": "snapshot",
        "table": table,
        "seq": number,
        "time": time,
        "rows": [(key, *row) for key, row in rows.items()],
        "matching": matching,
        "total": total,
    }
    return _encoder.encode({**content, "id": watch_id} if watch_id else content)


def delta(
    table: str, number: int, time: float, change: TableChange, matching: int, total: int
) -> bytes:
    """The change since the number before."""
    content: dict[str, Any] = {
        "op": "delta",
        "table": table,
        "seq": number,
        "time": time,
        "matching": matching,
        "total": total,
    }
    if change.rows:
        content["rows"] = [(key, *row) for key, row in change.rows.items()]
    if change.cells:
        content["cells"] = {
            key: {str(column): cell for column, cell in cells.items()}
            for key, cells in change.cells.items()
        }
    if change.gone:
        content["gone"] = change.gone
    if change.order is not None:
        content["order"] = change.order
    return _encoder.encode(content)


def error(code: str, message: str, table: str | None = None) -> bytes:
    """A message of the console was refused; nothing else changes."""
    content = {"op": "error", "code": code, "message": message}
    return _encoder.encode(content if table is None else {**content, "table": table})


def _column(column: Column) -> dict[str, str]:
    return {
        "name": column.name,
        "title": column.title,
        "kind": column.kind.value,
        "help": column.help,
    }
