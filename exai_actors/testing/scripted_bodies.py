"""Encodes the steps of a scripted reply as an OpenAI-compatible service would."""

from __future__ import annotations

from typing import Any

import orjson

from exai_actors.testing.scripted_replies import Reasoning, Reply
from exai_actors.testing.upstream_log import SeenRequest

Text = str | bytes | Reasoning


def opening_event(seen: SeenRequest) -> bytes:
    """The first event of a stream, with the role and no text."""
    return _event(seen, {"role": "assistant", "content": ""})


def text_event(seen: SeenRequest, step: Text) -> bytes:
    """One step as one event; bytes unchanged."""
    match step:
        case bytes():
            return step
        case str():
            return _event(seen, {"content": step})
        case Reasoning():
            return _event(seen, {"reasoning_content": step.text})


def plain_bytes(step: Text) -> bytes:
    """One step as a part of a body that is not a completion."""
    if isinstance(step, bytes):
        return step
    return (step if isinstance(step, str) else step.text).encode()


def closing_events(seen: SeenRequest, reply: Reply) -> bytes:
    """Finish reason, usage (if requested) and ``[DONE]``, as far as the reply has them."""
    end = b""
    if reply.finish_reason is not None:
        end += _event(seen, {}, reply.finish_reason)
    if reply.usage is not None and seen.includes_usage:
        chunk = {"id": f"chatcmpl-{seen.number}", "choices": [], "usage": _usage(reply.usage)}
        end += b"data: " + orjson.dumps(chunk) + b"\n\n"
    return end + (b"data: [DONE]\n\n" if reply.done else b"")


def completion(seen: SeenRequest, reply: Reply) -> bytes:
    """All text steps as one JSON answer."""
    message = {
        "role": "assistant",
        "content": "".join(step for step in reply.steps if isinstance(step, str)),
    }
    if reasoning := "".join(step.text for step in reply.steps if isinstance(step, Reasoning)):
        message["reasoning_content"] = reasoning
    whole: dict[str, Any] = {
        "id": f"chatcmpl-{seen.number}",
        "object": "chat.completion",
        "created": 0,
        "model": seen.model,
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
    }
    if reply.usage is not None:
        whole["usage"] = _usage(reply.usage)
    return orjson.dumps(whole)


def models_list(names: tuple[str, ...]) -> bytes:
    """The answer of ``/v1/models``."""
    data = [{"id": name, "object": "model", "owned_by": "tests"} for name in names]
    return orjson.dumps({"object": "list", "data": data})


def _event(seen: SeenRequest, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    chunk = {
        "id": f"chatcmpl-{seen.number}",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": seen.model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _usage(usage: tuple[int, int]) -> dict[str, int]:
    prompt, completion = usage
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
