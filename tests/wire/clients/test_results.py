"""A result assembled from pieces equals the same result encoded as one object."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.calls import ToolResult, Usage
from exai_actors.wire.clients import encode
from exai_actors.wire.clients.frames import ReplyTo
from tests.wire.clients.wire_client import parsed

texts = st.text(max_size=6)
maybe = st.none() | texts
counts = st.integers(0, 2**53)
answers = st.builds(
    ToolResult,
    st.lists(texts, min_size=1, max_size=1).map(tuple) | st.lists(texts, max_size=3).map(tuple),
    maybe,
    maybe,
    maybe,
    maybe,
    st.none()
    | st.builds(
        Usage,
        counts,
        counts,
        st.none() | st.integers(1, 2**53),
        st.none() | counts,
        st.none() | counts,
        st.none() | st.floats(0, 10**9),
    ),
    texts,
)


def blocks(answer: ToolResult) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in answer.outputs or ("",)]


def facts(answer: ToolResult) -> dict[str, Any]:
    usage = answer.usage
    known = {
        "model_used": answer.model,
        "provider_used": answer.provider,
        "finish_reason": answer.finish_reason,
        "usage": None
        if usage is None
        else without_none(
            {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.total_tokens or usage.prompt_tokens + usage.completion_tokens,
                "prompt_tokens_details": None
                if usage.cached_tokens is None
                else {"cached_tokens": usage.cached_tokens},
                "completion_tokens_details": None
                if usage.reasoning_tokens is None
                else {"reasoning_tokens": usage.reasoning_tokens},
                "cost": usage.cost,
            }
        ),
        "reasoning": answer.reasoning or None,
    }
    return without_none(known)


def without_none(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


@given(answers, st.booleans(), st.booleans())
def test_an_op_result_equals_the_encoded_object(answer: ToolResult, acks: bool, text: bool) -> None:
    reply = ReplyTo("op", "call_tool_res", b',"request_id":"r"', acks)
    assert parsed(encode.result(reply, answer, compat_text=text)) == without_none(
        {
            "op": "call_tool_res",
            "request_id": "r",
            "ok": True,
            "outputs": blocks(answer),
            "text": "\n\n".join(filter(None, answer.outputs)) if text else None,
            "result": None if acks else blocks(answer),
            "continuation_id": answer.continuation_id,
            "metadata": facts(answer) or None,
        }
    )


@given(answers)
def test_a_json_rpc_result_equals_the_encoded_object(answer: ToolResult) -> None:
    reply = ReplyTo("json-rpc", "tools/call", b',"id":1')
    meta = without_none({"continuation_id": answer.continuation_id}) | facts(answer)
    result = {"content": blocks(answer), "isError": False, "_meta": meta or None}
    assert parsed(encode.result(reply, answer)) == {
        "jsonrpc": "2.0",
        "id": 1,
        "result": without_none(result),
    }
