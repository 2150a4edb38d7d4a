"""Requests to an OpenAI-compatible service, and its answers that are not streams.

The format is that of OpenAI's API reference (chat completions), with the variations that Kimi,
Z.AI, DeepSeek, llama.cpp, vLLM and Ollama send.
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
from exai_actors.wire.openai.common_answer import read_common_answer
from exai_actors.wire.openai.error_fields import error_within
from exai_actors.wire.openai.errors import classify_error
from exai_actors.wire.openai.fields import (
    Malformed,
    UsageReader,
    content_text,
    find_choice,
    finish_failure,
    is_failed,
    parse_finish_reason,
    parse_json,
    parse_name,
    reasoning_text,
    refusal_text,
    repair_surrogates,
)
from exai_actors.wire.openai.redaction import NO_SECRET, Redactor
from exai_actors.wire.openai.request_form import USUAL_FORM, RequestForm
from exai_actors.wire.openai.server_sent_events import BOM
from exai_actors.wire.openai.tool_calls import ToolCalls

_EVENT_START = re.compile(rb"\s*(?::|(?:data|event|id|retry)\s*:)")


def encode_request(
    call: ChatCall, form: RequestForm = USUAL_FORM, *, stream: bool | None = None
) -> bytes:
    """The body of ``POST /chat/completions``, in the form that the service accepts.

    ``stream``: ask for a stream, whatever the call says.
    """
    body: dict[str, Any] = {
        "model": call.model,
        "messages": [_encode_message(message) for message in call.messages],
    }
    if call.parameters:
        body = orjson.loads(call.parameters) | body
    if call.stream if stream is None else stream:
        body["stream"] = True
        if form.includes_usage:
            body["stream_options"] = {"include_usage": True}
    if call.temperature is not None:
        body["temperature"] = call.temperature
    if call.max_tokens is not None:
        body[form.max_tokens_name] = call.max_tokens
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        # A lone surrogate is legal in a Python string but not in UTF-8.
        return json.dumps(body).encode("ascii")


def is_event_stream(content_type: str, beginning: bytes) -> bool:
    """Whether a response's body is an event stream, whatever was requested.

    The body decides: services send JSON errors with the type of a stream, and streams with none.
    """
    beginning = beginning.removeprefix(BOM)
    first = beginning.lstrip()[:1]
    if first in (b"{", b"[", b"<"):
        return False
    return content_type.startswith("text/event-stream") or bool(_EVENT_START.match(beginning))


def parse_completion(
    body: bytes, model: str, *, now: float | None = None, redactor: Redactor = NO_SECRET
) -> Completion | UpstreamFailure:
    """The answer in a JSON body; ``model`` is the default if the body names none.

    ``now`` is the wall clock in seconds since 1970, for an error that names an instant.
    """
    return read_common_answer(body, model) or parse_any_completion(
        body, model, now=now, redactor=redactor
    )


def parse_any_completion(
    body: bytes, model: str, *, now: float | None = None, redactor: Redactor = NO_SECRET
) -> Completion | UpstreamFailure:
    """The general path of ``parse_completion``."""
    try:
        parsed = parse_json(body)
        if error := error_within(parsed):
            return classify_error(error, now=now, model=model, redactor=redactor)
        if not isinstance(parsed, dict):
            raise Malformed("JSON that is not an object")
        choice = find_choice(parsed, None)
        if choice is None:
            raise Malformed(
                f"JSON without choices: {redactor.redact_excerpt(body.decode(errors='replace'))}"
            )
        message = choice.get("message")
        if message is None and isinstance(choice.get("text"), str):
            # The form of the older text completions.
            message = {"content": choice["text"]}
        if not isinstance(message, dict):
            raise Malformed("a choice without a message")
        reason = parse_finish_reason(choice.get("finish_reason"))
        if is_failed(reason):
            return finish_failure(reason, redactor)
        text = repair_surrogates(content_text(message.get("content")) or refusal_text(message))
        reasoning = repair_surrogates(reasoning_text(message))
        calls = ToolCalls()
        calls.take_whole(message.get("tool_calls"))
        counts = UsageReader()
        counts.read(parsed.get("usage"))
        counts.read(choice.get("usage"), replace=False)
        return Completion(
            text=text,
            model=parse_name(parsed.get("model")) or model,
            finish_reason=reason or "stop",
            usage=counts.usage(has_text=bool(text or reasoning or calls)),
            reasoning=reasoning,
            tool_calls=calls.encoded(),
        )
    except Malformed as error:
        return UpstreamFailure(FailureKind.MALFORMED, f"answered with {error}")


def parse_models(
    body: bytes, *, redactor: Redactor = NO_SECRET
) -> tuple[str, ...] | UpstreamFailure:
    """The ids in the answer of ``GET /models``, in its order, without repetitions.

    A few small servers list bare ids. An id with a lone surrogate is left out, because no client
    could send it.
    """
    try:
        parsed = parse_json(body)
        if isinstance(parsed, dict) and parsed.get("error"):
            return classify_error(parsed["error"], redactor=redactor)
        models = parsed
        if isinstance(parsed, dict):
            # Ollama without models sends null; some servers have a list of names.
            models = parsed.get("data") or parsed.get("models")
            models = [] if models is None and "data" in parsed else models
        if not isinstance(models, list):
            raise Malformed("JSON without a list of models")
        ids = _ids_of(models, "id") or _ids_of(models, "name")
        if models and not ids:
            raise Malformed("a list of models without an id")
        return ids
    except Malformed as error:
        return UpstreamFailure(FailureKind.MALFORMED, f"answered with {error}")


def _ids_of(models: list[Any], member: str) -> tuple[str, ...]:
    names = (model.get(member) if isinstance(model, dict) else model for model in models)
    return tuple(dict.fromkeys(name for name in names if name and name == parse_name(name)))


def _encode_message(message: ChatMessage) -> dict[str, Any]:
    if not (message.images or message.more):
        return {"role": message.role, "content": message.content}
    content: Any = message.content
    if message.images:
        content = [{"type": "text", "text": message.content}]
        content += [{"type": "image_url", "image_url": {"url": url}} for url in message.images]
    elif not content and message.role == "assistant":
        # It has tool calls instead.
        content = None
    more: dict[str, Any] = orjson.loads(message.more or b"{}")
    return {"role": message.role, "content": content, **more}
