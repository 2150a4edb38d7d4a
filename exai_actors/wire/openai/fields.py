"""Reads the parts of a chat completion, in all the forms in which services write them.

Forms in the field: content that is null or a list of parts, ``reasoning_content`` or ``reasoning``
beside it, ``refusal`` instead of it, no index, usage that is null or incomplete, lone surrogates,
and a byte order mark.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeGuard

import orjson

from exai_actors.core.calls import FailureKind, UpstreamFailure, Usage
from exai_actors.wire.openai.redaction import Redactor
from exai_actors.wire.openai.server_sent_events import BOM

# Sent when the model failed or was stopped before the end of its answer (OpenRouter, Z.AI; vLLM
# and SGLang; DeepSeek).
FAILED_REASONS = frozenset({"error", "network_error", "abort", "insufficient_system_resource"})

# More than any model can read; sums of such counts fit into 64 bits.
_MAX_TOKENS = 10**12

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class Malformed(Exception):
    """The data is not a chat completion; the text says which part of it is wrong."""


def parse_json(data: bytes | str) -> Any:
    """The value that ``data`` encodes. Raises Malformed."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if isinstance(data, str):
            data = data.encode()
        if data.startswith(BOM):
            return parse_json(data.removeprefix(BOM))
        if not _SURROGATE_ESCAPE.search(data):
            raise Malformed(f"text that is not JSON ({error})") from None
    try:
        # orjson rejects escapes of lone surrogates, which services send when they split a stream
        # inside a character; the parts are repaired one by one.
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"text that is not JSON ({error})") from None


def first_choice(parsed: dict[str, Any]) -> dict[str, Any] | None:
    """The choice whose index is 0 or missing; None if there is no such choice. Raises Malformed."""
    choices = parsed.get("choices")
    if not choices:
        return None
    if not isinstance(choices, list):
        raise Malformed("choices that are not a list")
    for choice in choices:
        if not isinstance(choice, dict):
            raise Malformed("a choice that is not an object")
        if not choice.get("index"):
            return choice
    return None


def content_text(content: Any) -> str:
    """The text of a message's content, empty for null. Raises Malformed if it is no content."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    raise Malformed("content that is not text")


def refusal_text(message: dict[str, Any]) -> str:
    """The refusal in a message or delta, empty if there is none."""
    refusal = message.get("refusal")
    return refusal if isinstance(refusal, str) else ""


def reasoning_text(message: dict[str, Any]) -> str:
    """The reasoning in a message or delta, empty if there is none."""
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    return reasoning if isinstance(reasoning, str) else ""


def repair_surrogates(text: str) -> str:
    """``text`` with surrogate pairs joined and lone surrogates replaced by U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def parse_name(value: Any) -> str:
    """A model's name or a finish reason; empty for anything but a string."""
    return repair_surrogates(value) if isinstance(value, str) else ""


def parse_usage(usage: Any) -> Usage | None:
    """The token counts; None unless both are possible counts (some services send -1 for none)."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if _is_count(prompt) and _is_count(completion):
        return Usage(prompt_tokens=prompt, completion_tokens=completion)
    return None


def _is_count(tokens: Any) -> TypeGuard[int]:
    return type(tokens) is int and 0 <= tokens <= _MAX_TOKENS


def finish_failure(reason: str, redactor: Redactor) -> UpstreamFailure:
    """The failure that a finish reason in FAILED_REASONS means."""
    return UpstreamFailure(
        FailureKind.SERVER_ERROR,
        f"broke off with finish reason {redactor.redact_excerpt(reason)!r}",
    )
