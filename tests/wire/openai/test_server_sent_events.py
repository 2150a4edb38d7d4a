"""The event stream parser: the standard's rules, whatever the portions."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.wire.openai.server_sent_events import (
    BARE_WORDS,
    EventTooLarge,
    ServerSentEvent,
    SseParser,
)


def parse(*portions: bytes, max_event_bytes: int = 1_000_000) -> list[ServerSentEvent]:
    parser = SseParser(max_event_bytes)
    return [event for portion in portions for event in parser.feed(portion)]


def data_of(*portions: bytes) -> list[str]:
    return [event.data for event in parse(*portions)]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_standard_line_end_ends_a_line(end: bytes) -> None:
    assert data_of(end.join([b"data: one", b"", b"data: two", b"", b""])) == ["one", "two"]


def test_a_split_crlf_is_one_line_end() -> None:
    assert data_of(b"data: one\r", b"\ndata: two\r", b"\n\r", b"\n") == ["one\ntwo"]


def test_two_carriage_returns_are_two_line_ends() -> None:
    assert data_of(b"data: one\r", b"\r", b"data: two\r\r") == ["one", "two"]


def test_a_character_may_be_split_anywhere() -> None:
    raw = "data: żółć 🦊\n\n".encode()
    assert data_of(*(bytes([byte]) for byte in raw)) == ["żółć 🦊"]


def test_invalid_utf8_becomes_replacement_characters() -> None:
    assert data_of(b"data: a\xffb\n\n") == ["a�b"]


def test_error_fields_and_bare_objects_are_error_events() -> None:
    assert parse(b'error: {"code": 1}\n\n') == [ServerSentEvent('{"code": 1}', "error")]
    assert parse(b'{"error": 1}\n\n') == [ServerSentEvent('{"error": 1}', "error")]


def test_an_unterminated_event_can_be_taken() -> None:
    parser = SseParser(1000)
    assert parser.feed(b"data: one\n\nevent: x\ndata: two\ndata: thr") == [ServerSentEvent("one")]
    assert parser.take_unterminated() == ServerSentEvent("two\nthr", "x")
    assert parser.take_unterminated() is None


@pytest.mark.parametrize(
    "portions", [(b"\xef\xbb\xbfdata: x\n\n",), (b"\xef", b"\xbb", b"\xbfdata: x\n\n")]
)
def test_one_leading_byte_order_mark_is_dropped(portions: tuple[bytes, ...]) -> None:
    assert data_of(*portions) == ["x"]


@pytest.mark.parametrize(
    "line",
    [
        b"\xef\xbb\xbf\xef\xbb\xbfdata: x",
        b" data: x",
        b"Data:x",
        b"\0\0data: x",
        b"\xef\xbb\xbf DATA : x",
    ],
)
def test_a_disfigured_field_of_data_is_read_since_it_may_be_text(line: bytes) -> None:
    assert data_of(line + b"\n\n") == ["x"]


@pytest.mark.parametrize(
    ("lines", "event"),
    [
        (b"event: error\n\n", ServerSentEvent("", "error")),
        (b"Bad Gateway\nmore\n\n", ServerSentEvent("Bad Gateway", BARE_WORDS)),
        (b'xdata: {"choices": []}\n\n', ServerSentEvent('xdata: {"choices": []}')),
    ],
)
def test_what_the_standard_ignores_but_a_failure_may_hide_in_is_an_event(
    lines: bytes, event: ServerSentEvent
) -> None:
    assert SseParser(1000).feed(b"data: x\n\n" + lines) == [ServerSentEvent("x"), event]


def test_words_beside_data_are_ignored() -> None:
    assert data_of(b"hello\ndata: x\n\n") == ["x"]


def test_a_partial_byte_order_mark_is_ordinary_data() -> None:
    assert data_of(b"\n", b"data: x\n\n") == ["x"]
    assert data_of(b"\xef", b"data: x\ndata: y\n\n") == ["y"]


def test_comments_and_unknown_fields_are_ignored() -> None:
    assert data_of(b": keep-alive\n\nunknown: 1\nretry: 10\ndata: x\n: again\n\n") == ["x"]


def test_only_one_space_after_the_colon_is_removed() -> None:
    assert data_of(b"data:  two spaces\n\ndata:none\n\n") == [" two spaces", "none"]


def test_data_lines_are_joined_and_a_bare_name_is_empty() -> None:
    assert data_of(b"data: a\ndata\ndata: b\n\ndata\n\n") == ["a\n\nb", ""]


def test_an_event_without_data_is_dropped_with_its_type() -> None:
    assert parse(b"event: ping\n\ndata: x\n\n") == [ServerSentEvent("x")]


def test_the_type_belongs_to_one_event_and_ids_are_ignored() -> None:
    events = parse(b"event: error\nid: 7\ndata: x\n\ndata: y\n\n")
    assert events == [ServerSentEvent("x", "error"), ServerSentEvent("y")]


@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + b"x" * 200,
        b"data: xxxxxxxx\n" * 20,
        b"data:\n" * 200,
        b"unknown: " + b"x" * 200 + b"\n",
    ],
)
@pytest.mark.parametrize("portion", [1, 7, 1000])
def test_an_endless_event_is_rejected_however_it_is_split(stream: bytes, portion: int) -> None:
    with pytest.raises(EventTooLarge, match="larger than 100 bytes"):
        parse(
            *(stream[at : at + portion] for at in range(0, len(stream), portion)),
            max_event_bytes=100,
        )


def test_a_long_stream_of_small_events_is_within_the_limit() -> None:
    stream = b": keep-alive\n" * 1000 + b"data: 0123456789\n\n" * 1000
    assert len(parse(stream, max_event_bytes=100)) == 1000


fragments = st.sampled_from(
    [
        *(b"data", b"data:", b"data: x", b"event: e", b"id: 1", b"retry: 3", b":", b" ", b"x"),
        *(b"\r", b"\n", b"\r\n", b"\n\n", b"\xef\xbb\xbf", "ż🦊".encode(), b"\xff", b"\0"),
    ]
)
streams = st.lists(fragments, max_size=30).map(b"".join)


@given(streams, st.data())
def test_the_events_do_not_depend_on_how_the_stream_is_split(
    stream: bytes, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    edges = [0, *cuts, len(stream)]
    portions = [stream[a:b] for a, b in pairwise(edges)]
    assert parse(*portions) == parse(stream)
    assert parse(*(bytes([byte]) for byte in stream)) == parse(stream)


@given(st.lists(st.text().filter(lambda text: not set(text) & {"\r", "\n"}), max_size=5))
def test_any_text_is_returned_unchanged(texts: list[str]) -> None:
    stream = "".join(f"data: {text}\n\n" for text in texts).encode("utf-8")
    assert data_of(stream) == texts
