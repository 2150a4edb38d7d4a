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
    IllegalStep,
    State,
    Step,
)
from exai_actors.wire.clients.frames import CallTool, Ignored, Malformed
from tests.wire.clients.wire_client import opened

DOES: dict[Step, Callable[[Connection], object]] = {
    Step.ADMIT: lambda c: c.admitted("s"),
    Step.NOT_ADMIT: lambda c: c.not_admitted("unauthorized"),
    Step.CLOSE: lambda c: c.close(CloseReason.SLOW_CONSUMER),
    Step.SOCKET_CLOSED: lambda c: c.socket_closed(),
    Step.REFUSE_HELLO: lambda c: c.hello_timed_out(),
}


def connection_in(state: State) -> Connection:
    connection = Connection()
    if state is State.AWAITING_HELLO:
        return connection
    connection.receive(b'{"op":"hello"}')
    if state is State.OPEN:
        connection.admitted("s")
    if state in (State.CLOSING, State.CLOSED):
        connection.not_admitted("unauthorized")
    if state is State.CLOSED:
        connection.socket_closed()
    return connection


@pytest.mark.parametrize("step", DOES)
@pytest.mark.parametrize("state", State)
def test_a_step_does_what_the_table_says_or_raises_and_changes_nothing(
    state: State, step: Step
) -> None:
    connection = connection_in(state)
    assert connection.state is state
    after = TRANSITIONS.get((state, step))
    if after is None:
        with pytest.raises(IllegalStep, match=f"{step.name} in state {state.name}"):
            DOES[step](connection)
        assert connection.state is state
    else:
        DOES[step](connection)
        assert connection.state is after


def test_every_state_but_the_last_can_lose_its_socket() -> None:
    for state in State:
        assert ((state, Step.SOCKET_CLOSED) in TRANSITIONS) is (state is not State.CLOSED)


@pytest.mark.parametrize("state", [State.CLOSING, State.CLOSED])
def test_frames_after_the_end_are_ignored(state: State) -> None:
    connection = connection_in(state)
    assert connection.receive(b'{"op":"call_tool","name":"chat"}') == Ignored()
    assert connection.receive(b"nonsense") == Ignored()
    assert connection.receive_binary(1) == Ignored()


def test_a_frame_sent_right_behind_hello_is_read_while_the_broker_decides() -> None:
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


def test_closing_for_a_reason_gives_its_code_and_words() -> None:
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
def test_no_bytes_whatever_raise_in_any_state(state: State, data: bytes) -> None:
    found = connection_in(state).receive(data)
    assert found is not None
