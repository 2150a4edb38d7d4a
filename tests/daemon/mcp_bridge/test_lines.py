from __future__ import annotations

import os
import threading

import pytest

from exai_actors.daemon.mcp_bridge.lines import (
    MAX_LINE_BYTES,
    MAX_UNWRITTEN_BYTES,
    Input,
    LineReader,
    Output,
)


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"one\ntwo\n"], [b"one", b"two"]),
        ([b"o", b"n", b"e", b"\n"], [b"one"]),
        ([b"one\r\n\r\n \ntwo"], [b"one"]),
        ([b"one\n", b"two", b" more\n"], [b"one", b"two more"]),
        ([b""], []),
        ([b"one\ntwo", b""], [b"one", b"two"]),
    ],
)
def test_bytes_are_cut_into_lines(pieces: list[bytes], lines: list[bytes]) -> None:
    reader = LineReader()
    assert [line for piece in pieces for line in reader.feed(piece)] == lines


def test_a_line_that_is_too_long_is_named_once_and_skipped() -> None:
    reader = LineReader()
    piece = b"x" * 1_000_000
    lines = [line for _ in range(MAX_LINE_BYTES // len(piece) + 2) for line in reader.feed(piece)]
    assert lines == []
    assert list(reader.feed(b"the rest\nnext\n")) == [None, b"next"]
    assert list(reader.feed(b"x" * MAX_LINE_BYTES + b"\n")) == [b"x" * MAX_LINE_BYTES]


def test_a_host_that_does_not_read_stops_nothing_but_is_full() -> None:
    receiving, sending = os.pipe()
    output = Output(sending)
    frame = b"x" * (MAX_UNWRITTEN_BYTES // 2)
    written = threading.Event()
    output.on_written = written.set
    for _ in range(3):
        output.write(frame)
    assert output.is_full
    left = 3 * (len(frame) + 1)
    while left:
        left -= len(os.read(receiving, 1 << 20))
    assert written.wait(10)
    output.close(10)
    assert output.unwritten == 0
    os.close(receiving)
    os.close(sending)


def test_a_host_that_has_closed_its_end_stops_the_output() -> None:
    receiving, sending = os.pipe()
    output = Output(sending)
    before = output.has_reader
    os.close(receiving)
    assert (before, output.has_reader) == (True, False)
    output.write(b"{}")
    output.close(10)
    os.close(sending)


def test_input_is_read_on_after_each_resume_until_its_end() -> None:
    receiving, sending = os.pipe()
    received: list[bytes] = []
    arrived = threading.Semaphore(0)

    def take(data: bytes) -> None:
        received.append(data)
        arrived.release()

    source = Input(receiving, take)
    os.write(sending, b"one")
    assert arrived.acquire(timeout=10)
    os.write(sending, b"two")
    assert received == [b"one"]
    source.resume()
    assert arrived.acquire(timeout=10)
    os.close(sending)
    source.resume()
    assert arrived.acquire(timeout=10)
    assert received == [b"one", b"two", b""]
    os.close(receiving)


def test_a_host_that_has_closed_its_end_is_read_on() -> None:
    receiving, sending = os.pipe()
    output = Output(sending)
    for _ in range(3):
        output.write(b"x" * (MAX_UNWRITTEN_BYTES // 2))
    was_full = output.is_full
    os.close(receiving)
    output.close(10)
    assert (was_full, output.is_full) == (True, False)
    os.close(sending)
