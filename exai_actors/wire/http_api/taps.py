"""Reads beside a relayed answer what the broker needs of it: its end, its token counts, its errors.

A tap sees the bytes as they pass, in pieces of any size, and never holds them up. It parses only
the few events of a stream that can matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from exai_actors.core.calls import Usage
from exai_actors.core.families import Family
from exai_actors.core.surrogates import tolerant

_decoded = tolerant(msgspec.json.decode)


class _Details(msgspec.Struct, frozen=True, gc=False):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _ChatUsage(msgspec.Struct, frozen=True, gc=False):
    """Token counts by the names of chat completions alone; None stands for those of others."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens_details: None = None
    output_tokens_details: None = None
    cache_read_input_tokens: None = None
    cache_creation_input_tokens: None = None


class _ChatChoice(msgspec.Struct, frozen=True, gc=False):
    finish_reason: str | None = None
    usage: None = None


class _WholeChat(msgspec.Struct, frozen=True, gc=False):
    """A chat completion by the letter; its texts are skipped, not decoded."""

    choices: list[_ChatChoice]
    usage: _ChatUsage
    model: str | None = None
    error: None = None


_whole_chat = msgspec.json.Decoder(_WholeChat).decode
MAX_EVENT_BYTES = 33_554_432
_BLANK = b"\n\n"
_CR = ord("\r")
_TOKEN_BYTES = 4
_MOST_TOKENS = 1e15
# Longer data is examined in halves: only one of them contains the end of the answer.
_MANY_BYTES = 1024
_NOTHING: dict[str, Any] = {}

# The events that can matter. A text inside of a JSON string has its quotation marks escaped.
WORTH_READING: Mapping[Family, re.Pattern[bytes]] = {
    "chat": re.compile(
        rb'"finish_reason"\s*:\s*"|"usage"\s*:\s*\{|\[DONE\]|"error"\s*:\s*[{"]|event\s*:\s*error'
    ),
    "messages": re.compile(
        rb'"message_(?:start|delta|stop)"|event\s*:\s*error|"type"\s*:\s*"error"'
    ),
    "responses": re.compile(
        rb'"response\.(?:completed|incomplete|failed)"|event\s*:\s*error|"type"\s*:\s*"error"'
    ),
    "embeddings": re.compile(rb"(?!)"),
}


# Every piece is searched, and rfind() takes half the time of ``in``, which tries its left side as a
# number first, and so raises and drops a TypeError. It is also a little faster than find().


def _is_usual_chat(data: bytes) -> bool:
    return (
        data.rfind(b"[DONE]") < 0
        and data.rfind(b"error") < 0
        and data.count(b'"finish_reason"') == data.count(b'"finish_reason":null')
        and (data.rfind(b'"usage"') < 0 or data.count(b'"usage"') == data.count(b'"usage":null'))
    )


def _is_usual_message(data: bytes) -> bool:
    return data.rfind(b"error") < 0 and data.rfind(b'"message_') < 0


def _is_usual_response(data: bytes) -> bool:
    return (
        data.rfind(b"error") < 0
        and data.rfind(b'"response.completed"') < 0
        and data.rfind(b'"response.incomplete"') < 0
        and data.rfind(b'"response.failed"') < 0
    )


# True only for data in which the patterns above find nothing, which is nearly all of a stream. The
# patterns take longer to find that out than all other work on a piece takes.
IS_USUAL: Mapping[Family, Callable[[bytes], bool]] = {
    "chat": _is_usual_chat,
    "messages": _is_usual_message,
    "responses": _is_usual_response,
    "embeddings": lambda _: True,
}


