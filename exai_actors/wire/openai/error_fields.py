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
_MESSAGE_KEYS = ("message", "msg", "status_msg", "detail", "error", "error_message", "error_msg")
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


def error_within(parsed: Any) -> Any:
    """The error that a body with status 200, or an event of a stream, is; None if it is none.

    For ``read_error``. A member ``error`` whose own members are all empty is no error. Gemini wraps
    its error in a list, OpenRouter puts one into the choice, others one level down.
    """
    if isinstance(parsed, list):
        errors = (error_within(each) for each in parsed[:4] if isinstance(each, dict))
        return next((error for error in errors if error), None)
    if not isinstance(parsed, dict):
        return None
    if error := _named_error(parsed):
        return error
    base = parsed.get("base_resp")
    if isinstance(base, dict) and base.get("status_code") not in (None, 0, "0"):
        return parsed
    if choices := parsed.get("choices"):
        return _error_in_choices(choices)
    return parsed if _is_error(parsed) else _error_one_level_down(parsed)


def _error_in_choices(choices: Any) -> Any:
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            if error := _named_error(choice):
                return error
            inner = choice.get("delta") or choice.get("message")
            if not isinstance(inner, dict) or inner.get("content"):
                continue
            if error := _named_error(inner):
                return error
    return None


def _error_one_level_down(parsed: dict[str, Any]) -> Any:
    for key, inner in parsed.items():
        if key not in _NOT_ERRORS and isinstance(inner, dict):
            if "error" in (inner.get("object"), inner.get("type")):
                return inner
            if error := _named_error(inner):
                return error
    return None


def _is_error(parsed: dict[str, Any]) -> bool:
    """Whether an object without choices is an error as a whole."""
    if "error" in (parsed.get("object"), parsed.get("type")) or parsed.get("success") is False:
        return True
    if str(parsed.get("status")).lower() in ("error", "failed", "failure"):
        return True
    if any(parsed.get(key) for key in _ERROR_KEYS):
        return True
    code = next((parsed[key] for key in _CODES if parsed.get(key) is not None), None)
    if code is None and str(parsed.get("status")).isdecimal():
        code = parsed["status"]
    says_why = any(isinstance(parsed.get(key), str) for key in ("message", "msg", "error_message"))
    return says_why and not is_success(code)


# Members of an object without choices; no service has them in an event that is part of an answer.
_ERROR_KEYS = ("detail", "errors", "error_msg", "error_code", "errorMessage", "fault", "exception")
_CODES = ("code", "status_code", "statusCode")
# Members that may repeat parts of the request.
_NOT_ERRORS = frozenset({"usage", "metadata", "input", "request", "prompt"})


def _named_error(parsed: dict[str, Any]) -> Any:
    error = parsed.get("error")
    if isinstance(error, dict) and all(is_success(value) for value in error.values()):
        return None
    if isinstance(error, str) and is_success(error.strip()):
        return None
    return error


def is_success(code: Any) -> bool:
    """Whether a code or text is none, or says that all is well."""
    if isinstance(code, str):
        if code.isdecimal() and len(code) <= MAX_CODE_CHARS:
            return is_success(int(code))
        return code.lower() in ("", "ok", "success", "succeeded", "null", "none")
    return not code or (type(code) is int and 100 <= code <= 299)


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
