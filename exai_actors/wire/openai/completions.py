"""What is asked of an OpenAI-compatible service, and its answers that come in one piece.

Protocol facts come from OpenAI's API reference (chat completions) and from what Kimi, Z.AI,
DeepSeek, llama.cpp, vLLM and Ollama send where they differ.
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
)
from exai_actors.wire.openai.errors import NO_SECRET, Redactor, error_event
from exai_actors.wire.openai.fields import (
    FAILED_REASONS,
    Malformed,
    first_choice,
    load,
    model_failed,
    name_of,
    reasoning_of,
    refusal_of,
    text_of,
    usage_of,
    whole,
)

_EVENT_START = re.compile(rb"\s*(?::|(?:data|event|id|retry)\s*:)")


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
    body: bytes, model: str, *, now: float | None = None, redactor: Redactor = NO_SECRET
) -> Completion | UpstreamFailure:
    """A whole answer from a JSON body; ``model`` is taken where the body names none.

    ``now`` is the wall clock, for an error that names an instant.
    """
    try:
        parsed = load(body)
        if not isinstance(parsed, dict):
            raise Malformed("a JSON value that is no object")
        if parsed.get("error"):
            return error_event(parsed["error"], now=now, redactor=redactor)
        choice = first_choice(parsed)
        if choice is None:
            raise Malformed(
                f"JSON without choices: {redactor.redact_excerpt(body.decode(errors='replace'))}"
            )
        message = choice.get("message")
        if not isinstance(message, dict):
            raise Malformed("a choice without a message")
        reason = choice.get("finish_reason")
        if reason in FAILED_REASONS:
            return model_failed(str(reason), redactor)
        return Completion(
            text=whole(text_of(message.get("content")) or refusal_of(message)),
            model=name_of(parsed.get("model")) or model,
            finish_reason=name_of(reason) or "stop",
            usage=usage_of(parsed.get("usage")),
            reasoning=whole(reasoning_of(message)),
        )
    except Malformed as found:
        return UpstreamFailure(FailureKind.MALFORMED, f"answered with {found}")


def parse_models(
    body: bytes, *, redactor: Redactor = NO_SECRET
) -> tuple[str, ...] | UpstreamFailure:
    """The ids in the answer of ``GET /models``, in its order, each once.

    One with half a surrogate pair is left out: nobody could ask for it. A few small servers list
    the ids alone.
    """
    try:
        parsed = load(body)
        if isinstance(parsed, dict) and parsed.get("error"):
            return error_event(parsed["error"], redactor=redactor)
        listed = parsed.get("data") if isinstance(parsed, dict) else parsed
        if not isinstance(listed, list):
            raise Malformed("JSON without a list of models")
        names = (entry.get("id") if isinstance(entry, dict) else entry for entry in listed)
        ids = tuple(dict.fromkeys(name for name in names if name and name == name_of(name)))
        if listed and not ids:
            raise Malformed("a list of models without an id")
        return ids
    except Malformed as found:
        return UpstreamFailure(FailureKind.MALFORMED, f"answered with {found}")


def _message(message: ChatMessage) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.content}
    parts: list[dict[str, Any]] = [{"type": "text", "text": message.content}]
    parts += [{"type": "image_url", "image_url": {"url": url}} for url in message.images]
    return {"role": message.role, "content": parts}
