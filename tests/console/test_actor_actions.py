"""Actors are suspended, restarted, stopped, traced and described, and nobody sees content."""

from __future__ import annotations

from typing import Any

import pytest

from exai_actors.console.traces import LASTS_S, MAX_TRACES
from exai_actors.core.calls import FailureKind
from exai_actors.core.capacity.settings import CapacitySettings, RetrySettings
from exai_actors.core.operators import Role
from tests.console.operator_desk import Console, OperatorDesk

KIMI = "/providers/kimi"
SECRET = "a classified prompt"


def answer(console: Console, of: str) -> dict[str, Any]:
    (found,) = console.send({"op": "ask", "id": 1, "question": "actor", "of": of})
    result: dict[str, Any] = found.get("answer", found)
    return result


def test_a_suspended_actor_lets_messages_wait_until_it_is_resumed() -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    console = desk.console()
    (key,) = [f"{row['path']}#{row['incarnation']}" for row in console.rows("actors", filter=KIMI)]
    undo = console.act("actor.suspend", key)["undo"]
    assert undo == {"action": "actor.resume", "targets": [key], "arguments": {}}
    client.call("a")
    assert desk.tree.upstream.calls == []
    (row,) = console.rows("actors", filter=KIMI)
    assert (row["state"], row["user"]) == ("suspended", 1)
    assert console.text("actor.resume", KIMI) == "it handles messages again; 1 message waits"
    assert len(desk.tree.upstream.calls) == 1


def test_a_subtree_is_suspended_with_all_below_it() -> None:
    desk = OperatorDesk()
    console = desk.console()
    assert console.text("actor.suspend", "/providers", arguments={"subtree": "yes"}).endswith(
        "; 2 actors below with it"
    )
    states = [row["state"] for row in console.rows("actors", filter="path:/providers")]
    assert states == ["suspended"] * 3
    console.act("actor.resume", "/providers", arguments={"subtree": "yes"})
    states = [row["state"] for row in console.rows("actors", filter="path:/providers")]
    assert "suspended" not in states


def test_a_restarted_provider_serves_again_and_each_request_has_one_outcome() -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    client.call("a")
    client.call("b")
    console = desk.console()
    assert console.text("actor.restart", KIMI).startswith(
        "it ends after its present message and is started again; 1 call in flight aborted, and "
        "their requests and 1 queued request go to another provider"
    )
    frames = client.received()
    desk.tree.upstream.calls[0].close(cut_off=False)
    desk.tree.settle()
    client.call("c")
    while desk.tree.upstream.running:
        desk.tree.upstream.running[0].complete()
        desk.tree.settle()
    frames += client.received()
    ended = sorted(each["request_id"] for each in frames if each["op"] == "call_tool_res")
    assert ended == ["a", "b", "c"]
    (row,) = console.rows("actors", filter=KIMI)
    assert row["incarnation"] == 2
    assert desk.tree.statistics().is_conserved


@pytest.mark.parametrize(
    ("path", "ends"),
    [
        ("/providers", "; 2 actors below with it; 1 call in flight aborted, and their requests"),
        ("/sessions", "; 2 actors below with it; 3 requests end with INTERNAL_ERROR; 0 messages"),
        ("/sessions/1", "is started again; 2 requests end with INTERNAL_ERROR; 0 messages"),
        ("/connections", "; 2 actors below with it; 2 clients disconnected; 0 messages"),
        ("/connections/conn-1", "is started again; 1 client disconnected; 0 messages"),
        ("/broker", "it ends after its present message and is started again; 0 messages"),
    ],
)
def test_a_preview_names_everything_that_ends_with_an_actor(path: str, ends: str) -> None:
    desk = OperatorDesk(limit=1)
    first, second = desk.tree.client(), desk.tree.client()
    first.call("a")
    first.call("b")
    second.call("c")
    assert ends in desk.console().text("actor.restart", path, preview=True)


