"""Reads the parts of a chat completion, in all the forms in which services write them.

Forms in the field: content that is null, an object or a list of parts, ``reasoning_content`` or
``reasoning`` beside it, ``refusal`` instead of it, no index or one in digits, finish reasons such
as the text "null", usage that is null, incomplete, of zeros or under other names, lone surrogates,
and a byte order mark.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from exai_actors.core.calls import FailureKind, UpstreamFailure, Usage
from exai_actors.wire.openai.redaction import Redactor
from exai_actors.wire.openai.server_sent_events import BOM

# Sent when the model failed or was stopped before the end of its answer: by OpenRouter and Z.AI
# (network_error), vLLM and SGLang (abort), DeepSeek (insufficient_system_resource), and gateways.
_FAILED_REASON = re.compile(
    r"(?:.*[ ._-])?(?:error|exception|fail(?:ed|ure)|abort(?:ed)?|cancel(?:l?ed)?|interrupted"
    r"|time[d_ -]*out|overload(?:ed)?|unavailable|rate_limit(?:ed|_exceeded)?"
    r"|insufficient_system_resource)",
    re.IGNORECASE,
)

# More than any model can read; sums of such counts fit into 64 bits.
_MAX_TOKENS = 10**12

_MAX_COST = 10.0**9

# Field to the members that may have it: OpenAI's, then those of Anthropic, Gemini, Kimi, DeepSeek.
_COUNTS = {
    "prompt": ("prompt_tokens", "input_tokens", "promptTokens", "inputTokens", "promptTokenCount"),
    "completion": (
        "completion_tokens",
        "output_tokens",
        "completionTokens",
        "outputTokens",
        "candidatesTokenCount",
    ),
    "total": ("total_tokens", "totalTokens", "totalTokenCount"),
    "cached": (
        "prompt_tokens_details.cached_tokens",
        "input_tokens_details.cached_tokens",
        "cached_tokens",
        "prompt_cache_hit_tokens",
        "cache_read_input_tokens",
        "cachedContentTokenCount",
    ),
    "reasoning": (
        "completion_tokens_details.reasoning_tokens",
        "output_tokens_details.reasoning_tokens",
        "reasoning_tokens",
        "thoughtsTokenCount",
    ),
}
# The same with each member as a pair: its name, and the name within it or an empty string.
_PATHS = {
    field: tuple(name.partition(".")[::2] for name in names) for field, names in _COUNTS.items()
}

# JSON that Python's own decoder takes, and orjson does not.
_LENIENT = re.compile(rb"\\u[dD][89a-fA-F]|[:,\[]\s{0,9}-?(?:NaN|Infinity)\b")


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
        if not _LENIENT.search(data):
            raise Malformed(f"text that is not JSON ({error})") from None
    try:
        # Services send escapes of lone surrogates when they split a stream inside a character; the
        # parts are repaired one by one. Those written in Python send NaN, as in log probabilities.
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"text that is not JSON ({error})") from None


def find_choice(parsed: dict[str, Any], index: str | None) -> dict[str, Any] | None:
    """The choice with that index, see ``index_of``; None if there is none. Raises Malformed.

    A choice without an index is always the one. If ``index`` is None, it is the choice 0, or else
    the first.
    """
    choices = parsed.get("choices")
    if not choices:
        return None
    if not isinstance(choices, list):
        raise Malformed("choices that are not a list")
    for choice in choices:
        if not isinstance(choice, dict):
            raise Malformed("a choice that is not an object")
        if (found := choice.get("index")) is None or str(found) == (index or "0"):
            return choice
    return choices[0] if index is None else None


def index_of(choice: dict[str, Any]) -> str | None:
    """The index of a choice, as digits; None if it has none."""
    index = choice.get("index")
    return None if index is None else str(index)


def content_text(content: Any) -> str:
    """The text of a message's content, empty for null. Raises Malformed if it is no content."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, dict) and isinstance(content.get("text"), str):
        content = [content]
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
    reasoning = (
        message.get("reasoning_content") or message.get("reasoning") or message.get("thinking")
    )
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


def parse_finish_reason(value: Any) -> str:
    """The finish reason; empty while the answer continues, which a few services write as text."""
    reason = parse_name(value)
    return "" if reason.strip().lower() in ("", "null", "none", "undefined") else reason


class UsageReader:
    """Collects the token counts of one answer, which a stream may spread over its events.

    A later count replaces an earlier one unless it is impossible: negative, no whole number, or 0
    for a prompt, which services send as a placeholder. A 0 for a completion with text is impossible
    as well, and so is a total below its parts.
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, float] = {}

    def read(self, usage: Any, *, replace: bool = True) -> None:
        """Note the counts in ``usage``; unless ``replace``, only those that are missing so far."""
        if not isinstance(usage, dict):
            return
        for field, paths in _PATHS.items():
            if field in self._counts and not replace:
                continue
            for name, inner in paths:
                if name not in usage:
                    continue
                count = _count_of(usage[name], inner)
                if count is not None and (count or field not in self._counts):
                    self._counts[field] = count
                    break
        cost = usage.get("cost")
        if (
            isinstance(cost, int | float)
            and not isinstance(cost, bool)
            and 0 <= cost <= _MAX_COST
            and (cost or "cost" not in self._counts)
        ):
            self._counts["cost"] = float(cost)

    def usage(self, *, has_text: bool) -> Usage | None:
        """The counts; None unless those of prompt and completion are known or follow."""
        counts = self._counts
        prompt, completion = counts.get("prompt"), counts.get("completion")
        total = counts.get("total")
        if not completion and has_text:
            completion = None
        if total and prompt and completion is None:
            completion = total - prompt
        elif total and completion is not None and not prompt:
            prompt = total - completion
        if not prompt or prompt < 0 or completion is None or completion < 0:
            return None
        if has_text and not completion:
            return None
        return Usage(
            prompt_tokens=int(prompt),
            completion_tokens=int(completion),
            total_tokens=int(total) if total and total > prompt + completion else None,
            cached_tokens=_whole(counts.get("cached")),
            reasoning_tokens=_whole(counts.get("reasoning")),
            cost=counts.get("cost"),
        )


def _whole(count: float | None) -> int | None:
    return None if count is None else int(count)


def _count_of(value: Any, inner: str) -> int | None:
    if inner:
        value = value.get(inner) if isinstance(value, dict) else None
    if isinstance(value, str) and value.isdecimal() and len(value) <= len(str(_MAX_TOKENS)):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is int and 0 <= value <= _MAX_TOKENS:
        return value
    return None


def is_failed(reason: str) -> bool:
    """Whether a finish reason says that the answer is not complete, and why it failed."""
    return _FAILED_REASON.fullmatch(reason) is not None


def finish_failure(reason: str, redactor: Redactor) -> UpstreamFailure:
    """The failure that a finish reason means of which ``is_failed`` is true."""
    return UpstreamFailure(
        FailureKind.SERVER_ERROR,
        f"broke off with finish reason {redactor.redact_excerpt(reason)!r}",
    )
