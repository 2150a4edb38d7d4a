"""The chat-completions exchange of OpenAI-compatible services, as bytes and plain values.

Protocol facts come from OpenAI's API reference (chat completions, streaming) and from what Kimi,
Z.AI, DeepSeek, llama.cpp, vLLM and Ollama send where they differ: ``reasoning_content`` or
``reasoning`` beside the content, content that is null or a list of parts, a missing finish reason
or a missing ``[DONE]``, usage in a last event without choices.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from exai_actors.core.calls import (
    ChatCall,
    ChatMessage,
    Completion,
    FailureKind,
    UpstreamFailure,
    Usage,
)
from exai_actors.wire.server_sent_events import EventTooLarge, ServerSentEvent, SseParser
from exai_actors.wire.upstream_errors import NOBODY, Speaker, error_event

# An event holds a piece of an answer, but some services send the whole answer as one, escaped.
EVENT_OVERHEAD_BYTES = 1 << 20

# Finish reasons by which a service says that the model itself has failed (OpenRouter, Z.AI).
FAILED_REASONS = frozenset({"error", "network_error"})

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_EVENT_START = re.compile(rb"\s*(?::|(?:data|event|id|retry)\s*:)")


class _Malformed(Exception):
    """What came is not what a chat completion looks like; the text says where."""


def encode_request(call: ChatCall, *, include_usage: bool = True) -> bytes:
    """The body of ``POST /chat/completions``.

    Messages with images have a list of content parts. ``include_usage`` asks for token counts at
    the end of a stream (``stream_options``, which a few services refuse).
    """
    body: dict[str, Any] = {
        "model": call.model,
        "messages": [_message(message) for message in call.messages],
    }
    if call.stream:
        body["stream"] = True
        if include_usage:
            body["stream_options"] = {"include_usage": True}
    if call.temperature is not None:
        body["temperature"] = call.temperature
    if call.max_tokens is not None:
        body["max_tokens"] = call.max_tokens
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        # Half a surrogate pair is legal in a Python string but not in UTF-8.
        return json.dumps(body).encode("ascii")


def looks_like_events(content_type: str, beginning: bytes) -> bool:
    """Whether a response's body is an event stream, whatever was asked for.

    The body itself has the last word: services send JSON errors with the stream's type, and
    streams with none.
    """
    first = beginning.lstrip()[:1]
    if first in (b"{", b"[", b"<"):
        return False
    return content_type.startswith("text/event-stream") or bool(_EVENT_START.match(beginning))


def parse_completion(
    body: bytes, model: str, *, speaker: Speaker = NOBODY
) -> Completion | UpstreamFailure:
    """A whole answer from a JSON body; ``model`` is taken where the body names none."""
    try:
        parsed = _load(body)
        if not isinstance(parsed, dict):
            raise _Malformed("a JSON value that is no object")
        if parsed.get("error"):
            return error_event(parsed["error"], speaker=speaker)
        choice = _first_choice(parsed)
        if choice is None:
            raise _Malformed(
                f"JSON without choices: {speaker.quote(body.decode(errors='replace'))}"
            )
        message = choice.get("message")
        if not isinstance(message, dict):
            raise _Malformed("a choice without a message")
        reason = choice.get("finish_reason")
        if reason in FAILED_REASONS:
            return _model_failed(str(reason), speaker)
        return Completion(
            text=_whole(_text(message.get("content"))),
            model=_name(parsed.get("model")) or model,
            finish_reason=_name(reason) or "stop",
            usage=_usage(parsed.get("usage")),
            reasoning=_whole(_reasoning(message)),
        )
    except _Malformed as found:
        return speaker.failure(FailureKind.MALFORMED, f"answered with {found}")


def parse_models(body: bytes, *, speaker: Speaker = NOBODY) -> tuple[str, ...] | UpstreamFailure:
    """The ids in the answer of ``GET /models``, in its order, each once."""
    try:
        parsed = _load(body)
        if isinstance(parsed, dict) and parsed.get("error"):
            return error_event(parsed["error"], speaker=speaker)
        listed = parsed.get("data") if isinstance(parsed, dict) else parsed
        if not isinstance(listed, list):
            raise _Malformed("JSON without a list of models")
        names = (entry.get("id") for entry in listed if isinstance(entry, dict))
        return tuple(dict.fromkeys(name for name in names if isinstance(name, str) and name))
    except _Malformed as found:
        return speaker.failure(FailureKind.MALFORMED, f"answered with {found}")


class StreamReader:
    """Reads one streamed answer.

    Feed it bytes until ``ended`` or the end of the body, then ``finish``. ``max_answer_bytes``
    bounds content and reasoning together, in UTF-8.
    """

    def __init__(self, model: str, max_answer_bytes: int, *, speaker: Speaker = NOBODY) -> None:
        self._model = model
        self._max = max_answer_bytes
        self._speaker = speaker
        self._events = SseParser(2 * max_answer_bytes + EVENT_OVERHEAD_BYTES)
        self._pieces: list[str] = []
        self._reasoning: list[str] = []
        self._size = 0
        self._half = ""
        self._finish_reason = ""
        self._usage: Usage | None = None
        self._done = False
        self._failure: UpstreamFailure | None = None

    @property
    def ended(self) -> bool:
        """Whether ``[DONE]`` or a failure has been read: nothing that follows matters."""
        return self._done or self._failure is not None

    @property
    def failure(self) -> UpstreamFailure | None:
        """What has gone wrong so far."""
        return self._failure

    def feed(self, data: bytes) -> list[str]:
        """The pieces of content in these bytes; none is empty."""
        before = len(self._pieces)
        try:
            for event in self._events.feed(data):
                if self.ended:
                    break
                self._read(event)
        except _Malformed as found:
            self._fail(FailureKind.MALFORMED, f"broke off with {found}")
        except EventTooLarge:
            self._too_large()
        return self._pieces[before:]

    def finish(self) -> Completion | UpstreamFailure:
        """What the stream amounts to, now that no more of it comes."""
        if self._failure is not None:
            return self._failure
        if not (self._done or self._finish_reason):
            return self._speaker.failure(
                FailureKind.TRUNCATED, "ended its stream before the answer was whole"
            )
        if self._finish_reason in FAILED_REASONS:
            return _model_failed(self._finish_reason, self._speaker)
        return Completion(
            text="".join(self._pieces),
            model=self._model,
            finish_reason=self._finish_reason or "stop",
            usage=self._usage,
            reasoning=_whole("".join(self._reasoning)),
        )

    def _read(self, event: ServerSentEvent) -> None:
        data = event.data
        if data.strip() == "[DONE]":
            self._done = True
            self._give_up_half()
            return
        if not data:
            return
        parsed = _load(data)
        if not isinstance(parsed, dict):
            raise _Malformed("an event that is no JSON object")
        if parsed.get("error") or event.event == "error":
            self._failure = error_event(parsed.get("error") or parsed, speaker=self._speaker)
            return
        if "usage" in parsed:
            self._usage = _usage(parsed["usage"]) or self._usage
        if "model" in parsed and parsed["model"] != self._model:
            self._model = _name(parsed["model"]) or self._model
        choice = _first_choice(parsed)
        if choice is None:
            return
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            self._take(delta)
        elif delta is not None:
            raise _Malformed("a choice whose delta is no object")
        if reason := choice.get("finish_reason"):
            self._finish_reason = _name(reason) or self._finish_reason
            self._give_up_half()

    def _take(self, delta: dict[str, Any]) -> None:
        content = delta.get("content")
        if text := content if isinstance(content, str) else _text(content):
            self._add_piece(text)
        if ("reasoning_content" in delta or "reasoning" in delta) and (
            thought := _reasoning(delta)
        ):
            self._reasoning.append(thought)
            self._grow(thought)

    def _add_piece(self, text: str) -> None:
        if self._half:
            text, self._half = self._half + text, ""
        if not text.isascii():
            # A pair of surrogates may be spread over two pieces: its first half waits.
            if "\ud800" <= text[-1] <= "\udbff":
                text, self._half = text[:-1], text[-1]
            text = _whole(text)
        if text:
            self._pieces.append(text)
            self._grow(text)

    def _give_up_half(self) -> None:
        if self._half:
            self._pieces.append(_whole(self._half))
            self._half = ""

    def _grow(self, text: str) -> None:
        self._size += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        if self._size > self._max:
            self._too_large()

    def _too_large(self) -> None:
        self._fail(FailureKind.TOO_LARGE, f"sent an answer larger than {self._max} bytes")

    def _fail(self, kind: FailureKind, told: str) -> None:
        self._failure = self._speaker.failure(kind, told)


def _message(message: ChatMessage) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.content}
    parts: list[dict[str, Any]] = [{"type": "text", "text": message.content}]
    parts += [{"type": "image_url", "image_url": {"url": url}} for url in message.images]
    return {"role": message.role, "content": parts}


def _load(data: bytes | str) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if isinstance(data, str):
            data = data.encode()
        if not _SURROGATE_ESCAPE.search(data):
            raise _Malformed(f"text that is not JSON ({error})") from None
    try:
        # orjson refuses escapes of half a surrogate pair, which some services send when they cut
        # a stream inside a character; they are mended piece by piece.
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _Malformed(f"text that is not JSON ({error})") from None


def _first_choice(parsed: dict[str, Any]) -> dict[str, Any] | None:
    choices = parsed.get("choices")
    if not choices:
        return None
    if not isinstance(choices, list):
        raise _Malformed("choices that are no list")
    for choice in choices:
        if not isinstance(choice, dict):
            raise _Malformed("a choice that is no object")
        if not choice.get("index"):
            return choice
    return None


def _text(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    raise _Malformed("content that is no text")


def _reasoning(message: dict[str, Any]) -> str:
    thought = message.get("reasoning_content") or message.get("reasoning")
    return thought if isinstance(thought, str) else ""


def _whole(text: str) -> str:
    """The text with surrogate pairs joined and what is left of halves replaced by U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _name(value: Any) -> str:
    return _whole(value) if isinstance(value, str) else ""


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if isinstance(prompt, int) and isinstance(completion, int):
        return Usage(prompt, completion)
    return None


def _model_failed(reason: str, speaker: Speaker) -> UpstreamFailure:
    return speaker.failure(
        FailureKind.SERVER_ERROR, f"broke off with finish reason {speaker.quote(reason)!r}"
    )
