"""Reads the messages of MCP, which are JSON-RPC 2.0, and encodes the answers.

Two eras of the protocol differ in how a client introduces itself. In the stateful one it begins
with ``initialize``. In the stateless one each request has the version and the client's
capabilities in its ``_meta``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from exai_actors.wire.json_encoding import to_json

STATEFUL_VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""The versions that begin with ``initialize``, newest first. Others are offered the newest."""
STATELESS_VERSIONS = ("2026-07-28",)
SUPPORTED_VERSIONS = (*STATELESS_VERSIONS, *STATEFUL_VERSIONS)

PREFIX = "io.modelcontextprotocol/"
VERSION_KEY = f"{PREFIX}protocolVersion"
CAPABILITIES_KEY = f"{PREFIX}clientCapabilities"
SERVER_KEY = f"{PREFIX}serverInfo"
TASKS = f"{PREFIX}tasks"
"""The extension with which a long call becomes a task."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
HEADER_MISMATCH = -32020
MISSING_CAPABILITY = -32021
UNSUPPORTED_VERSION = -32022
BUSY = -32003
CANCELLED = -32800

MAX_ID_BYTES = 1024
MAX_METHOD_LENGTH = 100


class Request(msgspec.Struct, frozen=True):
    """A request. ``id_`` is JSON; ``meta`` is the ``_meta`` of ``params``, empty if it has none."""

    id_: bytes
    method: str
    params: dict[str, Any]
    meta: dict[str, Any]

    @property
    def stateless(self) -> bool:
        """Whether it says by itself which version it speaks."""
        return VERSION_KEY in self.meta or CAPABILITIES_KEY in self.meta

    @property
    def version(self) -> object:
        """The version that it names, unchecked; None if it names none."""
        return self.meta.get(VERSION_KEY)

    @property
    def capabilities(self) -> dict[str, Any]:
        """The client's capabilities that it names."""
        return object_in(self.meta, CAPABILITIES_KEY)

    @property
    def takes_tasks(self) -> bool:
        """Whether the client knows the extension for tasks."""
        return TASKS in object_in(self.capabilities, "extensions")

    @property
    def progress_token(self) -> str | int | None:
        token = self.meta.get("progressToken")
        return token if type(token) in (str, int) else None


class Notification(msgspec.Struct, frozen=True):
    """A message without an answer."""

    method: str
    params: dict[str, Any]


class Response(msgspec.Struct, frozen=True):
    """The client's answer to a request of this side. ``id_`` is JSON."""

    id_: bytes
    result: Any = None
    error: Any = None


class Unreadable(msgspec.Struct, frozen=True):
    """Bytes that are no message. ``id_`` is null if it cannot be found."""

    code: int
    problem: str
    id_: bytes = b"null"


Message = Request | Notification | Response | Unreadable


class _Raw(msgspec.Struct, gc=False):
    jsonrpc: Any = None
    id: msgspec.Raw = msgspec.Raw()
    method: Any = None
    params: Any = None
    result: Any = msgspec.UNSET
    error: Any = msgspec.UNSET


_decode = msgspec.json.Decoder(_Raw).decode


def object_in(container: dict[str, Any], key: str) -> dict[str, Any]:
    """The object under ``key``; an empty one if there is none."""
    value = container.get(key)
    return value if type(value) is dict else {}


def read(data: bytes) -> Message:
    """The message in ``data``, whatever it is."""
    try:
        raw = _decode(data)
    except msgspec.ValidationError:
        problem = "a JSON object is expected, and no batch: send each message by itself"
        return Unreadable(INVALID_REQUEST, problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Unreadable(PARSE_ERROR, "this is not JSON in UTF-8")
    id_ = _id(bytes(raw.id))
    if id_ is None:
        problem = f"id must be a string or an integer of at most {MAX_ID_BYTES} bytes"
        return Unreadable(INVALID_REQUEST, problem)
    if raw.jsonrpc != "2.0":
        return Unreadable(INVALID_REQUEST, 'jsonrpc must be "2.0"', id_ or b"null")
    if raw.method is None and id_ and (raw.result, raw.error) != (msgspec.UNSET, msgspec.UNSET):
        return _response(id_, raw)
    if type(raw.method) is not str or not 0 < len(raw.method) <= MAX_METHOD_LENGTH:
        problem = f"method must be a string of 1 to {MAX_METHOD_LENGTH} characters"
        return Unreadable(INVALID_REQUEST, problem, id_ or b"null")
    if raw.params is not None and type(raw.params) is not dict:
        return Unreadable(INVALID_PARAMS, "params must be an object", id_ or b"null")
    params: dict[str, Any] = raw.params or {}
    if not id_:
        return Notification(raw.method, params)
    return Request(id_, raw.method, params, object_in(params, "_meta"))


def _response(id_: bytes, raw: _Raw) -> Response:
    result = None if raw.result is msgspec.UNSET else raw.result
    return Response(id_, result, None if raw.error is msgspec.UNSET else raw.error)


def _id(text: bytes) -> bytes | None:
    """The id in its one spelling; empty if there is none, None if it is invalid."""
    if not text:
        return b""
    if len(text) > MAX_ID_BYTES:
        return None
    try:
        return id_of(msgspec.json.decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def id_of(value: object) -> bytes | None:
    """An id as JSON; None if ``value`` is none."""
    return to_json(value) if type(value) in (str, int) else None


def result(id_: bytes, value: Any) -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id_, to_json(value))


def error(id_: bytes, code: int, message: str, data: Any = None) -> bytes:
    body = {"code": code, "message": message}
    if data is not None:
        body["data"] = data
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (id_, to_json(body))


def notification(method: str, params: dict[str, Any]) -> bytes:
    return to_json({"jsonrpc": "2.0", "method": method, "params": params})


def request(id_: object, method: str, params: dict[str, Any]) -> bytes:
    return to_json({"jsonrpc": "2.0", "id": id_, "method": method, "params": params})
