"""Reads the codes and the message out of an error body, in all the envelopes that are in use.

Error bodies in the field: OpenAI and most others send ``{"error": {"message", "type", "code"}}``,
Gemini the same within a list; Ollama and some gateways ``{"error": "text"}``; FastAPI ``{"detail":
...}``; vLLM ``{"object": "error", "message", "code"}``; MiniMax ``{"base_resp": {"status_code",
"status_msg"}}``; Z.AI's gateway ``{"code": 500, "msg": "404 NOT_FOUND"}``. Gateways put the body of
the service behind them into ``metadata.raw`` or, as JSON, into their own message.

Only codes and messages are read. Members that may repeat the request (``input``, ``param``, ...)
are not, so that words of a prompt say nothing about an account.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson

from exai_actors.wire.json_encoding import to_json

MAX_TEXT_CHARS = 8192
"""A longer message is cut: a service may send megabytes, and searching blocks the loop."""
MAX_CODE_CHARS = 100

_DECODER = json.JSONDecoder()
_MAX_DEPTH = 8
_MAX_MESSAGES = 12
_CODE_KEYS = ("type", "code", "status", "error_type", "reason", "error_code", "statusCode")
_MESSAGE_KEYS = ("message", "msg", "status_msg", "detail", "error", "error_message")
_STATUS = re.compile(r"[45][0-9]{2}")
_QUOTED = re.compile(
    r"\"[^\"]{0,2000}\"|(?<!\w)'[^']{0,2000}'(?!\w)|`[^`]{0,2000}`"
    r"|\u201c[^\u201c\u201d]{0,2000}\u201d"
)


class ErrorWords(msgspec.Struct, frozen=True):
    """The codes and messages of an error.

    ``codes`` are in lower case; ``base_resp:1008`` is one of MiniMax's. ``message`` is for people,
    ``text`` has all messages, with those of the errors inside this one, and ``words`` each of them
    without quotations. ``status`` is the HTTP status that a code repeats, 0 if none does.
    """

    codes: tuple[str, ...] = ()
    message: str = ""
    text: str = ""
    words: tuple[str, ...] = ()
    status: int = 0


def parse_error_body(body: bytes) -> Any:
    """The JSON in a response's body; None if it is no JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def error_within(parsed: dict[str, Any]) -> Any:
    """The error that a body with status 200, or an event of a stream, is; None if it is none.

    For ``read_error``. A member ``error`` whose own members are all empty is no error.
    """
    error = parsed.get("error")
    if error and not (isinstance(error, dict) and not any(error.values())):
        return error
    base = parsed.get("base_resp")
    if isinstance(base, dict) and base.get("status_code") not in (None, 0, "0"):
        return parsed
    if parsed.get("choices"):
        return None
    if "error" in (parsed.get("object"), parsed.get("type")) or parsed.get("success") is False:
        return parsed
    if parsed.get("detail") or parsed.get("errors"):
        return parsed
    code = parsed.get("code", parsed.get("status_code"))
    says_why = any(isinstance(parsed.get(key), str) for key in ("message", "msg", "error_message"))
    return parsed if says_why and code not in (None, 0, "0", 200, "200") else None


def read_error(error: Any) -> ErrorWords:
    """The words of an error: a whole body, or the value of its member ``error``."""
    codes: list[str] = []
    messages: list[str] = []
    status = 0
    for each in _errors_within(error, _MAX_DEPTH):
        if isinstance(each, str):
            messages.append(each[:MAX_TEXT_CHARS])
            continue
        codes += _codes_of(each)
        status = status or _status_of(each)
        if text := _text_of(each):
            messages.append(text[:MAX_TEXT_CHARS])
    distinct = list(dict.fromkeys(messages))
    text = "\n".join(distinct)[:MAX_TEXT_CHARS]
    return ErrorWords(
        codes=tuple(dict.fromkeys(codes)),
        message=_shown(distinct, error),
        text=text,
        words=tuple(_QUOTED.sub(" ", each) for each in distinct[:_MAX_MESSAGES]),
        status=status,
    )


def _errors_within(value: Any, depth: int) -> Iterator[Any]:
    """Error objects and texts, each before those inside it."""
    if depth == 0 or not value:
        return
    if isinstance(value, list):
        # FastAPI lists each invalid argument, Gemini wraps its one error.
        for each in value[:4]:
            yield from _errors_within(each, depth - 1)
        return
    if isinstance(value, str):
        inner = json_within(value)
        if inner is None:
            yield value
            return
        if head := value[: value.index("{")].strip(" -:\n"):
            yield head
        yield from _errors_within(inner, depth - 1)
        return
    if not isinstance(value, dict):
        return
    yield value
    for key in ("error", "detail", "base_resp", "errors", "message", "details", "violations"):
        inner = value.get(key)
        if isinstance(inner, dict | list) or (isinstance(inner, str) and json_within(inner)):
            yield from _errors_within(inner, depth - 1)
    metadata = value.get("metadata")
    if isinstance(metadata, dict):
        yield {key: metadata.get(key) for key in ("error_type", "reason")}
        yield from _errors_within(metadata.get("raw"), depth - 1)


def json_within(text: str) -> dict[str, Any] | None:
    """The JSON object that a gateway has put into its message, perhaps between words of its own."""
    start = text.find("{", 0, 400)
    if start < 0 or len(text) > MAX_TEXT_CHARS:
        return None
    try:
        found, _ = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _codes_of(error: dict[str, Any]) -> Iterator[str]:
    for key in _CODE_KEYS:
        value = error.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            yield str(value)[:MAX_CODE_CHARS].lower()
    code = error.get("status_code")
    if isinstance(code, int | str) and code not in (0, "0", "") and "status_msg" in error:
        yield f"base_resp:{code}"[:MAX_CODE_CHARS]


def _status_of(error: dict[str, Any]) -> int:
    """The HTTP status that services put into a code or beside it, as number or digits; or 0."""
    for key in ("code", "status", "http_code", "statusCode", "status_code"):
        value = str(error.get(key))
        if _STATUS.fullmatch(value):
            return int(value)
    return 0


def _text_of(error: dict[str, Any]) -> str:
    for key in _MESSAGE_KEYS:
        value = error.get(key)
        if isinstance(value, str) and value and json_within(value) is None:
            return value
    # Gemini: the name of the quota says which limit it is.
    quota = error.get("quotaId")
    return quota if isinstance(quota, str) else ""


def _shown(messages: list[str], error: Any) -> str:
    """The message for people; a gateway's own words say less than those it quotes."""
    if messages:
        inner = next((each for each in messages[1:] if " " in each), "")
        is_vague = messages[0].strip(" .").lower() in _VAGUE
        return f"{messages[0]}: {inner}" if is_vague and inner else messages[0]
    if not error:
        return ""
    try:
        return to_json(error).decode()[:MAX_TEXT_CHARS]
    except RecursionError:
        return ""


_VAGUE = frozenset({"provider returned error", "error from provider", "upstream error", "error"})
