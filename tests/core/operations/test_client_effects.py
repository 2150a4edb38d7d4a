"""The effects of actions on requests, sessions and connections, with the state before."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from msgspec.structs import replace

from exai_actors.core.capacity.changes import Arrangement
from exai_actors.core.observe.parts import ConnectionState, RequestState, SessionState
from exai_actors.core.operations.action import ActionError, Effect, Undo
from exai_actors.core.operations.client_effects import (
    arranged,
    cancelled,
    disconnected,
    session_ended,
)

QUEUED = RequestState("1/2", "r", "desk", "s", "conn-1", "moon", "kimi", "queued", 3.4)
HELD = replace(QUEUED, state="held")


@pytest.mark.parametrize(
    ("state", "pieces", "text"),
    [
        ("running", 0, "its call at kimi is aborted after 0 pieces of its answer"),
        ("running", 1, "its call at kimi is aborted after 1 piece of its answer"),
        ("waiting", 0, "it leaves its session"),
        ("queued", 0, "it leaves the queue of kimi"),
        ("retrying", 2, "it leaves the queue of kimi"),
    ],
)
def test_a_cancelled_request_leaves_its_place(state: str, pieces: int, text: str) -> None:
    assert cancelled(replace(QUEUED, state=state, pieces=pieces)) == Effect(
        f"{text}; its clients get CANCELLED", f"{state} at kimi, 3 s old"
    )


@pytest.mark.parametrize("how", get_args(Arrangement))
@pytest.mark.parametrize(
    ("state", "place"),
    [
        ("waiting", "it waits in its session and is not yet at kimi"),
        ("sent", "it is on its way to kimi"),
        ("running", "it runs at kimi"),
        ("retrying", "it waits at kimi for its next attempt"),
        ("elsewhere", "it is elsewhere"),
    ],
)
def test_a_request_that_is_in_no_queue_is_refused_with_its_place(
    how: Arrangement, state: str, place: str
) -> None:
    problem = f"{place}; only a request in a provider's queue can be moved or held"
    with pytest.raises(ActionError, match=f"^{re.escape(problem)}$"):
        arranged(how, replace(QUEUED, state=state))


@pytest.mark.parametrize(
    ("how", "request_state", "effect"),
    [
        (
            "front",
            QUEUED,
            Effect(
                "it is the next at kimi after those moved before it; it is charged to its tenant "
                "as always",
                "queued at kimi, 3 s old",
            ),
        ),
        (
            "hold",
            QUEUED,
            Effect(
                "it waits at kimi until it is released, or its deadline is over",
                "queued at kimi, 3 s old",
                Undo("request.release"),
            ),
        ),
        (
            "release",
            HELD,
            Effect("it has its turn at kimi again", "held at kimi, 3 s old", Undo("request.hold")),
        ),
    ],
)
def test_a_queued_request_is_moved_held_and_released(
    how: Arrangement, request_state: RequestState, effect: Effect
) -> None:
    assert arranged(how, request_state) == effect


@pytest.mark.parametrize(
    ("how", "request_state", "problem"),
    [("hold", HELD, "it is held already"), ("release", QUEUED, "it is not held")],
)
def test_an_arrangement_that_changes_nothing_is_refused(
    how: Arrangement, request_state: RequestState, problem: str
) -> None:
    with pytest.raises(ActionError, match=f"^{problem}$"):
        arranged(how, request_state)


def test_the_end_of_a_session_counts_all_that_ends_with_it() -> None:
    session = SessionState("/sessions/7", "s", "desk", 1, 2, 5, 3, 4, text=10, kept_bytes=600)
    assert session_ended(session) == Effect(
        "5 requests cancelled, 1 connection closed, 4 conversations dropped; its client can begin "
        "another session",
        "5 requests, 1 connection, 4 conversations, 600 bytes kept",
    )


@pytest.mark.parametrize(
    ("calls", "text"),
    [
        (0, "it is closed; none of its calls is open"),
        (1, "it is closed, and 1 call without an answer given up as if its client had gone"),
        (2, "it is closed, and 2 calls without an answer given up as if its client had gone"),
    ],
)
def test_a_closed_connection_gives_its_calls_up(calls: int, text: str) -> None:
    connection = ConnectionState("conn-1", "192.0.2.7", "curl", "desk", "s", 61.7, calls, False)
    noun = "call" if calls == 1 else "calls"
    before = f"192.0.2.7, open for 62 s, {calls} {noun} without an answer"
    assert disconnected(connection) == Effect(text, before)
