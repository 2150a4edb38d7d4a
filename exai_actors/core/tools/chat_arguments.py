"""The arguments of ``chat`` that go to the provider as they are, and those that cannot.

``FORWARDED`` is the one place that maps arguments to members of a provider's request. What a model
makes of them is between client and service: one that refuses a member answers with an error.
"""

from __future__ import annotations

from typing import Any

import msgspec

from exai_actors.core.calls import ChatMessage
from exai_actors.core.tools.fields import (
    Field,
    FieldError,
    boolean,
    integer,
    json_list,
    json_object,
    json_object_or_text,
    number,
    text,
    text_or_texts,
)

IMAGE_BEGINNINGS = ("https://", "http://", "data:image/")
_MAX_INTEGER = 2**53
_MAX_MESSAGES = 10_000
_ROLES = ("system", "developer", "user", "assistant", "tool")
_MORE_OF_MESSAGE: dict[str, type] = {
    "tool_calls": list,
    "tool_call_id": str,
    "name": str,
    "reasoning_content": str,
}
"""Members that a message may have beside role and content; they are passed on."""
_encode = msgspec.json.Encoder(order="deterministic").encode

NOT_EXTRA = frozenset(
    ("model", "messages", "prompt", "stream", "stream_options", "n", "best_of", "functions")
)
"""Members that ``extra_body`` cannot have: the broker makes them, or needs one answer."""

FORWARDED: dict[str, Field] = {
    "top_p": number(0, 1, "Nucleus sampling: the share of the most probable tokens."),
    "top_k": integer(0, _MAX_INTEGER, "Sample from this many of the most probable tokens."),
    "min_p": number(0, 1, "Least probability of a token, relative to the most probable one."),
    "stop": text_or_texts(100, "Text, or a list of texts, before which the answer ends."),
    "seed": integer(-_MAX_INTEGER, _MAX_INTEGER, "Seed for sampling."),
    "presence_penalty": number(-2, 2, "Penalty on tokens that have appeared."),
    "frequency_penalty": number(-2, 2, "Penalty on tokens by how often they have appeared."),
    "logit_bias": json_object("Bias by token."),
    "response_format": json_object("The form of the answer, such as a JSON Schema."),
    "reasoning_effort": text(1, 100, "How much a thinking model thinks, such as low."),
    "thinking": json_object('Switches thinking, in the service\'s form: {"type": "disabled"}.'),
    "enable_thinking": boolean("Switches thinking, at services that name it so."),
    "user": text(1, 1000, "An end user's name, for the service."),
    "tools": json_list("The tools that the model may call, in the form of chat completions."),
    "tool_choice": json_object_or_text("Which of them it must call, such as auto or required."),
    "parallel_tool_calls": boolean("Whether it may call several at once."),
}
"""Arguments that become members of the request under the same name."""

