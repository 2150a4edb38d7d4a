"""Chats for providers without HTTP of their own: read from bodies, and answered in their form."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from exai_actors.core.calls import ChatMessage, Completion, RelayCall, Usage
from exai_actors.wire.http_api.chat_form import ChatForm, chat_call
from exai_actors.wire.http_api.taps import Tap


class Sink:
    def __init__(self) -> None:
        self.status = 0
        self.fields: dict[str, str] = {}
        self.body = b""
        self.is_whole = False

    def head(self, status: int, fields: tuple[tuple[str, str], ...], *_: object) -> None:
        self.status, self.fields = status, dict(fields)

    def data(self, data: bytes, /) -> None:
        self.body += data

    def whole(self) -> None:
        self.is_whole = True


def call(body: Any, *, stream: bool = False) -> tuple[RelayCall, Sink]:
    sink = Sink()
    encoded = orjson.dumps(body)
    relayed = RelayCall("chat", "chat/completions", encoded, (), "m", stream, 1.0, sink, 5)
    return relayed, sink


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([{"role": "user", "content": "a"}], (ChatMessage("user", "a"),)),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"text": "b"}, 7, {}]}],
            (ChatMessage("user", "a\nb"),),
        ),
        ([{"content": None}, "odd"], (ChatMessage("user", ""),)),
        ("odd", (ChatMessage("user", ""),)),
    ],
)
def test_the_texts_of_a_chat(messages: Any, expected: tuple[ChatMessage, ...]) -> None:
    found = chat_call(call({"messages": messages})[0])
    assert (found.model, found.messages, found.max_tokens) == ("m", expected, 5)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("usage", [None, Usage(3, 4)])
def test_an_answer_that_a_tap_can_read(stream: bool, usage: Usage | None) -> None:
    relayed, sink = call({}, stream=stream)
    form = ChatForm(relayed, 1, "slow")
    form.write("hel")
    form.write("lo")
    form.finish(Completion("hello", "m", "stop", usage))
    tap = Tap("chat", needs_done=stream)
    if stream:
        tap.stream(sink.body)
        tap.end_of_stream()
        assert sink.body.count(b'"content":"') == 2
        assert sink.body.count(b'"role":"assistant"') == 1
    else:
        assert tap.body(sink.body)
        assert orjson.loads(sink.body)["choices"][0]["message"]["content"] == "hello"
    assert sink.fields["x-exai-provider"] == "slow"
    assert (sink.status, sink.is_whole, tap.is_whole) == (200, True, True)
    assert (tap.finish_reason, tap.usage) == ("stop", usage)
