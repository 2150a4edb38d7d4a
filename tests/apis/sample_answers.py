"""Whole answers of each family, with what the SDKs of OpenAI and Anthropic read of them."""

from __future__ import annotations

from typing import Any

import orjson

from exai_actors.testing.scripted_replies import Reply, body
from tests.apis.http_client import MODEL, event

USAGE = {"input_tokens": 7, "output_tokens": 9}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": MODEL,
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": USAGE,
}
MESSAGE_EVENTS = (
    event({"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}}),
    event(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    ),
    event(
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "hello"},
        }
    ),
    event({"type": "content_block_stop", "index": 0}),
    event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE}),
    event({"type": "message_stop"}),
)
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": MODEL,
    "output": [
        {
            "type": "message",
            "id": "m",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "hello", "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        **USAGE,
        "total_tokens": 16,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    },
}
VECTORS = {
    "object": "list",
    "model": MODEL,
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 1.5]}],
    "usage": {"prompt_tokens": 2, "total_tokens": 2},
}


def whole(content: dict[str, Any]) -> Reply:
    """The reply that is this JSON."""
    return body(orjson.dumps(content))
