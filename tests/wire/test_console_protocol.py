"""Messages of consoles that are none."""

from __future__ import annotations

import pytest

from exai_actors.wire.console.protocol import Hello, Watch, decode


def test_the_op_names_the_kind_of_a_message() -> None:
    assert decode(b'{"op":"hello","token":"abc"}') == Hello("abc")
    watch = decode(b'{"op":"watch","table":"actors","sort":"-queued","new_field":1}')
    assert watch == Watch("actors", sort="-queued")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "Expected `object`"),
        (b'{"op":"erase"}', "Invalid value 'erase'"),
        (b'{"op":"watch"}', "missing required field `table`"),
        (b'{"op":"watch","table":7}', "Expected `str`"),
        (b'{"op":"hello","token":' + b"[" * 4_000, "Expected `str`"),
        (b'{"op":"hello","new":' + b"[" * 4_000, "not JSON"),
        (b'{"op":"hello","new":' + b"[" * 100_000, "at most 65536 bytes"),
    ],
)
def test_a_message_that_is_none_is_refused_with_the_reason(text: bytes, reason: str) -> None:
    refused = decode(text)
    assert isinstance(refused, str)
    assert reason in refused
