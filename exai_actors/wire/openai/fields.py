"""The parts of a chat completion, taken from JSON that many services write in their own way.

Met in the field: content that is null or a list of parts, ``reasoning_content`` or ``reasoning``
beside it, ``refusal`` in its place, no index, usage that is null or incomplete, halves of surrogate
pairs, and a byte order mark.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeGuard

import orjson

from exai_actors.core.calls import FailureKind, UpstreamFailure, Usage
from exai_actors.wire.openai.errors import Redactor
from exai_actors.wire.openai.server_sent_events import BOM

# Finish reasons by which a service says that the model has failed or was stopped in the middle
# (OpenRouter, Z.AI; vLLM and SGLang; DeepSeek).
FAILED_REASONS = frozenset({"error", "network_error", "abort", "insufficient_system_resource"})

# More than any model has ever read; sums of them fit into 64 bits.
_MAX_TOKENS = 10**12

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class Malformed(Exception):
    """What came is not what a chat completion looks like; the text says where."""


def load(data: bytes | str) -> Any:
    """The JSON value. Raises Malformed."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if isinstance(data, str):
            data = data.encode()
        if data.startswith(BOM):
            return load(data.removeprefix(BOM))
        if not _SURROGATE_ESCAPE.search(data):
            raise Malformed(f"text that is not JSON ({error})") from None
    try:
        # orjson refuses escapes of half a surrogate pair, which some services send when they cut
        # a stream inside a character; they are mended piece by piece.
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"text that is not JSON ({error})") from None


def first_choice(parsed: dict[str, Any]) -> dict[str, Any] | None:
    """The choice with index 0 or none; None if there is no such. Raises Malformed."""
    choices = parsed.get("choices")
    if not choices:
        return None
    if not isinstance(choices, list):
        raise Malformed("choices that are no list")
    for choice in choices:
        if not isinstance(choice, dict):
            raise Malformed("a choice that is no object")
        if not choice.get("index"):
            return choice
    return None


def text_of(content: Any) -> str:
    """The text of a message's content, empty for null. Raises Malformed for what holds none."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    raise Malformed("content that is no text")


def refusal_of(message: dict[str, Any]) -> str:
    """What a message or delta has in place of a text, empty if there is none."""
    refusal = message.get("refusal")
    return refusal if isinstance(refusal, str) else ""


def reasoning_of(message: dict[str, Any]) -> str:
    """The separate thinking text of a message or delta, empty if there is none."""
    thought = message.get("reasoning_content") or message.get("reasoning")
    return thought if isinstance(thought, str) else ""


def whole(text: str) -> str:
    """The text with surrogate pairs joined and what is left of halves replaced by U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def name_of(value: Any) -> str:
    """A model's name or a finish reason; empty for anything but a string."""
    return whole(value) if isinstance(value, str) else ""


def usage_of(usage: Any) -> Usage | None:
    """Token counts, if both are there and can be counts; some services say -1 for none."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if _is_count(prompt) and _is_count(completion):
        return Usage(prompt, completion)
    return None


def _is_count(tokens: Any) -> TypeGuard[int]:
    return type(tokens) is int and 0 <= tokens <= _MAX_TOKENS


def model_failed(reason: str, redactor: Redactor) -> UpstreamFailure:
    """The failure that a finish reason out of FAILED_REASONS means."""
    return UpstreamFailure(
        FailureKind.SERVER_ERROR,
        f"broke off with finish reason {redactor.redact_excerpt(reason)!r}",
    )
