"""The token tells the tenant; each tenant's share and sessions are its own."""

from __future__ import annotations

from exai_actors.actors.settings import SessionSettings
from exai_actors.core.authentication import Identity
from exai_actors.core.capacity.settings import CapacitySettings
from exai_actors.ids import TenantName
from tests.actors.desk import Desk, Socket

BATCH, DESK = "token of the batch job", "token of the desk now"
TOKENS = ((BATCH, Identity(TenantName("batch"), 20)), (DESK, Identity(TenantName("desk"))))


def queue_up(client: Socket, name: str, count: int) -> None:
    for number in range(count):
        client.call(f"{name}-{number}", name)


def served(desk: Desk, count: int) -> list[str]:
    for index in range(count):
        desk.upstream.calls[index].complete()
        desk.settle()
    return [call.prompt for call in desk.upstream.calls[:count]]


def test_two_tenants_share_alike_however_many_sessions_one_of_them_opens() -> None:
    desk = Desk(limit=1, tokens=TOKENS)
    sessions = [desk.client(token=BATCH) for _ in range(5)]
    for session in sessions:
        queue_up(session, "batch", 4)
    queue_up(desk.client(token=DESK), "desk", 8)
    turns = served(desk, 13)[1:]
    assert turns.count("desk") == turns.count("batch") == 6


def test_a_tenant_of_twice_the_weight_gets_twice_as_much() -> None:
    weights = ((TenantName("desk"), 2.0), (TenantName("batch"), 1.0))
    session = SessionSettings(window=20)
    desk = Desk(tokens=TOKENS, session=session, capacity=CapacitySettings(limit=1, weights=weights))
    queue_up(desk.client(token=BATCH), "batch", 18)
    queue_up(desk.client(token=DESK), "desk", 18)
    turns = served(desk, 19)[1:]
    assert turns.count("desk") == 12


def test_a_tenant_never_reaches_a_session_of_another_by_its_name() -> None:
    desk = Desk(limit=1, tokens=TOKENS)
    mine = desk.client("notebook", token=DESK)
    theirs = desk.client("notebook", token=BATCH)
    mine.call("a", "mine")
    desk.upstream.calls[0].complete("for the desk")
    mine.heard()
    theirs.call("a", "mine")
    assert len(desk.upstream.calls) == 2
    desk.upstream.calls[1].complete("for the batch")
    (answer,) = theirs.heard()
    assert answer["text"] == "for the batch"


def test_the_session_id_told_to_a_client_leads_back_to_its_session() -> None:
    desk = Desk(limit=1, tokens=TOKENS)
    first = desk.connect()
    (ack,) = first.send({"op": "hello", "token": DESK})
    first.call("a", "mine")
    desk.upstream.calls[0].complete("kept")
    first.vanish()
    again = desk.client(ack["session_id"], token=DESK)
    (answer,) = again.call("a", "mine")
    assert answer["text"] == "kept"
    assert len(desk.upstream.calls) == 1


def test_a_tenants_window_is_that_of_its_sessions() -> None:
    tokens = ((BATCH, Identity(TenantName("batch"), 1)),)
    desk = Desk(limit=10, tokens=tokens)
    queue_up(desk.client(token=BATCH), "batch", 3)
    assert len(desk.upstream.calls) == 1


def test_without_one_of_the_tokens_nobody_comes_in() -> None:
    desk = Desk(tokens=TOKENS)
    (answer,) = desk.connect().send({"op": "hello"})
    assert answer["ok"] is False
    assert answer["error"] == "unauthorized"