@pytest.mark.parametrize("action", ["actor.restart", "actor.stop"])
@pytest.mark.parametrize("path", ["/connections", "/connections/conn-1"])
def test_a_client_whose_connection_an_operator_ends_learns_the_reason(
    action: str, path: str
) -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    client.call("runs")
    client.call("waits")
    desk.console().act(action, path)
    frames = client.received()
    errors = [frame["error"] for frame in frames if frame["op"] == "call_tool_res"]
    assert {error["code"] for error in errors} == {"CANCELLED"}
    assert {error["message"].partition(",")[0] for error in errors} == {
        "an operator of the broker ended this connection"
    }
    assert len(errors) == 2
    assert client.outbox.closed == (1008, "disconnected by an operator of the broker")
    counts = desk.tree.overview.counts()
    assert (counts.accepted, counts.cancelled, counts.failed) == (2, 2, 0)


@pytest.mark.parametrize("path", ["/providers", KIMI])
def test_the_end_of_calls_that_a_restart_aborts_is_no_dead_letter(path: str) -> None:
    desk = OperatorDesk(limit=3)
    client = desk.tree.client()
    for name in "abcd":
        client.call(name, stream=True)
    undelivered = len(desk.tree.system.dead_letters)
    console = desk.console()
    desk.tree.system.suspend(KIMI)
    client.call("unread")
    console.act("actor.stop", path)
    for call in desk.tree.upstream.running:
        call.close()
    desk.tree.settle()
    assert len(desk.tree.system.dead_letters) == undelivered
    desk.tree.system.resume(KIMI)
    console.act("actor.restart", path)
    client.call("e")
    assert desk.tree.upstream.running[-1].prompt == "hi"
    assert desk.tree.statistics().is_conserved


def test_a_stopped_provider_stays_so_until_it_is_restarted() -> None:
    desk = OperatorDesk()
    console = desk.console()
    undo = console.act("actor.stop", KIMI)["undo"]
    assert console.rows("actors", filter=KIMI) == []
    client = desk.tree.client()
    (refused,) = client.call("a")
    assert refused["error"]["code"] == "SERVICE_UNAVAILABLE"
    console.act(undo["action"], *undo["targets"])
    client.call("b")
    assert len(desk.tree.upstream.running) == 1


