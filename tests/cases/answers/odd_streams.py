"""Generates streams with one or two oddities of real services, and the answer that each means."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

WORDS = (
    "Hello",
    " you",
    "\n",
    " 42",
    " zażółć",
    " 🦊",
    ' "so"',
    " {x}",
    "\u2028",
    " data: y",
    "ha",
    "ha",
)


@dataclass
class Stream:
    """A stream in the making; ``intended`` is its answer, None if it means a failure."""

    texts: list[str]
    events: list[bytes]
    finish: bytes
    usage: list[bytes]
    done: bytes = b"data: [DONE]\n\n"
    intended: str | None = ""
    kinds: list[str] = field(default_factory=list)
    line_end: bytes = b"\n"
    head: bytes = b""

    def encoded(self) -> bytes:
        raw = b"".join([*self.events, self.finish, *self.usage, self.done])
        return self.head + raw.replace(b"\n", self.line_end)


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(delta: Any, finish: Any = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    base = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**base, "choices": [choice], **more}


def say(text: Any) -> bytes:
    return event(chunk({"content": text}))


def usage(**counts: Any) -> bytes:
    return event({**chunk({}), "choices": [], "usage": counts})


Oddity = Callable[[Stream, Random], None]


def inserted(*options: bytes) -> Oddity:
    """One of these events anywhere before the finish reason."""

    def odd(stream: Stream, random: Random) -> None:
        stream.events.insert(random.randint(0, len(stream.events)), random.choice(options))

    return odd


def failing(*options: bytes) -> Oddity:
    """The same, of which each means a failure."""

    def odd(stream: Stream, random: Random) -> None:
        inserted(*options)(stream, random)
        stream.intended = None

    return odd


def with_members(**members: Any) -> Oddity:
    """A part of a stream is replaced."""

    def odd(stream: Stream, random: Random) -> None:
        for name, value in members.items():
            setattr(stream, name, value)

    return odd


def rewritten(rewrite: Callable[[str], bytes]) -> Oddity:
    """One of the chunks of text is written in another form."""

    def odd(stream: Stream, random: Random) -> None:
        at = random.choice(
            [n for n, each in enumerate(stream.events) if each in map(say, stream.texts)]
        )
        text = next(each for each in stream.texts if say(each) == stream.events[at])
        stream.events[at] = rewrite(text)

    return odd


def whole_message(delta: dict[str, Any]) -> Oddity:
    def odd(stream: Stream, random: Random) -> None:
        if random.random() < 0.3:
            del stream.events[-1]
        choice = {
            "index": 0,
            "message": {"content": "".join(stream.texts)},
            "finish_reason": "stop",
        }
        stream.finish = event({**chunk({}), "choices": [{**choice, **delta}]})

    return odd


def one_newline(stream: Stream, random: Random) -> None:
    stream.events = [each[:-1] for each in stream.events]


def no_end(stream: Stream, random: Random) -> None:
    stream.finish, stream.usage, stream.done, stream.intended = b"", [], b"", None


def unterminated(stream: Stream, random: Random) -> None:
    stream.usage, stream.done, stream.finish = [], b"", stream.finish.rstrip()


def index_1(stream: Stream, random: Random) -> None:
    stream.events = [each.replace(b'"index": 0', b'"index": 1') for each in stream.events]
    stream.finish = stream.finish.replace(b'"index": 0', b'"index": 1')


def other_choice(stream: Stream, random: Random) -> None:
    second = say("no").replace(b'"index": 0', b'"index": 1')
    stream.events.insert(random.randint(1, len(stream.events)), second)


def finish_in_each(stream: Stream, random: Random) -> None:
    stream.events = [
        each.replace(b'"finish_reason": null', b'"finish_reason": "stop"') for each in stream.events
    ]


def no_error_in_each(stream: Stream, random: Random) -> None:
    nothing = b'"error": {"code": null, "message": ""}, "choices": '
    stream.events = [each.replace(b'"choices": ', nothing) for each in stream.events]


def half_a_chunk(stream: Stream, random: Random) -> None:
    rewritten(lambda text: say(text)[:60] + b"\n\n")(stream, random)
    stream.intended = None


def lines(text: str) -> bytes:
    pretty = json.dumps(chunk({"content": text}), indent=1).encode()
    return b"".join(b"data: " + line + b"\n" for line in pretty.splitlines()) + b"\n"


def typed(name: str, data: str) -> bytes:
    return f"event: {name}\ndata: {data}\n\n".encode()


OOM = {"object": "error", "message": "CUDA out of memory", "code": 500}

ODDITIES: dict[str, Oddity] = {
    "comment": inserted(b": OPENROUTER PROCESSING\n\n", b":\n"),
    "null": inserted(b"data: null\n\n", b"data:null\n\n"),
    "scalar": inserted(b"data: 3\n\n", b'data: "ping"\n\n', b"data: true\n\n", b"data: []\n\n"),
    "plain_words": inserted(b"data: keepalive\n\n", b"data: 2025-02-20 08:40:33\n\n"),
    "typed_words": inserted(typed("ping", "2025-02-20 08:40:33"), typed("status", "searching: 3")),
    "typed_object": inserted(typed("ping", '{"type": "ping"}'), typed("citation", '{"url": "x"}')),
    "type_without_data": inserted(b"event: ping\n\n"),
    "data_without_value": inserted(b"data:\n\n", b"data\n\n"),
    "unknown_object": inserted(event({"type": "status", "state": "thinking"}), event({})),
    "id_and_retry": inserted(b"id: 7\nretry: 100\n\n"),
    "usage_in_the_middle": inserted(usage(prompt_tokens=3, completion_tokens=1)),
    "error_member": failing(
        event({"error": {"message": "boom", "code": 500}}), event({"error": "boom"})
    ),
    "error_number": failing(event({"error": 500})),
    "error_object": failing(event(OOM), event({"object": "error", "message": "no"})),
    "error_detail": failing(event({"detail": "worker died"}), event({"detail": [{"msg": "x"}]})),
    "error_code": failing(
        event({"code": 500, "msg": "404"}), event({"code": "1302", "message": "x"})
    ),
    "error_list": failing(event([{"error": {"code": 503, "message": "boom"}}])),
    "error_in_choice": failing(
        event({**chunk({}), "choices": [{"index": 0, "delta": {}, "error": {"message": "x"}}]})
    ),
    "error_type_text": failing(typed("error", "boom")),
    "error_type_object": failing(typed("error", '{"message": "boom"}')),
    "error_field": failing(b'error: {"message": "boom"}\n\n'),
    "error_bare": failing(b'{"error": {"message": "boom"}}\n\n'),
    "error_pretty": failing(b'{\n  "error": {\n    "message": "boom"\n  }\n}\n\n'),
    "whole_message": whole_message({}),
    "whole_message_null_delta": whole_message({"delta": None}),
    "whole_message_empty_delta": whole_message({"delta": {}}),
    "one_newline": one_newline,
    "half_a_chunk": half_a_chunk,
    "two_in_a_line": failing(event(chunk({}))[:-2] + json.dumps(chunk({})).encode() + b"\n\n"),
    "json_on_lines": rewritten(lines),
    "content_object": rewritten(lambda text: say({"type": "text", "text": text})),
    "content_parts": rewritten(lambda text: say([{"type": "text", "text": text}])),
    "delta_text": rewritten(lambda text: event(chunk(text))),
    "no_blank": rewritten(lambda text: say(text).replace(b"data: ", b"data:", 1)),
    "utf8": rewritten(
        lambda text: (
            b"data: " + json.dumps(chunk({"content": text}), ensure_ascii=False).encode() + b"\n\n"
        )
    ),
    "no_index": rewritten(lambda text: say(text).replace(b'"index": 0, ', b"")),
    "index_digits": rewritten(lambda text: say(text).replace(b'"index": 0', b'"index": "0"')),
    "index_1": index_1,
    "other_choice": other_choice,
    "finish_in_each": finish_in_each,
    "no_error_in_each": no_error_in_each,
    "no_finish": with_members(finish=b""),
    "no_done": with_members(done=b""),
    "no_end": no_end,
    "unterminated": unterminated,
    "done_unterminated": with_members(done=b"data: [DONE]"),
    "done_quoted": with_members(done=b'data: "[DONE]"\n\n'),
    "done_lower": with_members(done=b"data: [done]\n\n"),
    "done_typed": with_members(done=typed("done", "bye")),
    "finish_null": with_members(finish=event(chunk({}, "null")), done=b"", intended=None),
    "usage_zeros": with_members(
        usage=[usage(prompt_tokens=0, completion_tokens=0, total_tokens=0)]
    ),
    "usage_broken": with_members(usage=[b'data: {"usage": {"prom\n\n']),
    "crlf": with_members(line_end=b"\r\n"),
    "cr": with_members(line_end=b"\r"),
    "byte_order_mark": with_members(head=b"\xef\xbb\xbf"),
    "blank_lines": with_members(head=b"\n\n\n"),
}
# Two of these cannot be in one stream, or what it means would be unclear.
_ENDS = {"no_finish", "no_done", "no_end", "unterminated", "done_unterminated", "finish_null"}
_ALONE = (
    {"index_1", "finish_in_each", "whole_message", "whole_message_null_delta"}
    | {
        "whole_message_empty_delta",
        "one_newline",
        "other_choice",
        "no_error_in_each",
    }
    | _ENDS
)


def odd_streams(count: int, seed: int) -> list[Stream]:
    """So many streams; each kind of oddity is in some of them."""
    random = Random(seed)
    names = list(ODDITIES)
    streams = []
    for number in range(count):
        first = names[number % len(names)]
        kinds = [first]
        second = random.choice(names)
        if second != first and number >= 2 * len(names) and not _ALONE & {first, second}:
            kinds.append(second)
        texts = random.sample(WORDS, random.randint(2, 6))
        stream = Stream(
            texts,
            [event(chunk({"role": "assistant", "content": ""})), *map(say, texts)],
            event(chunk({}, "stop")),
            [usage(prompt_tokens=3, completion_tokens=5, total_tokens=8)],
            intended="".join(texts),
        )
        for kind in kinds:
            ODDITIES[kind](stream, random)
        stream.kinds = kinds
        streams.append(stream)
    return streams
