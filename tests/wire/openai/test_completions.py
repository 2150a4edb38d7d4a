"""Chat completions: the request, and the result of every form of answer."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.calls import (
    ChatCall,
    ChatMessage,
    Completion,
    FailureKind,
    LimitScope,
    UpstreamFailure,
    Usage,
)
from exai_actors.wire.openai.completions import (
    encode_request,
    is_event_stream,
    parse_completion,
    parse_models,
)
from exai_actors.wire.openai.redaction import Redactor
from exai_actors.wire.openai.request_form import RequestForm
from exai_actors.wire.openai.stream import Run, StreamReader

KIMI = Redactor("sk-very-secret")


def event(
    content: Any = None, finish_reason: Any = None, *, delta: Any = None, **more: Any
) -> bytes:
    delta = {"content": content} if delta is None else delta
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def read(
    *portions: bytes, max_answer_bytes: int = 10_000
) -> tuple[list[str], Completion | UpstreamFailure]:
    reader = StreamReader("requested", max_answer_bytes, redactor=KIMI)
    texts = [reader.feed(portion) for portion in portions]
    texts.append(reader.end_of_body())
    return [text for text in texts if text], reader.finish()


def completed(*portions: bytes) -> Completion:
    pieces, result = read(*portions)
    assert isinstance(result, Completion)
    assert "".join(pieces) == result.text
    return result


def failed(*portions: bytes, max_answer_bytes: int = 10_000) -> UpstreamFailure:
    _, result = read(*portions, max_answer_bytes=max_answer_bytes)
    assert isinstance(result, UpstreamFailure)
    return result


NOON = 1_764_043_200.0
"""2025-11-25 12:00 in Beijing."""
LIMIT_OF_HOURS = {
    "code": "1308",
    "message": "Usage limit reached for 5 hour. Your limit will reset at 2025-11-25 13:00:00",
}


class TestRequest:
    CALL = ChatCall("kimi-k2", (ChatMessage("system", "be brief"), ChatMessage("user", "hi")))

    def test_a_plain_call_has_only_model_and_messages(self) -> None:
        assert orjson.loads(encode_request(self.CALL)) == {
            "model": "kimi-k2",
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "hi"},
            ],
        }

    def test_given_options_are_sent_even_if_zero(self) -> None:
        call = ChatCall("m", (), temperature=0.0, max_tokens=7)
        request = orjson.loads(encode_request(call))
        assert (request["temperature"], request["max_tokens"]) == (0.0, 7)

    def test_a_stream_can_be_requested_for_a_call_without_one_and_the_other_way(self) -> None:
        plain, streamed = ChatCall("m", ()), ChatCall("m", (), stream=True)
        assert orjson.loads(encode_request(plain, stream=True)) == orjson.loads(
            encode_request(streamed)
        )
        assert encode_request(streamed, stream=False) == encode_request(plain)

    def test_the_limit_of_tokens_has_the_name_that_the_service_wants(self) -> None:
        form = RequestForm(max_tokens_name="max_completion_tokens")
        request = orjson.loads(encode_request(ChatCall("m", (), max_tokens=7), form))
        assert request == {"model": "m", "messages": [], "max_completion_tokens": 7}

    def test_a_stream_requests_usage_unless_disabled(self) -> None:
        call = ChatCall("m", (), stream=True)
        assert orjson.loads(encode_request(call))["stream_options"] == {"include_usage": True}
        request = orjson.loads(encode_request(call, RequestForm(includes_usage=False)))
        assert request == {"model": "m", "messages": [], "stream": True}

    def test_images_become_content_parts_after_the_text(self) -> None:
        call = ChatCall("m", (ChatMessage("user", "what?", ("data:image/png;base64,AA==",)),))
        assert orjson.loads(encode_request(call))["messages"][0]["content"] == [
            {"type": "text", "text": "what?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        ]

    @given(st.text(st.characters(exclude_categories=())))
    def test_any_text_can_be_sent(self, text: str) -> None:
        raw = encode_request(ChatCall("m", (ChatMessage("user", text),)))
        assert json.loads(raw)["messages"][0]["content"] == text


class TestWholeAnswer:
    def test_all_parts_of_an_answer_are_read(self) -> None:
        body = {
            "model": "kimi-k2-0905",
            "choices": [
                {
                    "index": 0,
                    "message": {"content": "hello", "reasoning_content": "greet"},
                    "finish_reason": "length",
                }
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
        }
        assert parse_completion(orjson.dumps(body), "kimi-k2") == Completion(
            "hello", "kimi-k2-0905", "length", Usage(3, 5), "greet"
        )

    @pytest.mark.parametrize(
        ("content", "text"),
        [(None, ""), ("", ""), ([{"type": "text", "text": "a"}, {"text": "b"}, 3], "ab")],
    )
    def test_content_may_be_null_or_a_list_of_parts(self, content: Any, text: str) -> None:
        body = {"choices": [{"message": {"content": content}}]}
        assert parse_completion(orjson.dumps(body), "m") == Completion(text, "m", "stop")

    def test_a_refusal_replaces_the_text(self) -> None:
        body = {"choices": [{"message": {"content": None, "refusal": "I cannot"}}]}
        assert parse_completion(orjson.dumps(body), "m") == Completion("I cannot", "m", "stop")

    def test_a_byte_order_mark_is_ignored(self) -> None:
        body = b'\xef\xbb\xbf{"choices": [{"message": {"content": "x"}}]}'
        assert parse_completion(body, "m") == Completion("x", "m", "stop")

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"<html>",
            b"[]",
            b"{}",
            b'{"choices": []}',
            b'{"choices": 3}',
            b'{"choices": [3]}',
            b'{"choices": [{}]}',
            b'{"choices": [{"message": {"content": 3}}]}',
            b"[" * 100_000,
            b'"\\ud800' + b"[" * 100_000,
            b'{"choices": [{"message": {"content": "\xff"}}]}',
        ],
    )
    def test_anything_else_is_malformed(self, body: bytes) -> None:
        failure = parse_completion(body, "m", redactor=KIMI)
        assert isinstance(failure, UpstreamFailure)
        assert failure.kind is FailureKind.MALFORMED
        assert failure.message.startswith("answered with ")
        assert len(failure.message) < 500

    def test_an_error_with_status_200_is_a_failure(self) -> None:
        body = b'{"error": {"type": "engine_overloaded_error", "message": "try later"}}'
        failure = parse_completion(body, "m", redactor=KIMI)
        assert isinstance(failure, UpstreamFailure)
        assert failure.kind is FailureKind.OVERLOADED
        assert failure.message == "broke off with an error: try later"

    def test_a_reset_time_in_an_error_with_status_200_is_read(self) -> None:
        failure = parse_completion(orjson.dumps({"error": LIMIT_OF_HOURS}), "m", now=NOON)
        assert isinstance(failure, UpstreamFailure)
        assert (failure.kind, failure.retry_after) == (FailureKind.QUOTA, 3600.0)

    def test_surrogate_pairs_are_joined_and_lone_ones_replaced(self) -> None:
        body = rb'{"choices": [{"message": {"content": "a\ud800b \ud83e\udd8a"}}]}'
        answer = parse_completion(body, "m")
        assert isinstance(answer, Completion)
        assert answer.text == "a\ufffdb 🦊"


class TestStream:
    def test_a_reset_time_in_a_streamed_error_is_read(self) -> None:
        reader = StreamReader("m", 10_000, now=NOON)
        reader.feed(b"data: " + orjson.dumps({"error": LIMIT_OF_HOURS}) + b"\n\n")
        failure = reader.finish()
        assert isinstance(failure, UpstreamFailure)
        assert (failure.kind, failure.retry_after) == (FailureKind.QUOTA, 3600.0)

    def test_pieces_are_returned_as_sent_and_joined_in_the_result(self) -> None:
        pieces, result = read(event("Hel", model="real"), event("lo"), event(None, "stop"), DONE)
        assert pieces == ["Hel", "lo"]
        assert result == Completion("Hello", "real", "stop")

    def test_reasoning_is_separate_under_either_name(self) -> None:
        answer = completed(
            event(delta={"reasoning_content": "let me "}),
            event(delta={"reasoning": "think"}),
            event("42", "stop"),
        )
        assert (answer.text, answer.reasoning) == ("42", "let me think")

    def test_thinking_is_reasoning(self) -> None:
        assert completed(event(delta={"thinking": "hm"}), event("42", "stop")).reasoning == "hm"

    def test_reasoning_keeps_its_place_among_the_pieces(self) -> None:
        reader = StreamReader("m", 10_000)
        reader.feed(event("before"))
        reader.feed(
            event(delta={"reasoning": "let "})
            + event(delta={"reasoning": "me"})
            + event(delta={"content": "4", "reasoning": " see"})
            + event("2")
            + event(delta={"reasoning": "!"})
        )
        assert list(reader.in_order()) == [
            Run("let me see", is_reasoning=True),
            Run("42"),
            Run("!", is_reasoning=True),
        ]
        reader.feed(event("after"))
        assert list(reader.in_order()) == [Run("after")]

    def test_a_surrogate_pair_in_two_pieces_of_reasoning_is_joined(self) -> None:
        reader = StreamReader("m", 10_000)
        runs: list[Run] = []
        for data in (
            rb'data: {"choices": [{"delta": {"reasoning": "a\ud83e"}}]}',
            rb'data: {"choices": [{"delta": {"reasoning": "\udd8ab\ud800"}}]}',
            event("c", "stop").rstrip(),
        ):
            reader.feed(data + b"\n\n")
            runs += reader.in_order()
        result = reader.finish()
        assert isinstance(result, Completion)
        reasoning = "".join(run.text for run in runs if run.is_reasoning)
        assert reasoning == result.reasoning == "a\U0001f98ab\ufffd"

    def test_usage_may_come_in_an_event_without_choices(self) -> None:
        usage = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}\n\n'
        assert completed(event("x", "stop"), usage, DONE).usage == Usage(3, 5)

    @pytest.mark.parametrize("tokens", [-1, True, "three", 3.5, "-3", None, 10**15, 2**64, 10**30])
    def test_an_impossible_token_count_means_no_usage(self, tokens: Any) -> None:
        for usage in (
            {"prompt_tokens": tokens, "completion_tokens": 5},
            {"prompt_tokens": 5, "completion_tokens": tokens},
        ):
            half_a_pair = b'data: {"note": "\\ud800", "usage": ' + json.dumps(usage).encode()
            assert completed(event("x", "stop"), half_a_pair + b"}\n\n", DONE).usage is None

    def test_null_usage_does_not_erase_an_earlier_count(self) -> None:
        answer = completed(
            event("x", usage={"prompt_tokens": 1, "completion_tokens": 2}),
            event("", "stop", usage=None),
            DONE,
        )
        assert answer.usage == Usage(1, 2)

    def test_usage_may_come_in_the_choice_that_finishes(self) -> None:
        counts = {"prompt_tokens": 1, "completion_tokens": 2}
        last = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": counts}
        end = b"data: " + orjson.dumps({"choices": [last]}) + b"\n\n"
        assert completed(event("x"), end, DONE).usage == Usage(1, 2)
        of_all = {"prompt_tokens": 3, "completion_tokens": 5}
        assert completed(event("x", usage=of_all), end, DONE).usage == Usage(3, 5)

    def test_usage_of_minus_one_means_no_usage(self) -> None:
        counts = {"prompt_tokens": -1, "completion_tokens": -1}
        assert completed(event("x", usage=counts), DONE).usage is None

    def test_a_refusal_replaces_the_text(self) -> None:
        refusal = event(delta={"content": None, "refusal": "I cannot"})
        assert completed(refusal, event(None, "stop"), DONE).text == "I cannot"

    def test_the_message_so_far_beside_a_delta_is_ignored(self) -> None:
        choice = {"delta": {}, "message": {"content": "x"}, "finish_reason": "stop"}
        end = b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n"
        assert completed(event("x"), end, DONE).text == "x"

    def test_an_empty_list_is_an_empty_delta(self) -> None:
        assert completed(event("x"), b'data: {"choices": [{"delta": []}]}\n\n', DONE).text == "x"

    @pytest.mark.parametrize("end", [b"data: [DONE]", b"data: [DONE]\n", b"data:[DONE]\r\n"])
    def test_done_needs_no_blank_line_after_it(self, end: bytes) -> None:
        assert completed(event("x"), end) == Completion("x", "requested", "stop")

    @pytest.mark.parametrize(
        "error",
        [
            b'error: {"message": "boom"}\n\n',
            b'error: {"message": "boom"}',
            b'{"error": {"message": "boom"}}\n\n',
            b'{"error": {"message": "boom"}}',
            b"event: error\ndata: boom\n\n",
            b"event: error\ndata: boom",
        ],
    )
    def test_an_error_in_any_form_fails_the_answer_with_its_message(self, error: bytes) -> None:
        for end in (b"", DONE) if error.endswith(b"\n\n") else (b"",):
            failure = failed(event("x"), error + end)
            assert failure.kind is FailureKind.SERVER_ERROR
            assert failure.message == "broke off with an error: boom"

    def test_done_alone_completes_an_answer(self) -> None:
        assert completed(event("x"), DONE) == Completion("x", "requested", "stop")

    def test_a_finish_reason_alone_completes_an_answer(self) -> None:
        assert completed(event("x", "length")) == Completion("x", "requested", "length")

    @pytest.mark.parametrize("portions", [(), (event("x"),), (event("x"), b"data: [DO")])
    def test_an_end_with_neither_is_truncated(self, portions: tuple[bytes, ...]) -> None:
        assert failed(*portions).kind is FailureKind.TRUNCATED

    def test_null_and_empty_content_give_no_pieces(self) -> None:
        pieces, _ = read(event(None), event(""), event(delta={}), event("x", "stop"), DONE)
        assert pieces == ["x"]

    def test_an_empty_answer_is_complete(self) -> None:
        assert completed(event(None, "stop"), DONE).text == ""

    def test_data_after_done_is_ignored(self) -> None:
        assert completed(event("x"), DONE + b"data: {broken\n\n").text == "x"

    def test_other_choices_than_the_first_are_ignored(self) -> None:
        second = b'data: {"choices": [{"index": 1, "delta": {"content": "no"}}]}\n\n'
        assert completed(event("x"), second, DONE).text == "x"

    @pytest.mark.parametrize(
        "broken",
        [
            b"data: {oops\n\n",
            b'data: {"choices": 3}\n\n',
            b'data: {"choices": [{"delta": 3}]}\n\n',
            b'data: {"choices": [{"delta": {"content": {}}}]}\n\n',
            b"data: " + b"[" * 5000 + b"\n\n",
        ],
    )
    def test_a_malformed_event_fails_the_answer(self, broken: bytes) -> None:
        reader = StreamReader("m", 10_000)
        assert reader.feed(event("x") + broken + event("y")) == "x"
        assert reader.ended
        assert reader.feed(DONE) == ""
        result = reader.finish()
        assert isinstance(result, UpstreamFailure)
        assert result.kind is FailureKind.MALFORMED

    @pytest.mark.parametrize(
        ("error", "kind", "message"),
        [
            ({"message": "boom"}, FailureKind.SERVER_ERROR, "boom"),
            ("just text", FailureKind.SERVER_ERROR, "just text"),
            ({"message": "m", "code": 429}, FailureKind.RATE_LIMITED, "m"),
            ({"message": "m", "code": "429"}, FailureKind.RATE_LIMITED, "m"),
            ({"message": "m", "type": "overloaded_error"}, FailureKind.OVERLOADED, "m"),
            ({"message": "m", "code": "1303"}, FailureKind.RATE_LIMITED, "m"),
            ({"message": "m", "code": "1113"}, FailureKind.QUOTA, "m"),
            ({"message": "m", "code": "1301"}, FailureKind.REJECTED, "m"),
            ({"message": "TPD used up", "type": "rate_limit"}, FailureKind.QUOTA, "TPD used up"),
            ({"message": "m", "code": "insufficient_quota"}, FailureKind.QUOTA, "m"),
            ({"message": "m", "code": "1309"}, FailureKind.QUOTA, "m"),
            ({"message": "m", "type": "invalid_request_error"}, FailureKind.REJECTED, "m"),
            ({"odd": 1}, FailureKind.SERVER_ERROR, '{"odd":1}'),
            ({"odd": "\ud800"}, FailureKind.SERVER_ERROR, '{"odd":"?"}'),
        ],
    )
    def test_an_error_inside_the_stream_fails_the_answer(
        self, error: Any, kind: FailureKind, message: str
    ) -> None:
        stream = event("x") + b"data: " + json.dumps({"error": error}).encode() + b"\n\n" + DONE
        failure = failed(stream)
        assert (failure.kind, failure.message) == (kind, f"broke off with an error: {message}")

    def test_scope_and_wait_of_a_streamed_error_are_read(self) -> None:
        error = {"code": "1302", "message": "too many at once, try again in 20s"}
        failure = failed(b"data: " + orjson.dumps({"error": error}) + b"\n\n")
        assert failure.kind is FailureKind.RATE_LIMITED
        assert failure.scope is LimitScope.CONCURRENCY
        assert failure.retry_after == 20.0

    def test_an_event_of_type_error_fails_the_answer(self) -> None:
        failure = failed(event("x"), b'event: error\ndata: {"message": "boom"}\n\n', DONE)
        assert "boom" in failure.message

    def test_done_without_text_or_finish_reason_is_malformed(self) -> None:
        for silent in (DONE, event(None) + DONE):
            assert failed(silent) == UpstreamFailure(
                FailureKind.MALFORMED, "ended its stream without an answer"
            )
        failure = failed(b'data: {"state": "busy"}\n\n', DONE)
        assert failure.kind is FailureKind.MALFORMED
        assert 'it sent {"state": "busy"}' in failure.message

    @pytest.mark.parametrize(
        "reason", ["error", "network_error", "abort", "insufficient_system_resource"]
    )
    def test_a_finish_reason_of_failure_fails_the_answer(self, reason: str) -> None:
        assert failed(event("x"), event("", reason), DONE).kind is FailureKind.SERVER_ERROR

    @pytest.mark.parametrize("field", ["content", "reasoning_content"])
    def test_an_answer_above_the_limit_is_too_large(self, field: str) -> None:
        piece = event(delta={field: "żó" * 10})
        assert failed(piece, piece, piece, DONE, max_answer_bytes=100).kind is FailureKind.TOO_LARGE
        assert isinstance(read(piece, piece, DONE, max_answer_bytes=100)[1], Completion)

    def test_an_endless_line_is_too_large(self) -> None:
        reader = StreamReader("m", 100)
        reader.feed(b"data: ")
        while not reader.ended:
            reader.feed(b"x" * 65536)
        assert reader.failure is not None
        assert reader.failure.kind is FailureKind.TOO_LARGE

    def test_a_surrogate_pair_split_between_pieces_is_joined(self) -> None:
        pieces, result = read(event("a\ud83e"), event("\udd8a b", "stop"), DONE)
        assert pieces == ["a", "🦊 b"]
        assert isinstance(result, Completion)
        assert result.text == "a🦊 b"
        assert completed(event("\ud800"), event("\udc00"), DONE).text == "\U00010000"

    def test_a_lone_surrogate_is_replaced(self) -> None:
        assert completed(event("a\ud83e"), event("b\udd8a"), DONE).text == "a\ufffdb\ufffd"
        assert completed(event("a\ud83e"), DONE).text == "a\ufffd"
        assert completed(event("a\ud83e"), event(None, "stop")).text == "a\ufffd"

    def test_the_secret_is_in_no_message(self) -> None:
        for portion in (
            b'data: {"error": {"message": "bad key sk-very-secret"}}\n\n',
            event("", "error", model="sk-very-secret"),
            b'data: {"error": {"odd": "sk-very-secret"}}\n\n',
            b'data: {"odd": "sk-very-secret"}\n\n' + DONE,
        ):
            assert "sk-very-secret" not in failed(portion).message

    @given(
        st.lists(st.text(st.characters(exclude_categories=())), max_size=8),
        st.integers(1, 40),
    )
    def test_the_answer_does_not_depend_on_how_the_bytes_arrive(
        self, texts: list[str], portion: int
    ) -> None:
        stream = b"".join(event(text) for text in texts) + event("", "stop") + DONE
        portions = [stream[at : at + portion] for at in range(0, len(stream), portion)]
        answer = completed(*portions)
        joined = "".join(texts).encode("utf-16-le", "surrogatepass")
        assert answer.text == joined.decode("utf-16-le", "replace")


class TestKindOfBody:
    @pytest.mark.parametrize(
        ("content_type", "beginning", "events"),
        [
            ("text/event-stream", b"data: {}", True),
            ("text/event-stream; charset=utf-8", b"", True),
            ("text/event-stream", b' {"error"', False),
            ("application/json", b'{"choices"', False),
            ("application/json", b"data: {}", True),
            ("", b": ping", True),
            ("", b"\xef\xbb\xbfdata: {}", True),
            ("text/event-stream", b'\xef\xbb\xbf{"choices"', False),
            ("text/plain", b"event: x", True),
            ("text/plain", b"database: x", False),
            ("text/event-stream", b"<html>", False),
        ],
    )
    def test_the_body_decides_more_than_its_type(
        self, content_type: str, beginning: bytes, events: bool
    ) -> None:
        assert is_event_stream(content_type, beginning) is events


class TestModels:
    def test_ids_are_listed_in_order_without_repetitions(self) -> None:
        body = b'{"data": [{"id": "b"}, {"id": "a"}, {"id": "b"}, {"name": "x"}, {"id": 3}, 4]}'
        assert parse_models(body) == ("b", "a")
        assert parse_models(b'[{"id": "a"}]') == ("a",)
        assert parse_models(b'{"data": ["a", "b"]}') == ("a", "b")
        assert parse_models(b'{"data": []}') == ()
        assert parse_models(b'{"object": "list", "data": null}') == ()
        assert parse_models(b'{"models": [{"name": "a"}, {"name": "b"}]}') == ("a", "b")

    def test_an_id_with_a_lone_surrogate_is_left_out(self) -> None:
        body = rb'{"data": [{"id": "a\ud800"}, {"id": "\ud83d\ude00"}, {"id": "b"}]}'
        assert parse_models(body) == ("😀", "b")

    @pytest.mark.parametrize("body", [b"", b"{}", b'{"data": 3}', b"3", b'[{"title": "a"}]'])
    def test_anything_else_is_malformed(self, body: bytes) -> None:
        failure = parse_models(body, redactor=KIMI)
        assert isinstance(failure, UpstreamFailure)
        assert failure.kind is FailureKind.MALFORMED