@pytest.mark.parametrize(
    ("action", "target", "arguments", "problem"),
    [
        ("actor.suspend", "/nowhere", {}, "no actor is alive at /nowhere"),
        ("actor.suspend", f"{KIMI}#9", {}, "has been restarted since"),
        ("actor.suspend", KIMI, {"subtree": "all"}, "is yes or no"),
        ("actor.suspend", "/", {"subtree": "yes"}, "could not be resumed"),
        ("actor.suspend", "/consoles", {}, "could not be resumed"),
        ("actor.resume", KIMI, {}, "/providers/kimi is idle"),
        ("actor.restart", "/nowhere", {}, "no supervisor has an actor at /nowhere"),
        ("actor.stop", "/", {}, "drain the broker instead"),
        ("actor.trace", KIMI, {"messages": 0}, "a trace is of 1 to 1000 messages, not 0"),
        ("actor.trace", "/nowhere", {}, "no actor is alive at /nowhere"),
        ("request.trace", "1/9", {}, "there is no request in flight '1/9'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    action: str, target: str, arguments: dict[str, Any], problem: str
) -> None:
    desk = OperatorDesk()
    (effect,) = desk.console().act(action, target, arguments=arguments)["effects"]
    assert not effect["ok"]
    assert problem in effect["text"]


def test_the_next_messages_of_an_actor_are_noted_by_class_and_time() -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client()
    console = desk.console(Role.OPERATOR)
    console.act("actor.trace", KIMI, arguments={"messages": 3})
    client.call("a", SECRET)
    client.call("b", SECRET)
    desk.tree.upstream.calls[0].complete()
    desk.tree.settle()
    rows = desk.console(Role.VIEWER).rows("traces")
    assert [(row["actor"], row["message"]) for row in reversed(rows)] == [
        (KIMI, "RunCall"),
        (KIMI, "RunCall"),
        (KIMI, "UpstreamEnded"),
    ]
    assert "classified" not in str(rows)


def test_a_request_is_traced_through_connection_session_and_provider() -> None:
    desk = OperatorDesk(limit=1)
    client, other = desk.tree.client(), desk.tree.client()
    client.call("first")
    client.call("it", SECRET)
    other.call("it", SECRET)
    console = desk.console(Role.OPERATOR)
    row = console.rows("requests", filter="request_id:it")[0]
    console.act("request.trace", row["request"])
    while desk.tree.upstream.running:
        desk.tree.upstream.running[0].complete()
        desk.tree.settle()
    rows = console.rows("traces")
    assert [each["message"] for each in reversed(rows)] == [
        "Granted",
        "RequestGranted",
        "Completed",
        "RequestEnded",
    ]
    assert "classified" not in str(rows)


def test_traces_end_and_are_bounded() -> None:
    desk = OperatorDesk()
    console = desk.console()
    for _ in range(MAX_TRACES):
        console.act("actor.trace", KIMI)
    (refused,) = console.act("actor.trace", KIMI)["effects"]
    assert refused["text"] == f"{MAX_TRACES} traces run already; each ends after 600 s"
    desk.tree.advance(LASTS_S)
    assert console.act("actor.trace", KIMI)["failed"] == 0
    for number in range(5):
        desk.tree.client().call(f"r-{number}")
    assert len(console.rows("traces", filter="trace=17 message:RunCall")) == 5


def test_an_actor_is_described_with_its_supervision() -> None:
    desk = OperatorDesk()
    found = answer(desk.console(Role.VIEWER), KIMI)
    assert (found["class"], found["state"], found["children"]) == ("ProviderActor", "idle", [])
    assert found["supervision"]["phase"] == "running"
    root = answer(desk.console(Role.VIEWER), "/providers")
    assert root["children"] == [KIMI, "/providers/glm"]
    assert answer(desk.console(), "/nowhere")["code"] == "unknown"


def test_an_actor_that_failed_is_described_with_the_place_of_the_error() -> None:
    desk = OperatorDesk()
    desk.tree.actor(KIMI).tell(object())
    desk.tree.advance(1.0)
    (incident,) = answer(desk.console(Role.VIEWER), KIMI)["errors"]
    assert incident["path"] == KIMI
    assert "actor.py" in incident["error"]


def test_only_admins_see_the_state_of_an_actor_and_no_text_in_it() -> None:
    desk = OperatorDesk(limit=1)
    client = desk.tree.client("a-classified-session")
    client.call("a", SECRET)
    client.call("b", SECRET)
    (session,) = [row["path"] for row in desk.console().rows("actors", filter="class:SessionActor")]
    for path in (KIMI, session, "/broker"):
        assert not isinstance(answer(desk.console(Role.OPERATOR), path).get("attributes"), dict)
        state = answer(desk.console(), path)["attributes"]
        assert isinstance(state, dict)
        assert len(str(state)) > 100
        assert "classified" not in str(state)
    assert answer(desk.console(), KIMI)["attributes"]["counts"]["granted"] == 1


def test_a_suspended_provider_is_no_fault_of_the_broker() -> None:
    capacity = CapacitySettings(1, retry=RetrySettings(attempts=1))
    desk = OperatorDesk(capacity=capacity)
    client = desk.tree.client()
    client.call("a")
    desk.tree.upstream.calls[0].fail(FailureKind.RATE_LIMITED, "slow down", retry_after=10.0)
    desk.tree.settle()
    client.call("b", if_busy="wait")
    console = desk.console()
    console.act("actor.suspend", KIMI)
    desk.tree.advance(65.0)
    assert (desk.tree.statistics().queued, desk.tree.statistics().violations) == (1, 0)
    console.act("actor.resume", KIMI)
    assert len(desk.tree.upstream.running) == 1


def test_only_failed_actors_count_as_restarted() -> None:
    desk = OperatorDesk()
    console = desk.console()
    stop = desk.consoles.watch_events()
    console.act("actor.restart", KIMI)
    assert [row["restarts"] for row in console.rows("broker")] == [0]
    desk.tree.actor(KIMI).tell("no message of a provider")
    desk.tree.settle()
    assert [row["restarts"] for row in console.rows("broker")] == [1]
    stop()
