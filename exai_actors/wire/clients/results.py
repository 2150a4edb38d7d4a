"""Encodes the result of a call for both dialects.

A single text, as every answer of a model is, is encoded once, and the frame is assembled from the
pieces. That costs half as much as encoding one object; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from exai_actors.core.calls import ToolResult, Usage
from exai_actors.wire.clients.frames import ReplyTo
from exai_actors.wire.json_encoding import to_json

Envelope = Literal["plain", "ex-ai"]
"""How output texts are wrapped: not at all, or in JSON text as the old ``chat`` did."""


def result(
    reply: ReplyTo,
    answer: ToolResult,
    *,
    tool: str = "chat",
    compat_text: bool = True,
    envelope: Envelope = "plain",
) -> bytes:
    """The result frame of a call. ``compat_text`` adds the joined outputs as ``text``."""
    texts: Sequence[str] = answer.outputs or ("",)
    if envelope == "ex-ai":
        texts = [_ex_ai_envelope(text, answer, tool) for text in texts]
    if len(texts) == 1:
        joined = to_json(texts[0])
        blocks = b'[{"type":"text","text":' + joined + b"}]"
    else:
        joined = to_json("\n\n".join(filter(None, texts)))
        blocks = to_json([{"type": "text", "text": text} for text in texts])
    facts, continuation = _facts(answer), answer.continuation_id
    known = b""
    if continuation is not None:
        known = b',"continuation_id":' + to_json(continuation)
        if answer.dropped_turns:
            known += b',"dropped_turns":%d' % answer.dropped_turns
    if reply.dialect == "json-rpc":
        meta = known + facts
        return b'{"jsonrpc":"2.0"%b,"result":{"content":%b,"isError":false%b}}' % (
            reply.ids,
            blocks,
            b',"_meta":{%b}' % meta[1:] if meta else b"",
        )
    return b'{"op":"call_tool_res"%b,"ok":true,"outputs":%b%b%b%b%b}' % (
        reply.ids,
        blocks,
        b',"text":' + joined if compat_text else b"",
        b"" if reply.acks else b',"result":' + blocks,
        known,
        b',"metadata":{%b}' % facts[1:] if facts else b"",
    )


def _facts(answer: ToolResult) -> bytes:
    """The known facts about the origin of an answer, as members of JSON, each after a comma."""
    facts = _origin(answer.model, answer.provider, answer.finish_reason)
    if answer.usage is not None:
        facts += _usage(answer.usage)
    if answer.reasoning:
        facts += b',"reasoning":' + to_json(answer.reasoning)
    return facts


def _usage(usage: Usage) -> bytes:
    """The member ``usage``, with its details under the names that OpenAI gives them."""
    prompt, completion, details = usage.prompt_tokens, usage.completion_tokens, b""
    if usage.cached_tokens is not None:
        details += b',"prompt_tokens_details":{"cached_tokens":%d}' % usage.cached_tokens
    if usage.reasoning_tokens is not None:
        details += b',"completion_tokens_details":{"reasoning_tokens":%d}' % usage.reasoning_tokens
    if usage.cost is not None:
        details += b',"cost":' + to_json(usage.cost)
    return b',"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d%b}' % (
        prompt,
        completion,
        usage.total_tokens or prompt + completion,
        details,
    )


@lru_cache(maxsize=256)
def _origin(model: str | None, provider: str | None, finish_reason: str | None) -> bytes:
    named = (("model_used", model), ("provider_used", provider), ("finish_reason", finish_reason))
    return b"".join(
        b',"%b":%b' % (name.encode(), to_json(value)) for name, value in named if value is not None
    )


def _ex_ai_envelope(text: str, answer: ToolResult, tool: str) -> str:
    """``text`` as the old ``chat`` gave it: inside a JSON object, as text."""
    facts: dict[str, str] = {"tool_name": tool}
    if answer.model is not None:
        facts["model_used"] = answer.model
    if answer.provider is not None:
        facts["provider_used"] = answer.provider
    wrapper: dict[str, object] = {
        "status": "success" if answer.continuation_id is None else "continuation_available",
        "content": text,
        "content_type": "text",
        "metadata": facts,
    }
    if answer.continuation_id is not None:
        note = "Send this continuation_id to continue the conversation."
        if answer.dropped_turns:
            note += f" Its first turns ({answer.dropped_turns}) are no longer part of it."
        wrapper["continuation_offer"] = {"continuation_id": answer.continuation_id, "note": note}
    return to_json(wrapper).decode()
