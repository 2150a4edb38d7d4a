"""The access token identifies the tenant, which has its own share and its own sessions."""

from __future__ import annotations

import json

from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.authentication import Identity
from exai_actors.core.capacity.settings import CapacitySettings
from exai_actors.ids import TenantName
from exai_actors.testing.tree import ManualClient, ManualTree

BATCH, DESK = "token of the batch job", "token of the tree now"
TOKENS = ((BATCH, Identity(TenantName("batch"), 20)), (DESK, Identity(TenantName("tree"))))


def queue_up(client: ManualClient, name: str, count: int) -> None:
    for number in range(count):
        client.call(f"{name}-{number}", name)


def served(tree: ManualTree, count: int) -> list[str]:
    for index in range(count):
        tree.upstream.calls[index].complete()
        tree.settle()
    return [call.prompt for call in tree.upstream.calls[:count]]


def test_tenants_share_equally_regardless_of_their_number_of_sessions() -> None:
    tree = ManualTree(limit=1, tokens=TOKENS)
    sessions = [tree.client(token=BATCH) for _ in range(5)]
    for session in sessions:
        queue_up(session, "batch", 4)
    queue_up(tree.client(token=DESK), "tree", 8)
    turns = served(tree, 13)[1:]
    assert turns.count("tree") == turns.count("batch") == 6


def test_a_tenant_of_twice_the_weight_gets_twice_as_much() -> None:
    weights = ((TenantName("tree"), 2.0), (TenantName("batch"), 1.0))
    session = SessionSettings(window=20)
    tree = ManualTree(
        tokens=TOKENS, session=session, capacity=CapacitySettings(limit=1, weights=weights)
    )
    queue_up(tree.client(token=BATCH), "batch", 18)
    queue_up(tree.client(token=DESK), "tree", 18)
    turns = served(tree, 19)[1:]
    assert turns.count("tree") == 12


def test_a_tenant_cannot_reach_a_session_of_another_by_its_name() -> None:
    tree = ManualTree(limit=1, tokens=TOKENS)
    mine = tree.client("notebook", token=DESK)
    theirs = tree.client("notebook", token=BATCH)
    mine.call("a", "mine")
    tree.upstream.calls[0].complete("for the tree")
    mine.received()
    theirs.call("a", "mine")
    assert len(tree.upstream.calls) == 2
    tree.upstream.calls[1].complete("for the batch")
    (answer,) = theirs.received()
    assert answer["text"] == "for the batch"


def test_a_client_can_resume_the_session_id_of_its_hello_ack() -> None:
    tree = ManualTree(limit=1, tokens=TOKENS)
    first = tree.connect()
    (ack,) = first.send({"op": "hello", "token": DESK})
    first.call("a", "mine")
    tree.upstream.calls[0].complete("kept")
    first.vanish()
    again = tree.client(ack["session_id"], token=DESK)
    (answer,) = again.call("a", "mine")
    assert answer["text"] == "kept"
    assert len(tree.upstream.calls) == 1


def test_a_tenants_window_is_that_of_its_sessions() -> None:
    tokens = ((BATCH, Identity(TenantName("batch"), 1)),)
    tree = ManualTree(limit=10, tokens=tokens)
    queue_up(tree.client(token=BATCH), "batch", 3)
    assert len(tree.upstream.calls) == 1


def test_no_client_is_admitted_without_one_of_the_tokens() -> None:
    tree = ManualTree(tokens=TOKENS)
    (answer,) = tree.connect().send({"op": "hello"})
    assert answer["ok"] is False
    assert answer["error"] == "unauthorized"


def test_a_tenant_that_opens_sessions_without_end_deletes_no_outcome_of_another() -> None:
    tree = ManualTree(tokens=TOKENS, sessions=20)
    mine = tree.client("notebook", token=DESK)
    mine.call("a", "mine")
    tree.upstream.calls[0].complete("paid for")
    mine.vanish()
    for number in range(100):
        tree.client(f"batch {number}", token=BATCH).vanish()
    (answer,) = tree.client("notebook", token=DESK).call("a", "mine")
    assert answer["text"] == "paid for"
    assert len(tree.upstream.calls) == 1
    assert tree.board.statistics().sessions == 20


def test_the_requests_that_wait_in_a_session_count_for_its_tenant() -> None:
    tree = ManualTree(limit=1, tokens=TOKENS, session=SessionSettings(window=2))
    desk = tree.client(token=DESK)
    queue_up(desk, "tree", 5)
    (tenant,) = [each for each in tree.board.tenants() if each.name == "tree"]
    assert (tenant.in_flight, tenant.queued) == (1, 4)
    (session,) = tenant.sessions
    assert (session.in_flight, session.queued) == (1, 4)
    desk.vanish()
    assert [each for each in tree.board.tenants() if each.queued] == []


def test_a_client_sees_all_tenants_and_the_sessions_of_its_own() -> None:
    tree = ManualTree(limit=1, tokens=TOKENS)
    queue_up(tree.client("a-long-name-of-a-session", token=BATCH), "batch", 2)
    desk = tree.client("the-only-session-of-the-desk", token=DESK)
    queue_up(desk, "tree", 1)
    [answer] = desk.send({"op": "call_tool", "request_id": "s", "name": "status"})
    tenants = {each["name"]: each for each in json.loads(answer["text"])["tenants"]}
    assert (tenants["batch"]["in_flight"], tenants["batch"]["queued"]) == (1, 1)
    assert tenants["batch"]["sessions"] == []
    assert tenants["tree"]["sessions"] == [
        {"session": "the-only-ses...", "in_flight": 0, "queued": 1}
    ]
