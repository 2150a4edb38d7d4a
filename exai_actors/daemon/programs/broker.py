"""Questions to a broker over HTTP, as its client programs ask them."""

from __future__ import annotations

import json
import time
from email.message import Message
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

import msgspec

from exai_actors import __version__
from exai_actors.client.errors import ConnectError, Unauthorized
from exai_actors.core.families import Family
from exai_actors.daemon.programs.address import BrokerAddress
from exai_actors.errors import ErrorBody, ErrorCode, UsageError

TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 4_194_304
CHECK_TIMEOUT_S = 120.0
_ADVICE = "Is the broker running there? `exai serve` starts one."
_PROMPT = "Answer with the one word: ok."


class Model(msgspec.Struct, frozen=True):
    """``families`` is empty if the broker does not say."""

    name: str
    families: tuple[str, ...] = ()


class Checked(msgspec.Struct, frozen=True):
    """The result of one request; ``text`` says how it went, ``error`` why it failed, if it did."""

    model: str
    took_s: float
    status: int
    error: str = ""
    provider: str = ""
    tenant: str = ""
    request_id: str = ""


def models_of(address: BrokerAddress, token: str) -> tuple[Model, ...]:
    """The models of the broker.

    Raises ConnectError if none answers, Unauthorized if it wants another token, and UsageError if
    it has no HTTP APIs.
    """
    status, _, body = _ask(address, Request(f"{address.v1}/models"), token, TIMEOUT_S)  # noqa: S310
    if status in (401, 403):
        raise Unauthorized(ErrorBody(ErrorCode.UNAUTHORIZED, _message(body)))
    try:
        entries = json.loads(body)["data"]
        return tuple(Model(each["id"], tuple(each.get("families", ()))) for each in entries)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            f"{address.root} serves no HTTP APIs (GET /v1/models: {status}); is it an exai "
            "broker of this version?"
        ) from None


def model_for(family: Family, models: tuple[Model, ...]) -> str:
    """The first model with the family. Raises UsageError if there is none."""
    for model in models:
        if not model.families or family in model.families:
            return model.name
    if not models:
        raise UsageError("the broker has no models yet; name one with --model")
    raise UsageError(
        f'no model of the broker is served by the API "{family}"; add it to `families` of a '
        "provider that has it, or start the broker as `exai serve --local`, whose small model has "
        "all of them"
    )


def check(address: BrokerAddress, token: str, family: Family, model: str, agent: str) -> Checked:
    """Send one short streaming request of the family. Raises ConnectError if no broker answers."""
    path, body, ends = _question(family, model)
    headers = {
        "Content-Type": "application/json",
        "Accept": "text/event-stream",
        "User-Agent": f"exai/{__version__} (check for {agent})",
        "x-exai-session": "connect-check",
    }
    if family == "messages":
        headers["anthropic-version"] = "2023-06-01"
    request = Request(  # noqa: S310
        f"{address.root}{path}", json.dumps(body).encode(), headers, method="POST"
    )
    began = time.monotonic()
    status, fields, answer = _ask(address, request, token, CHECK_TIMEOUT_S)
    error = ""
    if status != 200:
        error = _message(answer)
    elif not any(end in answer for end in ends):
        error = "the answer broke off before its end"
    return Checked(
        model,
        time.monotonic() - began,
        status,
        error,
        fields.get("x-exai-provider", ""),
        fields.get("x-exai-tenant", ""),
        fields.get("x-request-id", "") or fields.get("request-id", ""),
    )


def _question(family: Family, model: str) -> tuple[str, dict[str, Any], tuple[bytes, ...]]:
    """The path and body of a short request, and the marks of a whole answer."""
    messages = [{"role": "user", "content": _PROMPT}]
    common: dict[str, Any] = {"model": model, "stream": True}
    match family:
        case "messages":
            body = common | {"max_tokens": 16, "messages": messages}
            return "/v1/messages?beta=true", body, (b"message_stop",)
        case "responses":
            content = [{"type": "input_text", "text": _PROMPT}]
            message = {"type": "message", "role": "user", "content": content}
            body = common | {"input": [message], "store": False}
            return "/v1/responses", body, (b"response.completed", b"response.incomplete")
        case _:
            body = common | {"messages": messages, "max_tokens": 16}
            return (
                "/v1/chat/completions",
                body,
                (b"[DONE]", b'"finish_reason":"', b'"finish_reason": "'),
            )


def _ask(
    address: BrokerAddress, request: Request, token: str, timeout_s: float
) -> tuple[int, Message, bytes]:
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    # A proxy in the environment is for services, not for the broker.
    opener = build_opener(ProxyHandler({}))
    try:
        try:
            with opener.open(request, timeout=timeout_s) as response:
                return response.status, response.headers, response.read(MAX_ANSWER_BYTES)
        except HTTPError as error:
            with error:
                return error.code, error.headers, error.read(MAX_ANSWER_BYTES)
    except (URLError, OSError, HTTPException) as error:
        cause = getattr(error, "reason", error)
        refused = isinstance(cause, ConnectionRefusedError)
        why = "connection refused" if refused else str(cause) or type(cause).__name__
        raise ConnectError(address.root, why, _ADVICE) from error


def _message(body: bytes) -> str:
    """The message of an error of any family."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace").strip() or "without a reason"
