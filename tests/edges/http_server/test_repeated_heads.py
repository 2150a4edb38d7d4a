"""Requests with the same head share what was found out about it, and only that."""

from __future__ import annotations

import pytest

from exai_actors.edges.http_server.request import (
    MAX_HEADS,
    MAX_KEPT_HEAD_BYTES,
    ByHead,
    Heads,
    RequestHead,
)
from tests.edges.http_server.http_socket import HttpSocket, Request

LINES = [b"POST /a?b HTTP/1.1", b"Host: broker", b"A: 1", b"B: 2"]


def request(lines: list[bytes], body: bytes = b"") -> bytes:
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


def answer(each: Request) -> None:
    each.exchange.respond(200, (), b"")


def heads_of(socket: HttpSocket) -> list[RequestHead]:
    return [each.head for each in socket.requests]


def test_a_repeated_head_is_read_once_whatever_the_length_of_the_body() -> None:
    socket = HttpSocket()
    for body in (b"", b"one", b"another"):
        socket.send(request(LINES, body))
        answer(socket.requests[-1])
    assert [each.received for each in socket.requests] == [b"", b"one", b"another"]
    assert len(set(heads_of(socket))) == 1


@pytest.mark.parametrize(
    "lines",
    [
        [b"PUT /a?b HTTP/1.1", *LINES[1:]],
        [b"POST /a?c HTTP/1.1", *LINES[1:]],
        [b"POST /a?b HTTP/1.0", *LINES[1:]],
        [LINES[0], b"Host: other", *LINES[2:]],
        [*LINES[:2], b"a: 1", b"B: 2"],
        [*LINES[:2], b"B: 2", b"A: 1"],
        LINES[:3],
    ],
)
def test_heads_that_differ_in_anything_else_are_told_apart(lines: list[bytes]) -> None:
    socket = HttpSocket(answer)
    socket.send(request(LINES))
    socket.send(request(lines))
    first, second = heads_of(socket)
    assert first != second
    fresh = HttpSocket(answer)
    fresh.send(request(lines))
    [alone] = heads_of(fresh)
    assert (second.method, second.target, second.version, second.fields, second.named) == (
        alone.method,
        alone.target,
        alone.version,
        alone.fields,
        alone.named,
    )
    assert second.keeps_alive == alone.keeps_alive


def test_a_head_that_was_refused_is_refused_again() -> None:
    twice = request([LINES[0], b"Host: broker", b"Host: broker"])
    heads = Heads()
    for _ in range(2):
        socket = HttpSocket(answer)
        socket.heads = heads
        socket.send(twice)
        assert socket.status() == 400


def test_a_body_is_limited_also_behind_a_repeated_head() -> None:
    socket = HttpSocket(body_bytes=5)
    socket.send(request(LINES, b"12345"))
    answer(socket.requests[-1])
    assert socket.status() == 200
    socket.send(request(LINES, b"123456"))
    assert socket.status() == 413


def test_a_length_in_unusual_letters_counts() -> None:
    socket = HttpSocket()
    for body in (b"one", b"another"):
        length = b"CONTENT-length: %d" % len(body)
        socket.send(b"\r\n".join([*LINES, length, b"", body]))
        answer(socket.requests[-1])
    assert [each.received for each in socket.requests] == [b"one", b"another"]


def test_few_and_short_heads_are_kept() -> None:
    socket = HttpSocket(answer)
    known = ByHead(lambda head: head.target)
    for number in range(MAX_HEADS + 10):
        socket.send(request([b"POST /%d HTTP/1.1" % number, *LINES[1:]]))
        known.of(socket.requests[-1].head)
    assert len(socket.heads) <= MAX_HEADS
    assert len(known) <= MAX_HEADS
    long = [*LINES, b"C: " + b"c" * MAX_KEPT_HEAD_BYTES]
    socket.send(request(long))
    socket.send(request(long))
    first, second = heads_of(socket)[-2:]
    assert first != second
    before = len(known)
    assert known.of(first) == known.of(second) == "/a?b"
    assert len(known) == before
