"""Checks an MCP request over HTTP: the fields of its head have to agree with its body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from exai_actors.wire.mcp import messages
from exai_actors.wire.mcp.messages import Message, Request, Unreadable
from exai_actors.wire.mcp.server import check_meta

SESSION_FIELD = "Mcp-Session-Id"
VERSION_FIELD = "MCP-Protocol-Version"
_NAMED = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
_STREAM, _JSON = "text/event-stream", "application/json"

Field = Callable[[str], str | None]


class HttpError(msgspec.Struct, frozen=True):
    """The answer to a request that is not handled."""

    status: int
    body: bytes


def takes(field: Field, type_: str) -> bool:
    """Whether the client accepts this content type; one that says nothing accepts all."""
    accepted = field("Accept")
    if accepted is None:
        return True
    types = {each.partition(";")[0].strip().lower() for each in accepted.split(",")}
    return bool(types & {type_, f"{type_.partition('/')[0]}/*", "*/*"})


def takes_stream(field: Field) -> bool:
    return takes(field, _STREAM)


def check_content(field: Field) -> HttpError | None:
    """None if the client sends JSON and can read an answer."""
    content_type = (field("Content-Type") or "").partition(";")[0].strip().lower()
    if content_type != _JSON:
        return refuse(415, f"Content-Type must be {_JSON}")
    if not takes(field, _JSON) and not takes_stream(field):
        return refuse(406, f"Accept must allow {_JSON} and {_STREAM}")
    return None


def is_stateless(message: Message, field: Field) -> bool:
    """Whether the message belongs to the era without ``initialize``."""
    version = field(VERSION_FIELD)
    return version in messages.STATELESS_VERSIONS or (
        isinstance(message, Request) and message.stateless
    )


def check_stateful(field: Field) -> HttpError | None:
    """None if the version in the head, if any, is one that begins with ``initialize``."""
    version = field(VERSION_FIELD)
    if version is None or version in messages.STATEFUL_VERSIONS:
        return None
    supported = ", ".join(messages.SUPPORTED_VERSIONS)
    return refuse(400, f"{VERSION_FIELD} {_shown(version)} is not supported: {supported}")


def check_stateless(message: Message, field: Field) -> HttpError | None:
    """None if the head of a stateless request agrees with its body."""
    if isinstance(message, Unreadable):
        return HttpError(400, messages.error(message.id_, message.code, message.problem))
    version = field(VERSION_FIELD)
    id_, code, problem, data = b"null", messages.HEADER_MISMATCH, "", None
    if isinstance(message, Request):
        id_ = message.id_
        refusal = check_meta(message)
        if version is None:
            problem = f"{VERSION_FIELD} is missing"
        elif refusal is not None and refusal[0] == messages.INVALID_PARAMS:
            code, problem, data = refusal
        elif message.version != version:
            problem = f"{VERSION_FIELD} differs from the version in params._meta"
        elif refusal is not None:
            code, problem, data = refusal
        else:
            problem = _wrong_field(message.method, message.params, field)
    if not problem:
        return None
    return HttpError(400, messages.error(id_, code, problem, data))


def _wrong_field(method: str, params: dict[str, Any], field: Field) -> str:
    if _value(field, "Mcp-Method") != method:
        return "Mcp-Method must be the method of the message"
    name = params.get(_NAMED.get(method, ""))
    if type(name) is str and _value(field, "Mcp-Name") != name:
        return f"Mcp-Name must be params.{_NAMED[method]}"
    return ""


def _value(field: Field, name: str) -> str:
    """The value without the blanks around it, which the parser leaves at its end."""
    return (field(name) or "").strip(" \t")


def refuse(status: int, problem: str, message: Message | None = None) -> HttpError:
    """The error of the ``message``, or of a request whose message is of no interest."""
    id_ = message.id_ if isinstance(message, Request) else b"null"
    return HttpError(status, messages.error(id_, messages.INVALID_REQUEST, problem))


def event(frame: bytes) -> bytes:
    """A message as an event of a stream."""
    return b"event: message\ndata: " + frame + b"\n\n"


KEEPALIVE = b": keepalive\n\n"


def _shown(value: str) -> str:
    return repr(value[:40])
