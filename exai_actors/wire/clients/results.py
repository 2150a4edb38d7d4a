"""The result of a call, which both dialects tell from the same pieces of JSON.

Putting the frame together from pieces, each encoded once, takes half as long as encoding a whole
object, and for a large answer less still.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from exai_actors.wire.clients.answers import Envelope, ToolAnswer
from exai_actors.wire.clients.frames import Dialect, ReplyTo
from exai_actors.wire.json_encoding import to_json

_OP = Dialect.OP


def result(
    reply: ReplyTo,
    answer: ToolAnswer,
    tool: str = "chat",
    compat_text: bool = True,
    envelope: Envelope = "plain",
) -> bytes:
    """The one result of a call. ``compat_text`` adds the outputs joined as ``text``."""
    outputs, facts, continuation = answer.outputs, _facts(answer), answer.continuation_id
    if (
        len(outputs) != 1
        or continuation is None
        or not facts
        or not compat_text
        or envelope != "plain"
    ):
        return _encode_general(reply, answer, facts, tool, compat_text, envelope)
    # Nearly every answer of a model is of this shape, in which no piece is copied twice.
    text, again = to_json(outputs[0]), to_json(continuation)
    if reply.acks:
        return b"".join(
            (
                b'{"op":"call_tool_res"',
                reply.ids,
                b',"ok":true,"outputs":[{"type":"text","text":',
                text,
                b'}],"text":',
                text,
                b',"continuation_id":',
                again,
                b',"metadata":{',
                facts,
                b"}}",
            )
        )
    if reply.dialect is not _OP:
        return b"".join(
            (
                b'{"jsonrpc":"2.0"',
                reply.ids,
                b',"result":{"content":[{"type":"text","text":',
                text,
                b'}],"isError":false,"_meta":{"continuation_id":',
                again,
                b",",
                facts,
                b"}}}",
            )
        )
    return b"".join(
        (
            b'{"op":"call_tool_res"',
            reply.ids,
            b',"ok":true,"outputs":[{"type":"text","text":',
            text,
            b'}],"text":',
            text,
            b',"result":[{"type":"text","text":',
            text,
            b'}],"continuation_id":',
            again,
            b',"metadata":{',
            facts,
            b"}}",
        )
    )


def _encode_general(
    reply: ReplyTo,
    answer: ToolAnswer,
    facts: bytes,
    tool: str,
    compat_text: bool,
    envelope: Envelope,
) -> bytes:
    blocks, text = _blocks(answer, tool, envelope)
    continuation = answer.continuation_id
    if reply.dialect is _OP:
        return b'{"op":"call_tool_res"%b,"ok":true,"outputs":%b%b%b%b%b}' % (
            reply.ids,
            blocks,
            b',"text":' + text if compat_text else b"",
            b"" if reply.acks else b',"result":' + blocks,
            b"" if continuation is None else b',"continuation_id":' + to_json(continuation),
            b',"metadata":{%b}' % facts if facts else b"",
        )
    if continuation is not None:
        known = b'"continuation_id":' + to_json(continuation)
        facts = known + b"," + facts if facts else known
    return b'{"jsonrpc":"2.0"%b,"result":{"content":%b,"isError":false%b}}' % (
        reply.ids,
        blocks,
        b',"_meta":{%b}' % facts if facts else b"",
    )


def _blocks(answer: ToolAnswer, tool: str, envelope: Envelope) -> tuple[bytes, bytes]:
    """The outputs as an array of text blocks, and as one string."""
    texts: Sequence[str] = answer.outputs or ("",)
    if envelope == "ex-ai":
        texts = [_wrapped(text, answer, tool) for text in texts]
    joined = texts[0] if len(texts) == 1 else "\n\n".join(filter(None, texts))
    return to_json([{"type": "text", "text": text} for text in texts]), to_json(joined)


def _wrapped(text: str, answer: ToolAnswer, tool: str) -> str:
    """``text`` as the old ``chat`` gave it: inside the text of a JSON object."""
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
        wrapper["continuation_offer"] = {
            "continuation_id": answer.continuation_id,
            "note": "Send this continuation_id to go on with the conversation.",
        }
    return to_json(wrapper).decode()


def _facts(answer: ToolAnswer) -> bytes:
    """Facts about how the answer came to be, as the members of a JSON object without its braces.

    What is not known is left out; with nothing known it is empty.
    """
    facts, usage = _origin(answer.model, answer.provider, answer.finish_reason), answer.usage
    if usage is None:
        facts = facts[:-1]
    else:
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        facts = b'%b"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % (
            facts,
            prompt,
            completion,
            prompt + completion,
        )
    if answer.reasoning:
        reasoning = b'"reasoning":' + to_json(answer.reasoning)
        return facts + b"," + reasoning if facts else reasoning
    return facts


@lru_cache(maxsize=256)
def _origin(model: str | None, provider: str | None, finish_reason: str | None) -> bytes:
    """Those that are known, with a comma behind each."""
    named = (("model_used", model), ("provider_used", provider), ("finish_reason", finish_reason))
    return b"".join(
        b'"%b":%b,' % (name.encode(), to_json(value)) for name, value in named if value is not None
    )