_ONE_ANSWER = "the broker returns one answer with its text"
_OLD_TOOLS = "use tools instead"
REFUSED: dict[str, str] = {
    "functions": _OLD_TOOLS,
    "function_call": _OLD_TOOLS,
    "n": _ONE_ANSWER,
    "best_of": _ONE_ANSWER,
    "logprobs": _ONE_ANSWER,
    "top_logprobs": _ONE_ANSWER,
    "modalities": _ONE_ANSWER,
    "audio": _ONE_ANSWER,
    "stream_options": "the broker asks for token counts itself",
}
"""Members of chat completion requests that would change the answer, and why they cannot be used."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "functions": ([],),
    "function_call": ("auto", "none"),
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "modalities": (["text"],),
    "stream_options": ({}, {"include_usage": True}, {"include_usage": False}),
    "store": (False,),
    "repetition_penalty": (1,),
}
"""Values that leave the answer as it is: SDKs write them out. They are accepted without effect."""

SUGGESTIONS: dict[str, str] = {
    "model_name": "model",
    "engine": "model",
    "system_prompt": "system",
    "instructions": "system",
    "message": "prompt",
    "question": "prompt",
    "query": "prompt",
    "input": "prompt",
    "text": "prompt",
    "content": "prompt",
    "history": "messages",
    "conversation_id": "continuation_id",
    "thread_id": "continuation_id",
    "session_id": "continuation_id",
    "max_completion_tokens": "max_tokens",
    "max_new_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "num_predict": "max_tokens",
    "timeout_s": "timeout",
    "image": "images",
    "image_url": "images",
    "stop_sequences": "stop",
    "effort": "reasoning_effort",
}
"""The names of arguments in other programs; similar spellings are found without this."""


class MoreArguments:
    """The arguments that few calls have. ``parameters`` is JSON: the members to forward, sorted.

    Not a Struct, so that no decoder of frames makes one from a client's ``more``.
    """

    __slots__ = ("messages", "parameters", "system")

    def __init__(
        self, system: str = "", messages: tuple[ChatMessage, ...] = (), parameters: bytes = b""
    ) -> None:
        self.system = system
        self.messages = messages
        self.parameters = parameters

    def __len__(self) -> int:
        """Its size in characters."""
        held = len(self.system) + len(self.parameters)
        return held + sum(
            len(each.content) + len(each.more) + sum(map(len, each.images))
            for each in self.messages
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MoreArguments) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"MoreArguments{self._key()!r}"

    def _key(self) -> tuple[str, tuple[ChatMessage, ...], bytes]:
        return self.system, self.messages, self.parameters


def messages(description: str) -> Field:
    """Messages with a role and a text, or a text followed by images."""
    image = {"type": "string", "pattern": f"^({'|'.join(IMAGE_BEGINNINGS)})"}
    parts = {
        "type": "array",
        "prefixItems": [_part("text", {"type": "string"})],
        "items": _part(
            "image_url",
            {
                "type": "object",
                "properties": {"url": image},
                "required": ["url"],
                "additionalProperties": False,
            },
        ),
        "minItems": 1,
        "maxItems": 101,
    }
    schema = {
        "type": "array",
        "description": description,
        "minItems": 1,
        "maxItems": _MAX_MESSAGES,
        "items": {
            "type": "object",
            "properties": {
                "role": {"type": "string", "enum": list(_ROLES)},
                "content": {"anyOf": [{"type": "string"}, parts, {"type": "null"}]},
                "tool_calls": {"type": "array", "items": {"type": "object"}},
                "tool_call_id": {"type": "string"},
                "name": {"type": "string"},
                "reasoning_content": {"type": "string"},
            },
            "required": ["role"],
            "anyOf": [
                {
                    "required": ["content"],
                    "properties": {"content": {"type": ["string", "array"]}},
                },
                {"required": ["tool_calls"], "properties": {"tool_calls": {"minItems": 1}}},
            ],
            "additionalProperties": False,
        },
    }

    def check(name: str, value: Any) -> tuple[ChatMessage, ...]:
        if not isinstance(value, list):
            raise FieldError(name, f"must be list, got {type(value).__name__}")
        if not 1 <= len(value) <= _MAX_MESSAGES:
            raise FieldError(name, f"must have 1 to {_MAX_MESSAGES} entries, got {len(value)}")
        return tuple(_message(f"{name}[{index}]", each) for index, each in enumerate(value))

    return Field(schema, check)


def _part(kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"type": {"const": kind}, kind: value},
        "required": ["type", kind],
        "additionalProperties": False,
    }


def _message(where: str, value: Any) -> ChatMessage:
    if not isinstance(value, dict):
        raise FieldError(where, f"must be an object, got {type(value).__name__}")
    role, content = value.get("role"), value.get("content")
    if role not in _ROLES:
        raise FieldError(f"{where}.role", f"must be one of {', '.join(_ROLES)}")
    _refuse_others(where, value, ("role", "content", *_MORE_OF_MESSAGE))
    more = {name: value[name] for name in _MORE_OF_MESSAGE if value.get(name) is not None}
    for name, given in more.items():
        kind = _MORE_OF_MESSAGE[name]
        if not isinstance(given, kind):
            raise FieldError(f"{where}.{name}", f"must be {kind.__name__}")
    encoded = _encode(more) if more else b""
    if content is None and more.get("tool_calls"):
        content = ""
    if isinstance(content, str):
        return ChatMessage(role, content, (), encoded)
    where = f"{where}.content"
    if not isinstance(content, list) or not 1 <= len(content) <= 101:
        raise FieldError(where, "must be a string, or a list of a text and up to 100 images")
    first, *images = content
    if not isinstance(first, dict) or not isinstance(first.get("text"), str):
        raise FieldError(where, 'must begin with the text: {"type": "text", "text": ...}')
    if first.get("type") != "text":
        raise FieldError(f"{where}[0].type", "must be text")
    _refuse_others(f"{where}[0]", first, ("type", "text"))
    urls = tuple(_image(f"{where}[{index}]", each) for index, each in enumerate(images, 1))
    return ChatMessage(role, first["text"], urls, encoded)


def _image(where: str, part: Any) -> str:
    holder = part.get("image_url") if isinstance(part, dict) else None
    url = holder.get("url") if isinstance(holder, dict) else None
    if holder is None or not isinstance(url, str) or part.get("type") != "image_url":
        raise FieldError(
            where, 'must be an image: {"type": "image_url", "image_url": {"url": ...}}'
        )
    if not url.startswith(IMAGE_BEGINNINGS):
        raise FieldError(where, f"must have a URL that begins with {' or '.join(IMAGE_BEGINNINGS)}")
    _refuse_others(where, part, ("type", "image_url"))
    _refuse_others(f"{where}.image_url", holder, ("url",))
    return url


def _refuse_others(where: str, value: dict[str, Any], known: tuple[str, ...]) -> None:
    for name in value:
        if name not in known:
            raise FieldError(f"{where}.{name}"[:200], "is not supported")
