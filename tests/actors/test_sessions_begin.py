"""A session has an actor from its first call on; until then its clients cost little."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from exai_actors.actors.admissions import SessionBook, SessionRecord
from exai_actors.actors.broker import BrokerActor
from exai_actors.actors.session.actor import SessionActor
from exai_actors.actors.session.settings import SessionSettings
from exai_actors.ids import SessionId
from exai_actors.messages.broker import BeginSession
from exai_actors.messages.connection import TextReceived
from exai_actors.runtime import LoopActor
from exai_actors.testing.tree import ManualTree
from tests.actors.relaying import Exchange, begin, finish
from tests.actors.test_restarts import crash
from tools.failure_injector import When, failing

HELLO = {"op": "hello", "session_id": "desk"}


def sessions(tree: ManualTree) -> list[str]:
    return [path for path in tree.system.paths() if path.startswith("/sessions/")]


def codes(frames: list[dict[str, Any]]) -> dict[str, str]:
    """The code of each outcome by its request id; empty for an answer."""
    ends = [frame for frame in frames if frame["op"] == "call_tool_res"]
    return {end["request_id"]: (end.get("error") or {}).get("code", "") for end in ends}


def test_a_session_begins_with_its_first_call() -> None:
    tree = ManualTree()
    client = tree.client("desk")
    client.send({"op": "ping"})
    client.send({"op": "list_tools"})
    assert client.send({"op": "cancel", "request_id": "a"})[-1]["found"] is False
    assert sessions(tree) == []
    assert tree.board.statistics().sessions == 1
    client.call("a")
    assert sessions(tree) == ["/sessions/1"]
    tree.upstream.calls[0].complete("done")
    assert codes(client.received()) == {"a": ""}


def test_frames_that_come_with_the_first_call_are_handled_in_their_order() -> None:
    tree = ManualTree(limit=9)
    client = tree.connect()
    call = {"op": "call_tool", "name": "chat", "arguments": {"prompt": "hi"}}
    for frame in (HELLO, call | {"request_id": "a"}, {"op": "ping"}, call | {"request_id": "b"}):
        client.ref.tell(TextReceived(orjson.dumps(frame)))
    assert [frame["op"] for frame in client.received()][:2] == ["hello_ack", "pong"]
    for each in tree.upstream.calls:
        each.complete("done")
    assert codes(client.received()) == {"a": "", "b": ""}


@pytest.mark.parametrize("pings", [0, 1000])
def test_none_of_many_calls_that_come_with_the_first_is_refused(pings: int) -> None:
    tree = ManualTree(limit=9, session=SessionSettings(window=9, queue=1000))
    client = tree.client()
    for _ in range(pings):
        client.ref.tell(TextReceived(b'{"op":"ping"}'))
    for number in range(500):
        call = {"op": "call_tool", "name": "chat", "arguments": {"prompt": "hi"}}
        client.ref.tell(TextReceived(orjson.dumps(call | {"request_id": f"r-{number}"})))
    assert codes(client.received()) == {}
    ended = list[str]()
    while tree.upstream.running:
        for each in tuple(tree.upstream.running):
            each.complete("done")
        ended += codes(client.received())
    assert ended == [f"r-{number}" for number in range(500)]


def test_all_connections_of_a_session_have_it_once_it_begins() -> None:
    tree = ManualTree()
    first = tree.client("0b9d1f8e-3c55-4a0e-9d57-6a1f0f6f1c2d")
    second = tree.client("0b9d1f8e-3c55-4a0e-9d57-6a1f0f6f1c2d")
    first.call("a")
    second.call("a")
    assert sessions(tree) == ["/sessions/1"]
    (call,) = tree.upstream.calls
    call.complete("done")
    assert codes(first.received()) == codes(second.received()) == {"a": ""}


def test_a_session_that_has_not_begun_expires() -> None:
    tree = ManualTree(resume_s=10)
    tree.client("desk").vanish()
    tree.advance(9.0)
    assert tree.board.statistics().sessions == 1
    tree.advance(2.0)
    assert tree.board.statistics().sessions == 0


def test_sessions_without_a_call_make_room_before_those_with_one() -> None:
    tree = ManualTree(sessions=3)
    client = tree.client("desk")
    client.call("a")
    tree.upstream.calls[0].complete("done")
    client.vanish()
    for _ in range(9):
        tree.client().vanish()
    assert codes(tree.client("desk").call("a")) == {"a": ""}
    assert len(tree.upstream.calls) == 1


def test_a_session_that_has_not_begun_outlives_the_guardian_and_its_supervisor() -> None:
    tree = ManualTree()
    client = tree.client("desk")
    for path in ("/broker", "/sessions"):
        crash(tree, path)
        tree.advance(1.0)
    assert client.received() == []
    assert sessions(tree) == []
    client.call("a")
    tree.upstream.calls[0].complete("done")
    assert codes(client.received()) == {"a": ""}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_first_call_has_its_outcome_if_the_guardian_fails_at_it(when: When) -> None:
    left = ["once"]

    def choose(_: LoopActor, message: Any) -> When | None:
        return when if isinstance(message, BeginSession) and left and left.pop() else None

    with failing(choose, (BrokerActor,)):
        tree = ManualTree()
        client = tree.client("desk")
        client.call("a")
        tree.advance(1.0)
        assert sessions(tree) == ["/sessions/1"]
        (call,) = tree.upstream.calls
        call.complete("done")
        assert codes(client.received()) == {"a": ""}


def test_calls_of_a_session_that_begins_suspended_expire() -> None:
    tree = ManualTree()
    client = tree.client()
    tree.system.suspend("/sessions", subtree=True)
    tree.settle()
    client.call("a", deadline_ms=1000)
    tree.advance(2.0)
    assert codes(client.received()) == {"a": "TIMEOUT"}


def test_a_session_begins_while_the_guardian_is_suspended() -> None:
    tree = ManualTree()
    client = tree.client()
    tree.system.suspend("/broker")
    tree.settle()
    client.call("a")
    tree.upstream.calls[0].complete("done")
    assert codes(client.received()) == {"a": ""}


def test_the_work_of_a_beginning_grows_with_the_connections_and_not_with_their_square() -> None:
    handled: list[int] = []
    for number in (10, 20):
        tree = ManualTree()
        clients = [tree.client("0b9d1f8e-3c55-4a0e-9d57-6a1f0f6f1c2d") for _ in range(number)]
        call = {"op": "call_tool", "request_id": "a", "name": "version"}
        for client in clients:
            client.ref.tell(TextReceived(orjson.dumps(call)))
        for client in clients:
            assert codes(client.received()) == {"a": ""}
        session = tree.system.statistics_of("/sessions/1")
        assert session is not None
        handled.append(session.processed)
    assert handled[1] < 3 * handled[0]


def test_a_request_over_http_whose_session_cannot_begin_is_refused_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = ManualTree()

    def failing(*_: object, **__: object) -> None:
        raise ValueError("planted")

    with monkeypatch.context() as patch:
        patch.setattr(SessionActor, "__init__", failing)
        exchange = Exchange(tree)
    assert (exchange.responder.status, exchange.responder.ended) == (500, "clean")
    assert exchange.responder.fields["x-exai-tenant"] == "default"
    assert tree.system.dead_letters.recent() == ()
    assert tree.board.statistics().sessions == 0
    second = Exchange(tree)
    begin(tree.upstream.calls[0])
    finish(tree.upstream.calls[0], b"data: {}\n\n")
    tree.settle()
    assert second.outcome == (200, b"data: {}\n\n", "clean")


def test_a_request_over_http_is_served_though_the_guardian_fails_before_its_session_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = ManualTree()
    find, left = SessionBook.find, ["once"]

    def failing(book: SessionBook, session_id: SessionId) -> SessionRecord | None:
        if left:
            left.pop()
            raise ValueError("planted")
        return find(book, session_id)

    monkeypatch.setattr(SessionBook, "find", failing)
    exchange = Exchange(tree)
    tree.advance(1.0)
    begin(tree.upstream.calls[0])
    finish(tree.upstream.calls[0], b"data: {}\n\n")
    tree.settle()
    assert exchange.outcome == (200, b"data: {}\n\n", "clean")


def test_a_connection_is_shown_with_its_session_before_that_begins() -> None:
    tree = ManualTree()
    tree.client("desk")
    (state,) = tree.overview.connections()
    assert (state.tenant, state.session) == ("", "desk")
