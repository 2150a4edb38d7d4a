"""Whether a new client speaks WebSocket or HTTP."""

from __future__ import annotations

import pytest

from exai_actors.core.first_bytes import MAX_HEAD_BYTES, spoken_in

HANDSHAKE = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def test_a_handshake_is_recognised_when_its_head_is_complete() -> None:
    for size in range(len(HANDSHAKE)):
        assert spoken_in(HANDSHAKE[:size]) is None
    assert spoken_in(HANDSHAKE) == "websocket"
    assert spoken_in(HANDSHAKE + b"\x81\x80more") == "websocket"


@pytest.mark.parametrize(
    "field", [b"upgrade: WebSocket", b"UPGRADE:websocket", b"Upgrade: h2c, websocket"]
)
def test_the_field_may_be_written_in_any_way(field: bytes) -> None:
    assert spoken_in(HANDSHAKE.replace(b"Upgrade: websocket", field)) == "websocket"


@pytest.mark.parametrize(
    "first",
    [
        b"POST / HTTP/1.1\r\n",
        b"P",
        b"\x16\x03\x01",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nUpgrade: websocket\r\n",
        b"GET /?Upgrade:websocket HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-Upgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"a" * MAX_HEAD_BYTES,
    ],
)
def test_everything_else_is_left_to_the_http_server(first: bytes) -> None:
    assert spoken_in(first) == "http"


def test_a_long_handshake_is_left_to_the_websocket_library() -> None:
    first = HANDSHAKE[:-2] + b"A: " + b"a" * MAX_HEAD_BYTES
    assert spoken_in(first) == "websocket"
