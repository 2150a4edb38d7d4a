"""The state machine of a connection: every event in every state."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.wire.clients.close_reasons import CloseReason
from exai_actors.wire.clients.connection import (
    TRANSITIONS,
    Close,
    Connection,
    Event,
    IllegalTransition,
    State,
)
from exai_actors.wire.clients.frames import CallTool, Ignored, Malformed
from tests.wire.clients.wire_client import opened

# A hello is an event only for a connection that awaits one; its other tests are in test_hello.
CAUSES: dict[Event, Callable[[Connection], object]] = {
    Event.ADMIT: lambda connection: connection.admit("s"),
    Event.REFUSE: lambda connection: connection.refuse("unauthorized"),
    Event.CLOSE: lambda connection: connection.close(CloseReason.SLOW_CONSUMER),
    Event.REJECT_HELLO: lambda connection: connection.time_out_hello(),
}


def connection_in(state: State) -> Connection:
    connection = Connection()
    if state is not State.AWAITING_HELLO:
        connection.receive(b'{"op":"hello"}')
    if state is State.OPEN:
        connection.admit("s")
    if state is State.CLOSED:
        connection.refuse("unauthorized")
    return connection


@pytest.mark.parametrize("event", CAUSES)
@pytest.mark.parametrize("state", State)
def test_a_transition_follows_the_table(state: State, event: Event) -> None:
    connection = connection_in(state)
    assert connection.state is state
    after = TRANSITIONS[state].get(event)
    if after is None:
        with pytest.raises(IllegalTransition, match=f"{event.name} in state {state.name}"):
            CAUSES[event](connection)
        assert connection.state is state
    else:
        CAUSES[event](connection)
        assert connection.state is after


def test_a_connection_moves_in_one_direction_and_can_always_end() -> None:
    order = list(State)
    for state, transitions in TRANSITIONS.items():
        assert all(order.index(after) > order.index(state) for after in transitions.values())
        assert (transitions.get(Event.CLOSE) is State.CLOSED) is (state is not State.CLOSED)
    assert TRANSITIONS.keys() == set(State)


def test_frames_after_the_close_are_ignored() -> None:
    connection = connection_in(State.CLOSED)
    assert connection.receive(b'{"op":"call_tool","name":"chat"}') == Ignored()
    assert connection.receive(b"nonsense") == Ignored()
    assert connection.receive_binary(1) == Ignored()


def test_a_frame_right_after_hello_is_decoded() -> None:
    connection = connection_in(State.AUTHENTICATING)
    assert isinstance(connection.receive(b'{"op":"call_tool","name":"chat"}'), CallTool)
    assert connection.state is State.AUTHENTICATING


def test_a_binary_frame_is_refused_and_the_connection_stays() -> None:
    connection = opened()
    answer = connection.receive_binary(17)
    assert isinstance(answer, Malformed)
    assert answer.error.code == "VALIDATION_ERROR"
    assert answer.error.details == {"size": 17}
    assert connection.state is State.OPEN


def test_a_close_has_the_code_and_text_of_its_reason() -> None:
    assert opened().close(CloseReason.GOING_AWAY) == Close(1001, "the broker is shutting down")


ANY_TEXT = st.binary() | st.text().map(str.encode)
PIECES = st.lists(
    st.sampled_from(
        [
            b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u", b"ud800", b"\xff", b"\x00",
            b'"op"', b'"id"', b'"request_id"', b'"jsonrpc"', b'"method"', b'"2.0"', b'"hello"',
            b'"call_tool"', b'"tools/call"', b'"params"', b'"name"', b"1e999", b"NaN", b"9" * 30,
            b"null", b"true", b"-", b" ", b'"arguments"', b'"initialize"', b'"cancel"', b"[" * 2000,
        ]
    ),
    max_size=30,
).map(b"".join)  # fmt: skip


@given(state=st.sampled_from(State), data=ANY_TEXT | PIECES)
def test_no_bytes_raise_in_any_state(state: State, data: bytes) -> None:
    assert connection_in(state).receive(data) is not None
