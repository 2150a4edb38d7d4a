"""Restarts in the real tree: of sessions under their connections, of the guardian, of the root."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from exai_actors.actors.broker import BrokerActor
from exai_actors.actors.connection import piece_writer
from exai_actors.actors.connection.settings import ConnectionSettings
from exai_actors.actors.nurseries import RestartSettings, RootNursery, TemporaryNursery
from exai_actors.actors.session.actor import SessionActor
from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.authentication import Identity
from exai_actors.core.places import Places
from exai_actors.ids import ConnectionId, ProviderName, RequestKey, SessionId, TenantName
from exai_actors.messages.broker import Admit
from exai_actors.messages.connection import OutboxHigh
from exai_actors.messages.session import Completed
from exai_actors.messages.session_requests import CancelRequest, Submit
from exai_actors.runtime import LoopActor
from exai_actors.testing.tree import ManualClient, ManualTree
from tests.actors.test_deaths import ask, codes, end_all, outcomes
from tools.failure_injector import When, failing

HELLO = {"op": "hello"}


def crash(tree: ManualTree, path: str, *, settle: bool = True) -> None:
    tree.actor(path).tell_system("an unknown message")
    if settle:
        tree.settle()


def close_aborted(tree: ManualTree) -> None:
    for call in tree.upstream.running:
        if call.abort_asked:
            call.close(cut_off=False)
    tree.settle()


def test_a_failed_session_sends_what_only_waited_once_more_and_ends_what_ran() -> None:
    tree = ManualTree(limit=5, session=SessionSettings(window=1))
    client = tree.client()
    ask(client, "runs")
    ask(client, "waits in the window")
    session = tree.actor("/sessions/1")
    session.tell("an unknown message")
    ask(client, "waits in the mailbox", settle=False)
    tree.settle()
    assert outcomes(client) == {"runs": "INTERNAL_ERROR"}
    assert client.outbox.closed is None
    assert tree.upstream.calls[0].abort_asked
    assert end_all(tree, client) == [{"waits in the window": "", "waits in the mailbox": ""}]
    assert len(tree.upstream.calls) == 3, "each of those that waited is called once"
    assert tree.actor("/sessions/1").incarnation == 2


def test_all_connections_of_a_failed_session_stay_and_so_do_its_outcomes() -> None:
    tree = ManualTree(limit=2)
    first, second = tree.client("desk"), tree.client("desk")
    ask(first, "a")
    tree.upstream.calls[0].complete("kept")
    (answer,) = [each for each in first.received() if each["op"] == "call_tool_res"]
    crash(tree, "/sessions/1")
    (again,) = second.call("a")
    assert again["text"] == "kept"
    frames = second.call("b", arguments={"continuation_id": answer["continuation_id"]})
    assert codes(frames) == {}
    call = tree.upstream.calls[1].call
    assert [message.content for message in call.messages] == ["hi", "kept", "hi"]


def test_conversations_of_two_incarnations_have_different_ids() -> None:
    tree = ManualTree(limit=2)
    client = tree.client()
    found = []
    for name in "ab":
        ask(client, name)
        tree.upstream.calls[-1].complete()
        found += [each.get("continuation_id") for each in client.received()]
        crash(tree, "/sessions/1")
    ids = [each for each in found if each]
    assert len(set(ids)) == 2


def test_an_answer_sent_before_the_failure_is_not_followed_by_an_error() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    ask(client, "a")
    tree.upstream.calls[0].complete("in time")
    crash(tree, "/sessions/1", settle=False)
    assert codes(client.received()) in ({"a": ""}, {"a": "INTERNAL_ERROR"})
    assert client.received() == []


def test_frames_during_a_restart_wait_and_beyond_the_limit_calls_are_refused() -> None:
    tree = ManualTree(limit=9, connection=ConnectionSettings(stash_limit=2))
    client = tree.client().begin_session()
    for _ in range(2):
        crash(tree, "/sessions/1")
    for name in "abc":
        ask(client, name)
    assert outcomes(client) == {"c": "OVER_CAPACITY"}
    assert client.outbox.closed is None
    tree.advance(1.0)
    assert end_all(tree, client) == [{"a": "", "b": ""}]


def test_too_many_frames_before_the_guardian_is_back_close_a_connection_without_a_session() -> None:
    tree = ManualTree(connection=ConnectionSettings(stash_limit=2))
    for _ in range(2):
        crash(tree, "/broker")
    client = tree.connect()
    client.send(HELLO)
    for name in "ab":
        ask(client, name)
    assert client.outbox.closed is None
    ask(client, "c")
    assert client.outbox.closed == (1008, "too many frames before hello was answered")


def test_a_cancel_in_the_mailbox_of_a_failed_session_is_kept() -> None:
    tree = ManualTree(limit=5, session=SessionSettings(window=1))
    client = tree.client()
    ask(client, "runs")
    ask(client, "a")
    ask(client, "b")
    session = tree.actor("/sessions/1")
    session.tell("an unknown message")
    session.tell(CancelRequest(RequestKey("a"), ConnectionId("conn-1")))
    tree.settle()
    assert outcomes(client) == {"runs": "INTERNAL_ERROR", "a": "CANCELLED"}
    assert end_all(tree, client) == [{"b": ""}]


def test_a_slow_consumer_is_still_slow_for_the_next_incarnation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(piece_writer, "HELD_BACK_CHARS", 10)
    tree = ManualTree(limit=1)
    client = tree.client().begin_session()
    client.event(OutboxHigh())
    crash(tree, "/sessions/1")
    ask(client, "a", stream=True)
    (call,) = tree.upstream.calls
    call.chunk("many characters")
    tree.settle()
    assert call.paused


def test_a_draining_connection_of_a_failed_session_closes_after_its_last_outcome() -> None:
    tree = ManualTree(limit=5, session=SessionSettings(window=1))
    client = tree.client()
    ask(client, "runs")
    ask(client, "waits")
    tree.drain()
    tree.settle()
    crash(tree, "/sessions/1")
    assert outcomes(client) == {"runs": "INTERNAL_ERROR"}
    assert client.outbox.closed is None
    assert end_all(tree, client) == [{"waits": ""}]
    assert client.outbox.closed == (1001, "the broker is shutting down")


def test_a_draining_connection_closes_when_its_last_call_ends_with_its_session() -> None:
    tree = ManualTree()
    client = tree.client()
    ask(client, "runs")
    tree.drain()
    tree.settle()
    crash(tree, "/sessions/1")
    assert outcomes(client) == {"runs": "INTERNAL_ERROR"}
    assert client.outbox.closed == (1001, "the broker is shutting down")


def test_a_session_that_fails_too_often_ends_its_requests_and_connections() -> None:
    tree = ManualTree(limit=5, session=SessionSettings(window=1))
    client, other = tree.client(), tree.client()
    ask(client, "runs")
    ask(client, "waits")
    found: dict[str, str] = {}
    for _ in range(4):
        tree.advance(1.0)
        crash(tree, "/sessions/1")
        found |= outcomes(client)
    assert found == {"runs": "INTERNAL_ERROR", "waits": "INTERNAL_ERROR"}
    assert client.outbox.closed == (1011, "internal error")
    assert other.outbox.closed is None
    assert tree.gave_up == []
    assert tree.board.statistics().sessions == 1


def test_a_session_whose_last_hook_fails_ends_all_its_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = ManualTree(limit=5, session=SessionSettings(window=1))
    client = tree.client()
    ask(client, "runs")
    ask(client, "waits")
    with monkeypatch.context() as patch:
        patch.setattr("exai_actors.actors.session.hand_back._unsent", lambda *_: 1 / 0)
        crash(tree, "/sessions/1")
    assert outcomes(client) == dict.fromkeys(("runs", "waits"), "INTERNAL_ERROR")
    close_aborted(tree)
    ask(client, "new")
    assert end_all(tree, client) == [{"new": ""}]


def fails_at(patch: pytest.MonkeyPatch, prompt: str, *, after: bool = False) -> None:
    """Let sessions fail at a request with this prompt, before or after they handled it."""
    receive = SessionActor.on_receive

    def failing(self: SessionActor, message: Any) -> None:
        fatal = isinstance(message, Submit) and getattr(message.arguments, "prompt", "") == prompt
        if fatal and not after:
            raise RuntimeError("planted")
        receive(self, message)
        if fatal:
            raise RuntimeError("planted")

    patch.setattr(SessionActor, "on_receive", failing)


def test_a_request_that_kills_its_session_twice_is_poison_in_all_sessions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = ManualTree(limit=5)
    with monkeypatch.context() as patch:
        fails_at(patch, "fatal")
        bad = tree.client()
        ask(bad, "x", "fatal")
        ask(bad, "innocent")
        tree.advance(1.0)
    frames = [frame for frame in bad.received() if frame.get("request_id") == "x"]
    (refused,) = [frame for frame in frames if frame["op"] == "call_tool_res"]
    assert refused["error"]["code"] == "INTERNAL_ERROR"
    assert "do not repeat it unchanged" in refused["error"]["message"]
    assert refused["error"]["details"] == {"reason": "poison"}
    assert end_all(tree, bad) == [{"innocent": ""}]
    assert tree.actor("/sessions/1").incarnation == 3
    good = tree.client()
    assert codes(good.call("y", "fatal")) == {"y": "INTERNAL_ERROR"}
    tree.advance(600.0)
    ask(good, "z", "fatal")
    assert end_all(tree, good) == [{"z": ""}]
    assert tree.actor("/sessions/2").incarnation == 1


def test_a_request_that_was_sent_before_its_session_failed_is_not_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = ManualTree(limit=5)
    client = tree.client().begin_session()
    with monkeypatch.context() as patch:
        fails_at(patch, "fatal", after=True)
        crash(tree, "/sessions/1")
        ask(client, "x", "fatal")
        assert outcomes(client) == {"x": "INTERNAL_ERROR"}
    assert [call.prompt for call in tree.upstream.calls] == ["fatal"]


def test_an_answer_that_kills_its_session_twice_makes_its_request_poison(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receive = SessionActor.on_receive

    def failing(self: SessionActor, message: Any) -> None:
        if isinstance(message, Completed):
            raise RuntimeError("planted")
        receive(self, message)

    tree = ManualTree(limit=5)
    with monkeypatch.context() as patch:
        patch.setattr(SessionActor, "on_receive", failing)
        client = tree.client()
        for name in "ab":
            ask(client, name, "fatal")
            tree.upstream.calls[-1].complete()
            assert outcomes(client) == {name: "INTERNAL_ERROR"}
            tree.advance(1.0)
    calls = len(tree.upstream.calls)
    frames = client.call("c", "fatal")
    assert codes(frames) == {"c": "INTERNAL_ERROR"}
    assert len(tree.upstream.calls) == calls


def test_a_session_that_the_guardian_had_forgotten_when_it_failed_ends() -> None:
    tree = ManualTree()
    client = tree.client("desk")
    client.vanish()
    tree._admissions.table.remove(SessionId("desk"))
    crash(tree, "/broker")
    assert tree.system.resolve("/sessions/1") is None
    assert tree.board.statistics().sessions == 0


def test_a_provider_that_was_closed_once_is_awaited_again_when_it_fails() -> None:
    tree = ManualTree()
    client = tree.client()
    for _ in range(6):
        tree.advance(1.0)
        crash(tree, "/providers/kimi")
    ask(client, "refused")
    assert outcomes(client) == {"refused": "SERVICE_UNAVAILABLE"}
    tree.advance(60.0)
    for _ in range(2):
        crash(tree, "/providers/kimi")
    ask(client, "a")
    assert outcomes(client) == {}
    assert end_all(tree, client) == [{"a": ""}]


def test_requests_do_not_notice_a_restart_of_the_guardian() -> None:
    tree = ManualTree(limit=1)
    client = tree.client("desk")
    ask(client, "runs")
    ask(client, "waits")
    crash(tree, "/broker")
    ask(client, "new")
    assert end_all(tree, client) == [{"runs": "", "waits": "", "new": ""}]
    assert client.outbox.closed is None
    statistics = tree.board.statistics()
    assert (statistics.connections, statistics.sessions) == (1, 1)
    assert tree.actor("/broker").incarnation == 2
    assert tree.gave_up == []


def test_the_guardian_finds_out_about_connections_that_ended_without_it() -> None:
    tree = ManualTree(resume_s=60.0)
    client = tree.client("desk")
    crash(tree, "/broker")
    crash(tree, "/broker")
    assert tree.system.resolve("/broker") is None
    client.vanish()
    tree.advance(1.0)
    statistics = tree.board.statistics()
    assert (statistics.connections, statistics.sessions) == (0, 1)
    tree.advance(60.0)
    assert tree.board.statistics().sessions == 0
    assert not any(path.startswith("/sessions/") for path in tree.system.paths())


def test_a_client_that_comes_while_the_guardian_is_away_is_admitted_by_the_next() -> None:
    tree = ManualTree()
    crash(tree, "/broker")
    crash(tree, "/broker")
    client = tree.connect()
    assert client.send(HELLO) == []
    tree.advance(1.0)
    (ack,) = client.received()
    assert ack["ok"]
    ask(client, "a")
    assert end_all(tree, client) == [{"a": ""}]


def test_a_hello_that_kills_the_guardian_twice_is_refused_and_not_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take, deaths = Places.take, []

    def failing(self: Places, connection: ConnectionId, *more: Any) -> str | None:
        if connection == "conn-1":
            deaths.append(connection)
            raise RuntimeError("planted")
        return take(self, connection, *more)

    monkeypatch.setattr(Places, "take", failing)
    tree = ManualTree()
    client = tree.connect()
    client.send(HELLO)
    tree.advance(1.0)
    (refusal,) = client.received()
    assert (refusal["ok"], refusal["error"]) == (False, "internal_error")
    assert "the broker failed" in refusal["message"]
    assert client.outbox.closed is not None
    assert len(deaths) == 2
    assert tree.gave_up == []
    assert tree.client().outbox.closed is None


def test_a_session_that_fails_while_the_guardian_is_away_gets_its_connections_back() -> None:
    tree = ManualTree()
    client = tree.client().begin_session()
    crash(tree, "/broker")
    crash(tree, "/broker")
    crash(tree, "/sessions/1")
    ask(client, "a")
    assert outcomes(client) == {}
    tree.advance(1.0)
    assert end_all(tree, client) == [{"a": ""}]


def test_a_session_given_up_while_the_guardian_is_away_loses_its_connections() -> None:
    tree = ManualTree()
    client = tree.client().begin_session()
    for _ in range(3):
        tree.advance(1.0)
        crash(tree, "/sessions/1")
    tree.advance(0.9)
    crash(tree, "/broker")
    crash(tree, "/broker")
    crash(tree, "/sessions/1")
    tree.advance(1.0)
    assert client.outbox.closed == (1011, "internal error")
    assert tree.board.statistics().sessions == 0


def test_a_restarted_guardian_goes_on_draining() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    ask(client, "a")
    crash(tree, "/broker")
    crash(tree, "/broker")
    tree.drain()
    tree.advance(1.0)
    ask(client, "b")
    assert outcomes(client) == {"b": "DRAINING"}
    assert end_all(tree, client) == [{"a": ""}]
    assert client.outbox.closed is not None
    client.vanish()
    assert tree.drained == 1


def test_a_drain_whose_last_connection_ends_without_the_guardian_is_complete() -> None:
    tree = ManualTree()
    client = tree.client()
    crash(tree, "/broker")
    crash(tree, "/broker")
    tree.drain()
    client.vanish()
    assert tree.drained == 0
    tree.advance(1.0)
    assert tree.drained == 1


def test_a_hello_that_was_answered_just_before_the_guardian_failed_has_one_session() -> None:
    left = ["once"]

    def choose(_: LoopActor, message: Any) -> When | None:
        return "after" if isinstance(message, Admit) and left and left.pop() else None

    with failing(choose, (BrokerActor,)):
        tree = ManualTree()
        client = tree.connect()
        (ack,) = client.send(HELLO | {"session_id": "desk"})
        tree.advance(1.0)
        assert ack["session_id"] == "desk"
        assert tree.board.statistics().sessions == 1
        ask(client, "a")
        assert end_all(tree, client) == [{"a": ""}]


def test_a_call_that_its_provider_returns_to_a_failing_session_goes_on() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    ask(client, "runs")
    ask(client, "waits")
    tree.actor("/providers/kimi").tell("an unknown message")
    tree.actor("/sessions/1").tell("an unknown message")
    tree.settle()
    assert "waits" not in (found := outcomes(client))
    assert set(found) == {"runs"}
    assert end_all(tree, client) == [{"waits": ""}]


def test_a_restarted_guardian_knows_the_models_and_the_tokens() -> None:
    tenant = Identity(TenantName("ann"))
    tree = ManualTree(tokens=(("secret", tenant),), models=())
    client = tree.client("desk", "secret")
    crash(tree, "/broker")
    crash(tree, "/broker")
    tree.upstream.list_models("fresh")
    tree.advance(1.0)
    rotated = client.send({"op": "rotate_token", "old": "secret", "new": "x" * 20})
    assert rotated[0]["ok"] is True
    ask(client, "a", arguments={"model": "fresh"})
    assert end_all(tree, client) == [{"a": ""}]


def test_a_rotation_that_the_guardian_has_not_answered_is_answered_and_can_be_repeated() -> None:
    tree = ManualTree(tokens=(("secret", Identity(TenantName("ann"))),))
    client = tree.client("desk", "secret")
    crash(tree, "/broker")
    crash(tree, "/broker")
    rotate = {"op": "rotate_token", "old": "secret", "new": "x" * 20}
    assert client.send(rotate) == []
    tree.advance(1.0)
    (answer,) = client.received()
    assert (answer["ok"], answer["error"]) == (False, "internal_error")
    assert client.send(rotate)[0]["ok"] is True


def test_a_supervisor_that_fails_takes_no_child_with_it() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    ask(client, "runs")
    ask(client, "waits")
    for path in ("/providers", "/sessions", "/connections", "/"):
        crash(tree, path)
    assert tree.actor("/").incarnation == 2
    assert end_all(tree, client) == [{"runs": "", "waits": ""}]
    incarnations = {path: tree.actor(path).incarnation for path in tree.system.paths()}
    assert incarnations["/providers/kimi"] == incarnations["/sessions/1"] == 1
    crash(tree, "/providers/kimi")
    assert tree.actor("/providers/kimi").incarnation == 2


def test_a_session_that_fails_without_its_supervisor_is_restarted_by_the_next() -> None:
    tree = ManualTree()
    client = tree.client().begin_session()
    crash(tree, "/sessions")
    crash(tree, "/sessions")
    crash(tree, "/sessions/1")
    assert tree.system.resolve("/sessions/1") is None
    tree.advance(1.0)
    ask(client, "a")
    assert end_all(tree, client) == [{"a": ""}]


def test_a_tree_that_gives_up_has_stopped_completely() -> None:
    tree = ManualTree()
    tree.client()
    for _ in range(6):
        tree.advance(1.0)
        crash(tree, "/broker")
    assert len(tree.gave_up) == 1
    assert (tree.stopped, tree.system.paths()) == (1, [])
    tree.stop()
    assert tree.stopped == 2


def test_a_provider_that_is_away_says_so() -> None:
    tree = ManualTree()
    crash(tree, "/providers/kimi")
    assert tree.statistics().mode == "open"
    crash(tree, "/providers/kimi")
    away = tree.statistics()
    assert (away.mode, away.trouble) == (
        "closed",
        "its actor has failed and is being started again",
    )
    tree.advance(1.0)
    assert tree.statistics().mode == "open"


def test_a_root_that_fails_too_often_gives_up_with_a_report() -> None:
    tree = ManualTree()
    client = tree.client()
    ask(client, "a")
    for _ in range(6):
        crash(tree, "/")
    (report,) = tree.gave_up
    assert (report.path, report.restarts, report.period_s) == ("/", 5, 60.0)
    assert outcomes(client) == {"a": "INTERNAL_ERROR"}


def test_everything_stops_in_reverse_order_and_answers_first() -> None:
    tree = ManualTree(limit=1)
    clients = [tree.client().begin_session(), tree.client().begin_session()]
    ask(clients[0], "a")
    order: list[str] = []
    tree.system.on_event(lambda event: order.append(event.path))
    tree.stop()
    tree.settle()
    assert outcomes(clients[0]) == {"a": "DRAINING"}
    assert clients[1].outbox.closed == (1001, "the broker is shutting down")
    ended = [path for path in order if not path.startswith("/connections/conn-9")]
    assert ended == [
        "/broker",
        "/consoles",
        "/connections/conn-2",
        "/connections/conn-1",
        "/connections",
        "/sessions/2",
        "/sessions/1",
        "/sessions",
        "/providers/glm",
        "/providers/kimi",
        "/providers",
        "/",
    ]
    assert (tree.stopped, tree.system.paths()) == (1, [])


@pytest.mark.parametrize("away", ["", "/", "/broker", "/sessions"])
def test_a_tree_that_is_just_being_rebuilt_stops_too(away: str) -> None:
    tree = ManualTree()
    tree.client()
    if away:
        crash(tree, away, settle=False)
    tree.stop()
    tree.advance(10.0)
    assert tree.system.paths() == []
    assert tree.stopped >= 1


def test_an_operator_stops_and_restarts_a_provider() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    ask(client, "runs")
    ask(client, "waits")
    tree.supervisors.stop("/providers/kimi")
    tree.settle()
    assert outcomes(client) == dict.fromkeys(("runs", "waits"), "SERVICE_UNAVAILABLE")
    close_aborted(tree)
    assert tree.statistics().mode == "closed"
    assert codes(client.call("refused")) == {"refused": "SERVICE_UNAVAILABLE"}
    tree.advance(1000.0)
    assert tree.system.resolve("/providers/kimi") is None
    tree.supervisors.restart("/providers/kimi")
    tree.settle()
    ask(client, "a")
    assert end_all(tree, client) == [{"a": ""}]


def stopped(path: str) -> tuple[ManualTree, ManualClient]:
    tree = ManualTree()
    client = tree.client()
    ask(client, "a")
    tree.supervisors.stop(path)
    tree.settle()
    return tree, client


def test_an_operator_stops_a_session_and_a_connection() -> None:
    tree, client = stopped("/sessions/1")
    assert outcomes(client) == {"a": "INTERNAL_ERROR"}
    assert client.outbox.closed == (1011, "internal error")
    assert tree.board.statistics().sessions == 0
    _, client = stopped("/connections/conn-1")
    assert outcomes(client) == {"a": "CANCELLED"}
    assert client.outbox.closed == (1008, "disconnected by an operator of the broker")


def test_an_operator_restarts_the_guardian_and_a_subtree() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    ask(client, "a")
    tree.supervisors.restart("/broker")
    tree.settle()
    assert end_all(tree, client) == [{"a": ""}]
    tree.supervisors.restart("/providers")
    tree.settle()
    ask(client, "b")
    assert end_all(tree, client) == [{"b": ""}]
    names = [ProviderName("kimi"), ProviderName("glm")]
    assert [tree.actor(f"/providers/{name}").incarnation for name in names] == [2, 2]


def test_a_supervisor_may_take_as_long_to_stop_as_its_children_which_have_limits() -> None:
    root = RootNursery({"sessions": list}, RestartSettings(), lambda _: None)
    assert [child.shutdown_s for child in root.spec.children] == [inf]
    connection = TemporaryNursery().specify("conn-1")
    assert connection is not None
    assert connection.shutdown_s < inf
