"""Chat completions in both directions, for a provider that speaks no HTTP itself."""

from __future__ import annotations

from typing import Any

import msgspec

from exai_actors.core.calls import ChatCall, ChatMessage, Completion, RelayCall
from exai_actors.core.surrogates import tolerant

_decoded = tolerant(msgspec.json.decode)
_STREAM = ("content-type", "text/event-stream")
_JSON = ("content-type", "application/json")


def chat_call(call: RelayCall) -> ChatCall:
    """The texts of a relayed chat; whatever is no text is left out."""
    body = _decoded(call.body)
    messages = body.get("messages")
    found = [
        ChatMessage(str(message.get("role", "user")), _text(message.get("content")))
        for message in (messages if isinstance(messages, list) else ())
        if isinstance(message, dict)
    ]
    return ChatCall(
        call.model, tuple(found) or (ChatMessage("user", ""),), call.stream, None, call.max_tokens
    )


class ChatForm:
    """Writes pieces of text to a relayed call as chat completions. A ``PieceSink``."""

    __slots__ = ("_begun", "_call", "_id", "_is_stream", "_provider")

    def __init__(self, call: RelayCall, number: int, provider: str) -> None:
        self._call = call
        self._provider = ("x-exai-provider", provider)
        self._is_stream = call.stream
        self._id = f"chatcmpl-{number}"
        self._begun = False

    def write(self, text: str, /) -> None:
        if self._is_stream:
            role = {} if self._begun else {"role": "assistant"}
            self._chunk({**role, "content": text}, None)

    def write_reasoning(self, _: str, /) -> bool:
        """The synthetic provider has none."""
        return False

    def finish(self, completion: Completion) -> None:
        """The answer is complete; its last bytes."""
        sink, usage = self._call.sink, completion.usage
        counts = None
        if usage is not None:
            prompt, answer = usage.prompt_tokens, usage.completion_tokens
            counts = {
                "prompt_tokens": prompt,
                "completion_tokens": answer,
                "total_tokens": prompt + answer,
            }
        if self._is_stream:
            self._chunk({}, completion.finish_reason, counts)
            sink.data(b"data: [DONE]\n\n")
        else:
            message = {"role": "assistant", "content": completion.text, "refusal": None}
            choice = {
                "index": 0,
                "message": message,
                "finish_reason": completion.finish_reason,
                "logprobs": None,
            }
            body = self._encode("chat.completion", choice, counts)
            sink.head(200, (_JSON, self._provider), len(body))
            sink.data(body)
        sink.whole()

    def _chunk(
        self, delta: dict[str, str], reason: str | None, counts: dict[str, int] | None = None
    ) -> None:
        if not self._begun:
            self._begun = True
            self._call.sink.head(200, (_STREAM, self._provider), None)
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        body = self._encode("chat.completion.chunk", choice, counts)
        self._call.sink.data(b"data: %b\n\n" % body)

    def _encode(self, kind: str, choice: dict[str, Any], counts: dict[str, int] | None) -> bytes:
        content: dict[str, Any] = {
            "id": self._id,
            "object": kind,
            "created": 0,
            "model": self._call.model,
            "choices": [choice],
        }
        if counts is not None:
            content["usage"] = counts
        return msgspec.json.encode(content)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "\n".join(text for text in texts if isinstance(text, str))
