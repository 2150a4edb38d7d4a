"""The pipe from a service's response to its readers, and the time that a request may take."""

from __future__ import annotations

import pytest

from exai_actors.core.calls import CallOptions
from exai_actors.core.relay import Fields, RelayPipe, RelayRequest


class Reader:
    """A reader that keeps no data."""

    def head(self, status: int, fields: Fields, length: int | None, /) -> None: ...

    def data(self, data: bytes, /) -> None: ...


def test_a_pipe_is_deserted_from_its_last_reader_to_its_end() -> None:
    pipe, first, last = RelayPipe(), Reader(), Reader()
    deserted: set[RelayPipe] = set()
    pipe.add(first)
    pipe.add(last)
    pipe.report_desertion(deserted)
    pipe.leave(first)
    assert deserted == set()
    pipe.leave(last)
    assert deserted == {pipe}
    pipe.close()
    assert deserted == set()


def test_a_pipe_without_readers_is_deserted_at_once() -> None:
    pipe, deserted = RelayPipe(), set[RelayPipe]()
    pipe.report_desertion(deserted)
    assert deserted == {pipe}


@pytest.mark.parametrize(("deadline_ms", "seconds"), [(None, 60.0), (1500, 1.5)])
def test_a_client_may_limit_the_time_of_its_request(
    deadline_ms: float | None, seconds: float
) -> None:
    request = RelayRequest(
        family="chat",
        path="/v1/chat/completions",
        body=b"{}",
        headers=(),
        model="m",
        pipe=RelayPipe(),
    )
    assert request.time_allowed(CallOptions(deadline_ms=deadline_ms), 60.0) == seconds
