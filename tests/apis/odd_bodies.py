"""Bodies in the shapes that coding agents and SDKs send and get, spelled in odd but valid ways.

Whatever reads a body and writes it again changes one of: the order and repetition of members, white
space, escapes, half a pair of surrogates, the digits of a number.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

MODEL_HERE = object()
"""Stands for the value of the model."""

_SPACES = b"", b"", b"", b" ", b"\n", b"\r\n\t", b"  "
_NUMBERS = b"1.0", b"1E+2", b"-0", b"-0.0e-0", b"123456789012345678901234567890", b"0.10", b"1e-400"
_TEXTS = (
    "hello",
    'a "model":"other" in a text, with \\ and \n',
    "gr\u00fc\u00dfe \u8bf7 \U0001f600",
    "data: [DONE]\n\nevent: message_stop",
    "\u2028\u2029\u0000\u007f",
    "",
)

Part = bytes | object


class Spelling:
    """Writes JSON in one of many ways; ``plain``: only its longer texts have odd escapes."""

    def __init__(self, chance: Random, *, plain: bool = False) -> None:
        self._chance = chance
        self._plain = plain

    def value(self, value: Any) -> list[Part]:
        """The parts of a value; MODEL_HERE stays as it is."""
        match value:
            case dict():
                members = [(self.text(name), self.value(each)) for name, each in value.items()]
                return self._listed(b"{", members, b"}")
            case list():
                return self._listed(b"[", [(b"", self.value(each)) for each in value], b"]")
            case str():
                return [self.text(value)]
            case bytes():
                return [value]
            case _ if value is MODEL_HERE:
                return [value]
            case _:
                return [json.dumps(value).encode()]

    def text(self, text: str) -> bytes:
        """A string, some of whose characters are escaped without need."""
        if self._plain:
            return json.dumps(text, ensure_ascii=False).encode()
        return self._escaped(text)

    def number(self) -> bytes:
        """A number that is another one, or none, once it was read as a float."""
        return self._chance.choice(_NUMBERS)

    def words(self, size: int = 0) -> bytes:
        """A text of at least this many bytes."""
        text = self._escaped(self._chance.choice(_TEXTS))[1:-1] or b"x"
        return b'"%b"' % (text * (1 + size // len(text)))

    def _escaped(self, text: str) -> bytes:
        return b'"%b"' % b"".join(map(self._character, text))

    def _character(self, character: str) -> bytes:
        plain = json.dumps(character, ensure_ascii=False)[1:-1].encode()
        if self._chance.random() < 0.05:
            return (
                json.dumps(character)[1:-1].encode()
                if len(plain) > 1
                else (b"\\u%04X" % ord(character))
            )
        return plain

    def _space(self) -> bytes:
        return self._chance.choice(_SPACES)

    def _listed(
        self, start: bytes, members: list[tuple[bytes, list[Part]]], end: bytes
    ) -> list[Part]:
        parts: list[Part] = [start + self._space()]
        for at, (name, value) in enumerate(members):
            comma = b"," + self._space() if at else b""
            parts.append(comma + (name + self._space() + b":" + self._space() if name else b""))
            parts += value
            parts.append(self._space())
        return [*parts, end]


def request(family: str, chance: Random, *, size: int = 0, stream: bool = False) -> list[Part]:
    """The parts of a request of a family, with a text of this size."""
    spelling = Spelling(chance)
    half = b'"\\ud83d"'
    members: dict[str, Any] = {
        "model": MODEL_HERE,
        "unknown": [spelling.number(), None, True, {"model": "inside", "": half}],
        "temperature": spelling.number(),
        "stream": stream,
        **_MEMBERS[family](spelling, size),
    }
    names = list(members)
    chance.shuffle(names)
    return [spelling._space(), *spelling.value({name: members[name] for name in names})]


def _messages(spelling: Spelling, size: int) -> dict[str, Any]:
    """As Claude Code sends them."""
    cached = {"cache_control": {"type": "ephemeral"}}
    text = {"type": "text", "text": spelling.words(size), **cached}
    use = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}}
    thought = {"type": "thinking", "thinking": spelling.words(), "signature": "Ab+/=="}
    return {
        "max_tokens": 32000,
        "system": [text, {"type": "text", "text": spelling.words()}],
        "messages": [
            {"role": "user", "content": [text]},
            {"role": "system", "content": spelling.words()},
            {"role": "assistant", "content": [thought, use]},
        ],
        "tools": [{"name": "Bash", "input_schema": {"type": "object", "properties": {}}}],
        "metadata": {"user_id": json.dumps({"device_id": "d", "session_id": "s"})},
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    }


def _chat(spelling: Spelling, size: int) -> dict[str, Any]:
    """As opencode and the SDKs send them."""
    call = {"id": "c", "type": "function", "function": {"name": "ls", "arguments": '{"a": 1}'}}
    return {
        "messages": [
            {"role": "system", "content": spelling.words(size)},
            {"role": "user", "content": [{"type": "text", "text": spelling.words()}]},
            {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": ""},
            {"role": "tool", "tool_call_id": "c", "content": spelling.words()},
        ],
        "tools": [{"type": "function", "function": {"name": "ls", "parameters": {}}}],
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 32000,
    }


def _responses(spelling: Spelling, size: int) -> dict[str, Any]:
    """As Codex sends them."""
    text = {"type": "input_text", "text": spelling.words(size)}
    return {
        "instructions": spelling.words(),
        "input": [
            {"type": "message", "role": "developer", "content": [text]},
            {"type": "reasoning", "summary": [], "encrypted_content": "gAAA=="},
            {"type": "function_call_output", "call_id": "c", "output": spelling.words()},
        ],
        "tools": [{"type": "custom", "name": "apply_patch", "format": {"type": "grammar"}}],
        "reasoning": {"effort": "medium", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0199-key",
        "store": False,
    }


def _embeddings(spelling: Spelling, size: int) -> dict[str, Any]:
    return {"input": [spelling.words(size), [1, 2, 3]], "dimensions": 3}


_MEMBERS = {
    "messages": _messages,
    "chat": _chat,
    "responses": _responses,
    "embeddings": _embeddings,
}


def answer(family: str, chance: Random, *, size: int = 0) -> bytes:
    """A whole answer in one piece."""
    spelling = Spelling(chance)
    usage = {"input_tokens": 3, "output_tokens": 5, "prompt_tokens": 3, "x": spelling.number()}
    text = spelling.words(size)
    by_family: dict[str, dict[str, Any]] = {
        "messages": {"type": "message", "content": [{"type": "text", "text": text}]},
        "chat": {
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"content": text},
                    "logprobs": None,
                }
            ]
        },
        "responses": {"object": "response", "status": "completed", "output": [{"text": text}]},
        "embeddings": {"object": "list", "data": [{"embedding": [spelling.number()]}], "n": text},
    }
    value = {
        "id": "1",
        **by_family[family],
        "usage": usage,
        "unknown": [b'"\\udc00"', spelling.number()],
    }
    return joined(spelling.value(value))


def events(family: str, chance: Random, *, size: int = 0) -> bytes:
    """A whole answer as a stream, with comments, other fields and both ends of lines."""
    # No service escapes the names of events and members.
    spelling = Spelling(chance, plain=True)
    line_end = chance.choice((b"\n", b"\r\n"))
    texts: list[Any] = [spelling.words() for _ in range(5)]
    texts.append(spelling.words(size))
    blocks: list[tuple[str, Any]] = []
    match family:
        case "messages":
            begun = {"id": "m", "usage": {"input_tokens": 3, "output_tokens": 0}}
            blocks.append(("message_start", {"type": "message_start", "message": begun}))
            for text in texts:
                delta = {"type": "content_block_delta", "index": 0, "delta": {"text": text}}
                blocks.append(("content_block_delta", delta))
            ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
            blocks.append(("message_delta", {**ended, "usage": {"output_tokens": 5}}))
            blocks.append(("message_stop", {"type": "message_stop"}))
        case "responses":
            blocks.append(("response.created", {"type": "response.created"}))
            for text in texts:
                delta = {"type": "response.output_text.delta", "delta": text}
                blocks.append(("response.output_text.delta", delta))
            usage = {"input_tokens": 3, "output_tokens": 5}
            done = {"type": "response.completed", "response": {"usage": usage}}
            blocks.append(("response.completed", done))
        case _:
            for text in texts:
                choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
                blocks.append(("", {"choices": [choice]}))
            last = {"index": 0, "delta": {}, "finish_reason": "stop"}
            blocks.append(("", {"choices": [last], "usage": {"prompt_tokens": 3}}))
    written = []
    for name, value in blocks:
        if chance.random() < 0.3:
            written.append(chance.choice((b": a comment", b"retry: 10", b"id: 7")))
            written.append(b"")
        if name:
            written.append(b"event: " + name.encode())
        # An event is one line here, so that its JSON has no white space with ends of lines.
        data = (
            joined(spelling.value({**value, "half a character": b'"\\udc00"'}))
            .replace(b"\r", b" ")
            .replace(b"\n", b" ")
        )
        written += [b"data:" + chance.choice((b"", b" ")) + data, b""]
    if family == "chat":
        written += [b"data: [DONE]", b""]
    return b"".join(line + line_end for line in written)


def joined(parts: list[Part], model: bytes = b"") -> bytes:
    """The bytes, with this value of the model."""
    return b"".join(part if isinstance(part, bytes) else model for part in parts)


def cut(data: bytes, chance: Random, longest: int) -> list[bytes]:
    """The data in pieces of odd sizes, of which none is longer."""
    pieces, at = [], 0
    while at < len(data):
        size = chance.randint(1, longest)
        pieces.append(data[at : at + size])
        at += size
    return pieces
