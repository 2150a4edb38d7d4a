from __future__ import annotations

from typing import Any

import pytest

from exai_actors.wire.mcp import messages
from exai_actors.wire.mcp.messages import Notification, Request, Response, Unreadable, read


@pytest.mark.parametrize(
    ("data", "code", "id_"),
    [
        (b"", -32700, b"null"),
        (b"{", -32700, b"null"),
        (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', -32700, b"null"),
        (b'{"params":' + b"[" * 100_000, -32700, b"null"),
        (b"[]", -32600, b"null"),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600, b"null"),
        (b"1", -32600, b"null"),
        (b"{}", -32600, b"null"),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600, b"1"),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600, b"null"),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600, b"null"),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600, b"null"),
        (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', -32600, b"null"),
        (b'{"jsonrpc":"2.0","id":"%b","method":"ping"}' % (b"x" * 2000), -32600, b"null"),
        (b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}', -32700, b"null"),
        (b'{"jsonrpc":"2.0","id":7}', -32600, b"7"),
        (b'{"jsonrpc":"2.0","id":7,"method":5}', -32600, b"7"),
        (b'{"jsonrpc":"2.0","id":7,"method":""}', -32600, b"7"),
        (b'{"jsonrpc":"2.0","id":7,"method":"%b"}' % (b"m" * 101), -32600, b"7"),
        (b'{"jsonrpc":"2.0","id":"a","method":"ping","params":[1]}', -32602, b'"a"'),
    ],
)
def test_whatever_is_no_message_is_named_as_such(data: bytes, code: int, id_: bytes) -> None:
    message = read(data)
    assert isinstance(message, Unreadable)
    assert (message.code, message.id_) == (code, id_)
    assert message.problem


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"jsonrpc":"2.0","id":0,"method":"ping"}', Request(b"0", "ping", {}, {})),
        (
            b'{"jsonrpc":"2.0","id":"\\u0061","method":"m","params":{"_meta":{"a":1}}}',
            Request(b'"a"', "m", {"_meta": {"a": 1}}, {"a": 1}),
        ),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":7}}',
            Request(b"1", "m", {"_meta": 7}, {}),
        ),
        (b'{"jsonrpc":"2.0","method":"n","params":{"x":1}}', Notification("n", {"x": 1})),
        (b'{"jsonrpc":"2.0","id":3,"result":{"a":1}}', Response(b"3", {"a": 1})),
        (b'{"jsonrpc":"2.0","id":3,"error":{"code":1}}', Response(b"3", None, {"code": 1})),
    ],
)
def test_messages_are_told_apart(data: bytes, expected: object) -> None:
    assert read(data) == expected


@pytest.mark.parametrize(("token", "taken"), [("a", "a"), (3, 3), (True, None), ([], None)])
def test_a_progress_token_is_text_or_an_integer(token: Any, taken: Any) -> None:
    request = Request(b"1", "tools/call", {}, {"progressToken": token})
    assert request.progress_token == taken


def test_a_request_is_stateless_if_it_names_a_version_or_capabilities() -> None:
    for key in (messages.VERSION_KEY, messages.CAPABILITIES_KEY):
        assert Request(b"1", "m", {}, {key: None}).stateless
    assert not Request(b"1", "m", {}, {"progressToken": 1}).stateless