class Tap:
    """Beside one answer; feed it with ``stream`` or, whole, with ``body``.

    ``is_whole`` once the family's terminal event has passed, ``is_over`` once nothing can follow
    it: after the last piece of a chat come its token counts, and ``[DONE]``. ``error`` is that of
    the service in the answer itself, None if there is none. ``needs_done``: a chat has several
    answers, and only ``[DONE]`` ends all of them.
    """

    __slots__ = (
        "_after_cr",
        "_family",
        "_is_usual",
        "_needs_done",
        "_pending",
        "_search",
        "_size",
        "error",
        "events",
        "finish_reason",
        "is_over",
        "is_whole",
        "model",
        "usage",
    )

    def __init__(self, family: Family, *, needs_done: bool = False) -> None:
        self._family = family
        self._needs_done = needs_done
        self._search = WORTH_READING[family].search
        self._is_usual = IS_USUAL[family]
        self._pending = bytearray()
        self._size = 0
        self._after_cr = False
        self.events = 0
        self.is_whole = False
        self.is_over = False
        self.finish_reason = ""
        self.model = ""
        self.usage: Usage | None = None
        self.error: Any = None

    def stream(self, data: bytes) -> None:
        """The next piece of an event stream."""
        self._size += len(data)
        if (
            data.endswith(_BLANK)
            and not self._pending
            and not self._after_cr
            and self._is_usual(data)
            and _CR not in data
        ):
            # Nearly every piece: one event or more, in which nothing has to be read.
            is_one_line = data.find(b"\n") == len(data) - len(_BLANK)
            self.events += 1 if is_one_line else data.count(_BLANK)
            return
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if _CR in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        pending = self._pending
        if not pending and data.endswith(_BLANK):
            self._events(data)
            return
        start = max(0, len(pending) - 1)
        pending += data
        end = pending.rfind(_BLANK, start)
        if end >= 0:
            complete = bytes(pending[: end + 2])
            del pending[: end + 2]
            self._events(complete)
        elif len(pending) > MAX_EVENT_BYTES:
            pending.clear()

    def end_of_stream(self) -> None:
        """The body has ended; the last event may lack its empty line."""
        if self._pending:
            rest = bytes(self._pending)
            self._pending.clear()
            self._events(rest)

    def body(self, data: bytes) -> bool:
        """A whole answer that is no stream; False if it is no JSON object."""
        self._size = len(data)
        if self._family == "chat" and self._read_whole_chat(data):
            return True
        found = _object(data)
        if found is None:
            return False
        self._read(found)
        has_error = found.get("error") not in (None, {}, "")
        if has_error and not (found.keys() & {"choices", "content", "output", "data"}):
            self.error = found["error"]
        self.is_whole = True
        return True

    def counted(self) -> Usage:
        """The tokens as the service counted them, or else as they are estimated by the size.

        A count of 0 for the prompt stands for the estimate that was made of it before.
        """
        if self.usage is not None:
            return self.usage
        return Usage(0, max(1, self.events or self._size // _TOKEN_BYTES))

    def _events(self, data: bytes) -> None:
        self.events += data.count(_BLANK)
        self._examine(data)

    def _examine(self, data: bytes) -> None:
        """Read the events that can matter."""
        if self._is_usual(data):
            return
        cut = _middle(data) if len(data) > _MANY_BYTES else 0
        if cut:
            self._examine(data[:cut])
            self._examine(data[cut:])
        elif self._search(data) is not None:
            for event in data.split(_BLANK):
                if self._search(event) is not None:
                    self._event(event)

    def _event(self, event: bytes) -> None:
        kind, lines = "", []
        for line in event.split(b"\n"):
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                lines.append(value)
            elif name == b"event":
                kind = value.decode("utf-8", "replace").strip()
        data = b"\n".join(lines)
        if self._family == "chat" and data.strip() == b"[DONE]":
            self.is_whole = self.is_over = True
            return
        found = _object(data)
        if found is None:
            if kind == "error":
                self.error = self.error or data.decode("utf-8", "replace") or "no reason given"
            return
        is_error = kind == "error" or found.get("type") == "error"
        if is_error or (found.get("error") and self._family == "chat"):
            self.error = found.get("error") or found
        self._read(found)

    def _read(self, found: dict[str, Any]) -> None:
        match self._family:
            case "chat":
                self._read_chat(found)
            case "messages":
                self._read_messages(found)
            case "responses":
                self._read_responses(found)
            case "embeddings":
                self.model = _text(found.get("model"))
                self._count(found.get("usage"), "prompt_tokens", "completion_tokens")

    def _read_chat(self, found: dict[str, Any]) -> None:
        self.model = _text(found.get("model")) or self.model
        self._count(found.get("usage"), "prompt_tokens", "completion_tokens")
        choices = found.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            if "usage" in choice:
                self._count(choice["usage"], "prompt_tokens", "completion_tokens")
            reason = _text(choice.get("finish_reason"))
            if reason:
                self.finish_reason = reason
                self.is_whole = self.is_whole or not self._needs_done

    def _read_whole_chat(self, data: bytes) -> bool:
        """Read a whole answer as ``_read_chat`` does; False if it is not by the letter."""
        try:
            if not data.isascii():
                # The parser does not look at the texts that it skips.
                data.decode()
            found = _whole_chat(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        usage = found.usage
        prompt, answer, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
        cached = reasoning = 0
        if usage.prompt_tokens_details is not None:
            cached = usage.prompt_tokens_details.cached_tokens or 0
        if usage.completion_tokens_details is not None:
            reasoning = usage.completion_tokens_details.reasoning_tokens or 0
        counts = prompt, answer, total or 0, cached, reasoning
        if min(counts) < 0 or max(counts) >= _MOST_TOKENS:
            return False
        self.usage = Usage(
            prompt,
            answer,
            total if total is not None and total > prompt + answer else None,
            cached or None,
            reasoning or None,
        )
        self.model = found.model or ""
        for choice in found.choices:
            self.finish_reason = choice.finish_reason or self.finish_reason
        self.is_whole = True
        return True

    def _read_messages(self, found: dict[str, Any]) -> None:
        message: Any = found
        match found.get("type"):
            case "message_start":
                message = found.get("message")
            case "message_stop":
                self.is_whole = self.is_over = True
        if not isinstance(message, dict):
            return
        self.model = _text(message.get("model")) or self.model
        delta = message.get("delta")
        for part in (message, delta if isinstance(delta, dict) else {}):
            self.finish_reason = _text(part.get("stop_reason")) or self.finish_reason
        self._count(message.get("usage"), "input_tokens", "output_tokens")

    def _read_responses(self, found: dict[str, Any]) -> None:
        kind = _text(found.get("type"))
        response = found.get("response") if kind.startswith("response.") else found
        if kind in {"response.completed", "response.incomplete", "response.failed"}:
            self.is_whole = self.is_over = True
        if not isinstance(response, dict):
            return
        self.model = _text(response.get("model")) or self.model
        self.finish_reason = _text(response.get("status")) or self.finish_reason
        self._count(response.get("usage"), "input_tokens", "output_tokens")
        if kind == "response.failed":
            self.error = response.get("error") or "the service gave no reason"

    def _count(self, usage: Any, prompt_name: str, answer_name: str) -> None:
        """Note token counts. Some are sent several times, and the first ones may be 0."""
        if not isinstance(usage, dict):
            return
        # Anthropic's do not include those that are written to its cache or read from it.
        cached = _count(usage.get("cache_read_input_tokens"))
        prompt = _count(usage.get(prompt_name)) + cached
        prompt += _count(usage.get("cache_creation_input_tokens"))
        answer, total = _count(usage.get(answer_name)), _count(usage.get("total_tokens"))
        details = _dict(usage, "prompt_tokens_details", "input_tokens_details")
        cached = max(cached, _count(details.get("cached_tokens")))
        details = _dict(usage, "completion_tokens_details", "output_tokens_details")
        reasoning = _count(details.get("reasoning_tokens"))
        before = self.usage
        if before is not None:
            total = max(total, before.total_tokens or 0)
            prompt = max(prompt, before.prompt_tokens)
            answer = max(answer, before.completion_tokens)
            cached = max(cached, before.cached_tokens or 0)
            reasoning = max(reasoning, before.reasoning_tokens or 0)
        self.usage = Usage(
            prompt,
            answer,
            total if total > prompt + answer else None,
            cached or None,
            reasoning or None,
        )


def _middle(data: bytes) -> int:
    """The end of an event near the middle; 0 if there is one event."""
    middle = len(data) // 2
    before = data.rfind(_BLANK, 0, middle)
    if before >= 0:
        return before + len(_BLANK)
    after = data.find(_BLANK, middle) + len(_BLANK)
    return after if len(_BLANK) <= after < len(data) else 0


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        found = _decoded(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _dict(usage: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        found = usage.get(name)
        if isinstance(found, dict):
            return found
    return _NOTHING


def _count(value: Any) -> int:
    if value is None:
        return 0
    return int(value) if isinstance(value, int | float) and 0 < value < _MOST_TOKENS else 0
