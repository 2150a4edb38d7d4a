"""The fields that both dialects share, and how each is checked."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from exai_actors.core.calls import IfBusy
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.ids import RequestKey
from exai_actors.wire.json_encoding import to_json

MAX_ID_LENGTH = 512
MAX_ID_BYTES = 12 * MAX_ID_LENGTH + 2
"""Bytes of the longest id as JSON: of characters that are each written as two escapes."""
MAX_ID_DEPTH = 8
MAX_TOOL_NAME_LENGTH = 256
MAX_DEADLINE_MS = 86_400_000
MAX_PRIORITY = 100
MAX_KEY_LENGTH = 200
MAX_DEPTH = 64
"""Levels of nesting inside the arguments. Far below the interpreter's limit, so that they can be
compared and encoded later."""

_IF_BUSY = {word.value: word for word in IfBusy}
_CONTAINERS = frozenset({dict, list})
_OLD_SUFFIX = re.compile(r"[_-]EXAI[-_]WS(?:[-_]\w+)?$")


class Incoming(msgspec.Struct, gc=False):
    """Every member that a frame may have. Absent and null are the same.

    Members are untyped, so that any JSON object decodes and the error about a field can be precise.
    """

    op: Any = None
    request_id: Any = None
    name: Any = None
    arguments: Any = None
    stream: Any = None
    deadline_ms: Any = None
    priority: Any = None
    jsonrpc: Any = None
    id: Any = None
    method: Any = None
    params: Any = None
    req_id: Any = None
    tool: Any = None
    tool_name: Any = None
    token: Any = None
    session_id: Any = None
    resume: Any = None
    old: Any = None
    new: Any = None
    if_busy: Any = None
    idempotency_key: Any = None
    traceparent: Any = None
    tracestate: Any = None
    stream_reasoning: Any = None


class InvalidField(Exception):
    """A field is missing or invalid; the text names it and the allowed values."""


def invalid_request(problem: str) -> ErrorBody:
    return ErrorBody(
        ErrorCode.INVALID_REQUEST, f"Invalid message: {problem}", {"validation_error": problem}
    )


def json_type(value: Any) -> str:
    """The JSON type of a decoded value, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def check_id(value: Any, field: str) -> str:
    """The text of an id that may be a string or a number."""
    if type(value) is str:
        text: str = value
    elif type(value) in (int, float):
        text = to_json(value).decode()
    else:
        raise InvalidField(f"{field} must be a string or a number, got {json_type(value)}")
    if len(text) > MAX_ID_LENGTH:
        raise InvalidField(f"{field} must have at most {MAX_ID_LENGTH} characters, got {len(text)}")
    return text


def check_tool(name: Any, field: str) -> str:
    """The tool's name without the suffixes that old clients append."""
    if type(name) is not str:
        raise InvalidField(f"{field} must be a non-empty string, got {json_type(name)}")
    tool: str = name
    if "EXAI" in tool:
        tool = _OLD_SUFFIX.sub("", tool)
    if not tool or tool.isspace():
        raise InvalidField(f"{field} must be a non-empty string, got an empty one")
    if len(tool) > MAX_TOOL_NAME_LENGTH:
        raise InvalidField(
            f"{field} must have at most {MAX_TOOL_NAME_LENGTH} characters, got {len(tool)}"
        )
    return tool


def check_arguments(arguments: Any) -> dict[str, Any]:
    if arguments is None:
        return {}
    if type(arguments) is not dict:
        raise InvalidField(f"arguments must be an object, got {json_type(arguments)}")
    if any(nests_deeper(value, MAX_DEPTH) for value in arguments.values()):
        raise InvalidField(f"arguments must not nest deeper than {MAX_DEPTH} levels")
    return arguments


def nests_deeper(value: Any, limit: int) -> bool:
    """Whether ``value`` has more than ``limit`` levels of arrays and objects."""
    if type(value) not in _CONTAINERS:
        return False
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) in _CONTAINERS
        ]
        if not level:
            return False
    return True


def echo_id(id_: Any) -> bytes:
    """``id_`` as JSON; null if it nests too deep."""
    return b"null" if nests_deeper(id_, MAX_ID_DEPTH) else to_json(id_)


def check_stream(stream: Any) -> bool | None:
    if stream is None or type(stream) is bool:
        return stream
    raise InvalidField(f"stream must be true or false, got {json_type(stream)}")


def check_stream_reasoning(value: Any) -> bool:
    if value is None or type(value) is bool:
        return bool(value)
    raise InvalidField(f"stream_reasoning must be true or false, got {json_type(value)}")


def check_deadline(deadline_ms: Any) -> float | None:
    if deadline_ms is None:
        return None
    allowed = f"a number of milliseconds from 1 to {MAX_DEADLINE_MS}"
    if type(deadline_ms) not in (int, float):
        raise InvalidField(f"deadline_ms must be {allowed}, got {json_type(deadline_ms)}")
    if not 1 <= deadline_ms <= MAX_DEADLINE_MS:
        raise InvalidField(f"deadline_ms must be {allowed}, got {excerpt(deadline_ms)}")
    return float(deadline_ms)


def check_priority(priority: Any) -> int:
    if priority is None:
        return 0
    allowed = f"an integer from {-MAX_PRIORITY} to {MAX_PRIORITY}"
    if type(priority) is not int:
        raise InvalidField(f"priority must be {allowed}, got {json_type(priority)}")
    if not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
        raise InvalidField(f"priority must be {allowed}, got {excerpt(priority)}")
    return priority


def check_if_busy(if_busy: Any) -> IfBusy:
    if if_busy is None:
        return IfBusy.WAIT_IN_TIME
    allowed = ", ".join(f'"{word}"' for word in _IF_BUSY)
    if type(if_busy) is not str:
        raise InvalidField(f"if_busy must be one of {allowed}, got {json_type(if_busy)}")
    if if_busy not in _IF_BUSY:
        raise InvalidField(f"if_busy must be one of {allowed}, got {excerpt(if_busy)}")
    return _IF_BUSY[if_busy]


def check_idempotency_key(key: Any) -> RequestKey | None:
    if key is None:
        return None
    allowed = f"a string of 1 to {MAX_KEY_LENGTH} characters"
    if type(key) is not str:
        raise InvalidField(f"idempotency_key must be {allowed}, got {json_type(key)}")
    if not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise InvalidField(f"idempotency_key must be {allowed}, got {len(key)}")
    return RequestKey(key, "idempotency")


def excerpt(value: Any, limit: int = 80) -> str:
    """``value`` as JSON, shortened for a message."""
    text = to_json(value).decode()
    return text if len(text) <= limit else text[:limit] + "…"
