"""The messages of the console protocol, version 1.

A console says hello and then watches tables. The broker answers with a snapshot of each and then
sends numbered changes. A console that misses a number, or loses track, asks for a resync. It can
also ask questions, each with one answer, and take actions, each with one effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, final

import msgspec

from exai_actors.core.observe.query import Column, Query, Table
from exai_actors.core.observe.tables import Row, TableChange
from exai_actors.core.operations.action import Action
from exai_actors.core.operations.audit import TargetEffect
from exai_actors.core.operators import Role

VERSION = 1
MIN_INTERVAL_S = 0.25
MAX_INTERVAL_S = 60.0
MAX_MESSAGE_BYTES = 65_536
MAX_EFFECTS = 1_000


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


@final
class Ask(msgspec.Struct, frozen=True, tag_field="op", tag="ask"):
    """Answer a question about one thing; ``id`` comes back with the answer."""

    question: str
    id: int = 0
    of: str = ""


@final
class Act(msgspec.Struct, frozen=True, tag_field="op", tag="act"):
    """Do something to the targets, or to all rows of the action's table that match the filter.

    ``preview``: only answer with the effects that it would have.
    """

    action: str
    id: int = 0
    targets: tuple[str, ...] = ()
    filter: str = ""
    arguments: dict[str, str | int | float | bool | None] = {}
    reason: str = ""
    preview: bool = False


ConsoleMessage = Hello | Watch | Unwatch | Resync | Ask | Act

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
    role: Role,
    broker: dict[str, Any],
    tables: tuple[Table, ...],
    interval_s: float,
    questions: Sequence[str] = (),
    actions: Iterable[Action] = (),
) -> bytes:
    """The answer to hello: the console's role, the tables, its questions, and all actions."""
    return _encoder.encode(
        {
            "op": "hello_ack",
            "version": VERSION,
            "role": role,
            "broker": broker,
            "interval_s": interval_s,
            "tables": {table.name: [_column(each) for each in table.columns] for table in tables},
            "questions": questions,
            "actions": [_action(action, role) for action in actions],
        }
    )


def answer(ask: Ask, answered: dict[str, Any]) -> bytes:
    """The answer to a question."""
    return _encoder.encode(
        {"op": "answer", "id": ask.id, "question": ask.question, "answer": answered}
    )


def effect(act: Act, effects: Sequence[TargetEffect], undos: Sequence[dict[str, Any]]) -> bytes:
    """The effects that an action had, or would have; the first MAX_EFFECTS of ``count``.

    ``undos`` are the actions that restore the state before.
    """
    return _encoder.encode(
        {
            "op": "effect",
            "id": act.id,
            "action": act.action,
            "preview": act.preview,
            "effects": [
                {"target": each.target, "text": each.text, "ok": each.ok}
                for each in effects[:MAX_EFFECTS]
            ],
            "count": len(effects),
            "failed": sum(not each.ok for each in effects),
            "undo": undos[0] if len(undos) == 1 else None,
            "undos": undos,
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


def error(code: str, message: str, table: str | None = None, id_: int | None = None) -> bytes:
    """A message of the console was refused; nothing else changes."""
    content: dict[str, Any] = {"op": "error", "code": code, "message": message}
    if table is not None:
        content["table"] = table
    if id_ is not None:
        content["id"] = id_
    return _encoder.encode(content)


def _action(action: Action, role: Role) -> dict[str, Any]:
    return {
        "name": action.name,
        "title": action.title,
        "table": action.table,
        "targets": action.targets,
        "role": action.role,
        "allowed": role.may(action.role),
        "help": action.help,
        "arguments": [
            {
                "name": argument.name,
                "kind": argument.kind,
                "required": argument.required,
                "help": argument.help,
            }
            for argument in action.arguments
        ],
    }


def _column(column: Column) -> dict[str, str]:
    return {
        "name": column.name,
        "title": column.title,
        "kind": column.kind.value,
        "help": column.help,
    }
