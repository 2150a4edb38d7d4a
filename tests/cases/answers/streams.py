"""Streams as services send them, each with the answer or failure that it means.

``source`` is the public report that a stream was rebuilt from; "own" are further inputs of the same
kind. ``stream`` is a list of JSON values, each of them one event, and of bytes, sent as they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from exai_actors.core.calls import FailureKind

DONE = b"data: [DONE]\n\n"


class Case(NamedTuple):
    """``text`` is that of the answer; None if the stream means a failure of ``kind``."""

    name: str
    source: str
    stream: list[Any]
    text: str | None
    kind: FailureKind | None = None
    finish_reason: str = "stop"


def say(text: Any, finish: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}],
        **more,
    }


def whole(text: str, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    return {
        "choices": [{"index": 0, "message": {"content": text}, "finish_reason": finish, **more}]
    }


def typed(event: str, data: str) -> bytes:
    return f"event: {event}\ndata: {data}\n\n".encode()


OOM = {"object": "error", "message": "CUDA out of memory", "code": 500}

# An error is an error wherever it is (K1). Each is tried first, in the middle, last, and as a body.
ERRORS: list[tuple[str, str, Any, FailureKind]] = [
    ("object_error", "vllm-project/vllm#12886", OOM, FailureKind.SERVER_ERROR),
    (
        "detail",
        "foundation-model-stack/fms-guardrails-orchestrator#511",
        {"detail": "worker died"},
        FailureKind.SERVER_ERROR,
    ),
    (
        "type_error",
        "vercel/ai#1835",
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        FailureKind.OVERLOADED,
    ),
    ("detail_list", "own", {"detail": [{"msg": "field required"}]}, FailureKind.SERVER_ERROR),
    ("code_and_msg", "own", {"code": 500, "msg": "404 NOT_FOUND"}, FailureKind.SERVER_ERROR),
    (
        "code_in_digits",
        "own",
        {"code": "429", "message": "too many requests"},
        FailureKind.RATE_LIMITED,
    ),
    ("success_false", "own", {"success": False, "message": "no"}, FailureKind.SERVER_ERROR),
    ("error_number", "own", {"error": 500}, FailureKind.SERVER_ERROR),
    ("error_text", "own", {"error": "model crashed"}, FailureKind.SERVER_ERROR),
    ("error_true", "own", {"error": True, "message": "worker lost"}, FailureKind.SERVER_ERROR),
    ("error_list", "own", {"error": [{"message": "boom"}]}, FailureKind.SERVER_ERROR),
    (
        "error_in_list",
        "own",
        [{"error": {"code": 503, "status": "UNAVAILABLE", "message": "overloaded"}}],
        FailureKind.OVERLOADED,
    ),
    (
        "error_one_level_down",
        "own",
        {"type": "response.failed", "response": {"error": {"message": "boom"}}},
        FailureKind.SERVER_ERROR,
    ),
    (
        "error_in_choice",
        "own",
        {"choices": [{"index": 0, "delta": {"content": ""}, "error": {"message": "boom"}}]},
        FailureKind.SERVER_ERROR,
    ),
    (
        "error_beside_choice",
        "own",
        {"error": {"message": "boom"}, **say("", "error")},
        FailureKind.SERVER_ERROR,
    ),
    ("errors", "own", {"errors": [{"message": "boom"}]}, FailureKind.SERVER_ERROR),
    ("fault", "own", {"fault": {"faultstring": "timeout"}}, FailureKind.SERVER_ERROR),
    ("status_failed", "own", {"status": "failed", "message": "boom"}, FailureKind.SERVER_ERROR),
    (
        "base_resp",
        "own",
        {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
        FailureKind.QUOTA,
    ),
]

# Not part of the answer (K10). Each is tried first, in the middle, and after the finish reason.
FOREIGN: list[tuple[str, str, bytes]] = [
    ("null", "NousResearch/hermes-agent#80822", b"data: null\n\n"),
    ("null", "earendil-works/pi#2466", b"data:null\n\n"),
    ("ping_text", "lanqian528/chat2api#25", typed("ping", "2025-02-20 08:40:33")),
    ("ping_json", "waylaidwanderer/node-chatgpt-api#100", typed("ping", '{"type": "ping"}')),
    ("ping_broken_json", "own", typed("ping", "{oops")),
    ("heartbeat", "own", typed("heartbeat", "[1, 2")),
    ("unknown_type", "own", typed("agent.status", "searching: 3 results")),
    ("unknown_type_object", "own", typed("citation", '{"url": "https://example.org"}')),
    ("plain_text", "own", b"data: keepalive\n\n"),
    ("date", "own", b"data: 2025-02-20 08:40:33\n\n"),
    ("number", "own", b"data: 3\n\n"),
    ("negative", "own", b"data: -0.5\n\n"),
    ("true", "own", b"data: true\n\n"),
    ("string", "own", b'data: "ping"\n\n'),
    ("empty_string", "own", b'data: ""\n\n'),
    ("empty_list", "own", b"data: []\n\n"),
    ("list", "own", b'data: [1, {"a": null}]\n\n'),
    ("empty_object", "own", b"data: {}\n\n"),
    ("blank", "own", b"data:  \n\n"),
    ("unknown_object", "own", b'data: {"type": "status", "message": "thinking"}\n\n'),
    ("code_of_success", "own", b'data: {"code": 0, "message": "ok"}\n\n'),
    ("code_200", "own", b'data: {"code": "200", "msg": "success"}\n\n'),
    ("empty_error", "own", b'data: {"error": null, "choices": []}\n\n'),
    ("usage_only", "own", b'data: {"choices": [], "usage": {"prompt_tokens": 1}}\n\n'),
    ("filter_results", "own", b'data: {"choices": [], "prompt_filter_results": [{}]}\n\n'),
    ("comment", "openai/openai-go#227", b": OPENROUTER PROCESSING\n\n"),
]

# A chunk that cannot be read may have been text (K10).
BROKEN: list[tuple[str, bytes]] = [
    ("half_a_chunk", b'data: {"choices": [{"delta": {"content": "l\n\n'),
    ("second_half", b'data: lo"}}]}\n\n'),
    ("half_a_chunk_of_an_unknown_type", typed("token", '{"choices": [{"delta"')),
    ("two_in_a_line", b'data: {"choices": []}{"choices": []}\n\n'),
    ("choices_are_a_number", b'data: {"choices": 3}\n\n'),
    ("a_choice_is_a_number", b'data: {"choices": [3]}\n\n'),
    ("delta_is_a_number", b'data: {"choices": [{"delta": 3}]}\n\n'),
    ("content_is_a_number", b'data: {"choices": [{"delta": {"content": 3}}]}\n\n'),
    ("python_repr", b"data: {'choices': []}\n\n"),
]


def one_newline(*texts: dict[str, Any]) -> bytes:
    import json

    return b"".join(b"data: " + json.dumps(each).encode() + b"\n" for each in texts) + b"\n"


MALFORMED = FailureKind.MALFORMED

CASES: list[Case] = [
    # Text that is told twice (K2).
    Case(
        "whole_message_last",
        "abundantbeing/hermes-browser-extension#11",
        [say("Hel"), say("lo"), whole("Hello"), DONE],
        "Hello",
    ),
    Case(
        "whole_message_with_null_delta",
        "infiniflow/ragflow#15286",
        [say("Hel"), say("lo"), whole("Hello", delta=None), DONE],
        "Hello",
    ),
    Case("whole_message_with_empty_delta", "own", [say("Hel"), whole("Hello", delta={})], "Hello"),
    Case(
        "whole_message_in_the_middle",
        "own",
        [say("He"), whole("Hell", None), say("o", "stop")],
        "Hello",
    ),
    Case("whole_message_after_half", "own", [say("Hel"), whole("Hello"), DONE], "Hello"),
    Case("whole_message_alone", "own", [whole("Hello"), DONE], "Hello"),
    Case("whole_message_twice", "own", [whole("Hello", None), whole("Hello"), DONE], "Hello"),
    Case(
        "last_message_is_a_part",
        "own",
        [say("Hello, "), say("you"), whole("you"), DONE],
        "Hello, you",
    ),
    Case("whole_message_trimmed", "own", [say(" a\n"), say("b "), whole("a b"), DONE], " a\nb "),
    Case(
        "messages_as_deltas", "own", [whole("Hel", None), whole("lo", None), whole("!")], "Hello!"
    ),
    Case(
        "messages_that_grow",
        "own",
        [whole("He", None), whole("Hello", None), whole("Hello!")],
        "Hello!",
    ),
    Case("whole_message_differs", "own", [say("Yes"), whole("No way"), DONE], None, MALFORMED),
    Case(
        "parts_that_repeat",
        "own",
        [whole("b", None), whole("a", None), whole("n", None), whole("a")],
        "bana",
    ),
    Case(
        "parts_and_then_the_whole",
        "own",
        [whole("Hel", None), whole("lo", None), whole("Hello")],
        "Hello",
    ),
    Case(
        "whole_message_in_surrogates",
        "own",
        [say("a\ud83e"), whole("a\ud83e\udd8a")],
        "a\U0001f98a",
    ),
    # One line end between two events (K10).
    Case(
        "one_newline",
        "rexxars/eventsource-parser#31",
        [one_newline(say("Hel"), say("lo", "stop")), DONE],
        "Hello",
    ),
    Case("one_newline_and_done", "own", [one_newline(say("Hello"))[:-1] + DONE], "Hello"),
    Case(
        "one_newline_and_null",
        "own",
        [b"data: null\n" + one_newline(say("Hel"), say("lo", "stop"))],
        "Hello",
    ),
    Case(
        "one_newline_and_pretty",
        "own",
        [b'data: {\ndata:  "choices": []\ndata: }\n' + one_newline(say("Hello", "stop"))],
        "Hello",
    ),
    Case(
        "one_newline_to_a_ping",
        "own",
        [one_newline(say("Hello"))[:-1] + typed("ping", "12:00"), say("", "stop")],
        "Hello",
    ),
    Case(
        "one_newline_and_broken",
        "own",
        [one_newline(say("Hel"))[:-6] + b"\n" + one_newline(say("lo", "stop"))],
        None,
        MALFORMED,
    ),
    # Ends.
    Case("nothing", "zeroclaw-labs/zeroclaw#7061", [DONE], None, MALFORMED),
    Case(
        "role_alone",
        "MoonshotAI/kimi-cli#1172",
        [{"choices": [{"delta": {"role": "assistant"}}]}, DONE],
        None,
        MALFORMED,
    ),
    Case("empty_answer", "kaitranntt/CLIProxyAPIPlus#173", [say("", "stop"), DONE], ""),
    Case(
        "finish_without_newline",
        "openresponses/openresponses#56",
        [say("Hel"), one_newline(say("lo", "stop")).rstrip()],
        "Hello",
    ),
    Case(
        "text_without_newline",
        "own",
        [say("Hel"), one_newline(say("lo")).rstrip()],
        None,
        FailureKind.TRUNCATED,
    ),
    Case(
        "error_without_newline",
        "own",
        [say("Hel"), one_newline(OOM).rstrip()],
        None,
        FailureKind.SERVER_ERROR,
    ),
    Case(
        "finish_reason_null_as_text",
        "(DashScope)",
        [say("Hel", "null"), say("lo", "null")],
        None,
        FailureKind.TRUNCATED,
    ),
    Case(
        "finish_reason_null_then_stop",
        "own",
        [say("Hel", "null"), say("lo", "length")],
        "Hello",
        None,
        "length",
    ),
    Case("finish_reason_none_as_text", "own", [say("Hel", "None")], None, FailureKind.TRUNCATED),
    Case(
        "done_in_quotes",
        "agentscope-ai/agentscope-java#2073",
        [say("Hello", "stop"), b'data: "[DONE]"\n\n'],
        "Hello",
    ),
    Case(
        "done_in_lower_case",
        "agentscope-ai/agentscope-java#2073",
        [say("Hello"), b"data: [done]\n\n"],
        "Hello",
    ),
    Case(
        "event_done",
        "agentscope-ai/agentscope-java#2073",
        [say("Hello"), typed("done", "bye")],
        "Hello",
    ),
    Case(
        "broken_usage_after_finish",
        "own",
        [say("Hello", "stop"), b'data: {"usage": {"prom\n\n'],
        "Hello",
    ),
    Case(
        "broken_text_after_finish",
        "own",
        [say("Hel", "stop"), b'data: {"choices": [{"delta": {"c\n\n'],
        None,
        MALFORMED,
    ),
    Case(
        "finish_in_each_chunk",
        "open-webui/open-webui#16377",
        [say("Hel", "stop"), say("lo", "stop"), DONE],
        "Hello",
    ),
    Case(
        "message_alone_then_done",
        "own",
        [say("Hel"), {"message": "worker was killed"}, DONE],
        None,
        FailureKind.SERVER_ERROR,
    ),
    Case(
        "message_alone_then_text", "own", [{"message": "still there"}, say("Hello"), DONE], "Hello"
    ),
    Case(
        "error_in_words_then_done",
        "own",
        [say("Hel"), b"data: upstream timed out\n\n", DONE],
        None,
        FailureKind.SERVER_ERROR,
    ),
    # Forms of a chunk.
    Case(
        "empty_error_beside",
        "Azure/azure-sdk-for-js#15448",
        [say("Hello", "stop", error={"code": None, "message": ""})],
        "Hello",
    ),
    Case(
        "error_of_success",
        "own",
        [say("Hello", "stop", error={"code": 0, "message": "success"})],
        "Hello",
    ),
    Case("content_object", "own", [say({"type": "text", "text": "Hello"}, "stop")], "Hello"),
    Case(
        "delta_text", "own", [{"choices": [{"delta": "Hello", "finish_reason": "stop"}]}], "Hello"
    ),
    Case(
        "index_in_digits",
        "own",
        [{"choices": [{"index": "0", "delta": {"content": "Hello"}}]}, DONE],
        "Hello",
    ),
    Case(
        "index_1_only",
        "own",
        [{"choices": [{"index": 1, "delta": {"content": each}}]} for each in ("Hel", "lo")]
        + [DONE],
        "Hello",
    ),
    Case(
        "index_1_beside",
        "own",
        [
            {
                "choices": [
                    {"index": 1, "delta": {"content": "no"}},
                    {"index": 0, "delta": {"content": "Hel"}},
                ]
            },
            {"choices": [{"index": 1, "delta": {"content": "no"}}]},
            say("lo", "stop"),
        ],
        "Hello",
    ),
    # A bare error, pretty-printed.
    Case(
        "pretty_error",
        "majiayu000/litellm-rs#170",
        [say("Hel"), b'{\n  "error": {\n    "code": 429,\n    "message": "slow down"\n  }\n}\n\n'],
        None,
        FailureKind.RATE_LIMITED,
    ),
    Case(
        "pretty_error_unterminated",
        "own",
        [say("Hel"), b'{\n"error": {\n"message": "boom"}}'],
        None,
        FailureKind.SERVER_ERROR,
    ),
    Case(
        "pretty_detail",
        "own",
        [b'{\r\n  "detail": "boom"\r\n}\r\n\r\n'],
        None,
        FailureKind.SERVER_ERROR,
    ),
    Case("bare_chunk", "own", [say("Hel"), one_newline(say("lo", "stop"))[6:], DONE], "Hello"),
]
