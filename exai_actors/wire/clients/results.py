"""Encodes the result of a call for both dialects.

A single text, as every answer of a model is, is encoded once, and the frame is assembled from the
pieces. That costs half as much as encoding one object; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from exai_actors.core.calls import ToolResult
from exai_actors.wire.clients.frames import ReplyTo
from exai_actors.wire.json_encoding import to_json

Envelope = Literal["plain", "ex-ai"]
"""How output texts are wrapped: not at all, or in JSON text as the old ``chat`` did."""


def result(
    reply: ReplyTo,
    answer: ToolResult,
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
    if reply.dialect == "json-rpc":
        meta = _facts(answer, answer.continuation_id, answer.dropped_turns)
        return b'{"jsonrpc":"2.0"%b,"result":{"content":%b,"isError":false%b%b}}' % (
            reply.ids,
            blocks,
            b',"_meta":' if meta else b"",
            meta,
        )
    facts, known = _facts(answer), b""
    if answer.continuation_id is not None:
        known = b',"continuation_id":' + to_json(answer.continuation_id)
        if answer.dropped_turns:
            known += b',"dropped_turns":%d' % answer.dropped_turns
    return b"".join(
        (
            b'{"op":"call_tool_res"',
            reply.ids,
            b',"ok":true,"outputs":',
            blocks,
            b',"text":' + joined if compat_text else b"",
            b"" if reply.acks else b',"result":' + blocks,
            known,
            b',"metadata":' if facts else b"",
            facts,
            b"}",
        )
    )


class _Usage(msgspec.Struct, gc=False, omit_defaults=True):
    """The LLM tokens, with their details under the names that OpenAI gives them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int] | None = None
    completion_tokens_details: dict[str, int] | None = None
    cost: float | None = None


class _Facts(msgspec.Struct, gc=False, omit_defaults=True):
    """The known facts about an answer; the conversation only where they are all in one object."""

    continuation_id: str | None = None
    dropped_turns: int = 0
    model_used: str | None = None
    provider_used: str | None = None
    finish_reason: str | None = None
    usage: _Usage | None = None
    reasoning: str = ""
    tool_calls: msgspec.Raw | None = None


def _facts(answer: ToolResult, continuation_id: str | None = None, dropped_turns: int = 0) -> bytes:
    """The known facts as a JSON object; empty if there are none."""
    usage, tokens = answer.usage, None
    if usage is not None:
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        cached, reasoning = usage.cached_tokens, usage.reasoning_tokens
        tokens = _Usage(
            prompt,
            completion,
            usage.total_tokens or prompt + completion,
            None if cached is None else {"cached_tokens": cached},
            None if reasoning is None else {"reasoning_tokens": reasoning},
            usage.cost,
        )
    facts = to_json(
        _Facts(
            continuation_id,
            dropped_turns,
            answer.model,
            answer.provider,
            answer.finish_reason,
            tokens,
            answer.reasoning,
            msgspec.Raw(answer.tool_calls) if answer.tool_calls else None,
        )
    )
    return b"" if facts == b"{}" else facts


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
