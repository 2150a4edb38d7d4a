"""Who is admitted, and what happens to those who are not."""

from __future__ import annotations

import json

import pytest
import structlog

from exai_actors.actors.connection.settings import ConnectionSettings
from exai_actors.core.authentication import Identity
from exai_actors.core.places import PlaceLimits
from exai_actors.core.statistics import StrangerStatistics
from exai_actors.ids import TenantName
from exai_actors.messages.connection import HelloTimeout
from exai_actors.ports import Peer
from exai_actors.testing.tree import ManualClient, ManualTree

BATCH, DESK = "token of the batch job", "token of the desks"
TOKENS = ((BATCH, Identity(TenantName("batch"))), (DESK, Identity(TenantName("desk"))))


def hello(tree: ManualTree, token: str | None = None, address: str = "10.0.0.1") -> ManualClient:
    client = tree.connect(Peer(address))
    client.send({"op": "hello"} if token is None else {"op": "hello", "token": token})
    return client


def admitted(clients: list[ManualClient]) -> int:
    return sum(client.outbox.is_admitted for client in clients)


def test_a_connection_is_a_strangers_until_it_is_admitted() -> None:
    tree = ManualTree(token=DESK)
    client = tree.connect()
    seen = [(client.outbox.is_admitted, tree.board.statistics().connections)]
    client.send({"op": "hello", "token": DESK})
    seen.append((client.outbox.is_admitted, tree.board.statistics().connections))
    assert seen == [(False, 0), (True, 1)]
    client.vanish()
    assert tree.board.statistics().connections == 0


@pytest.mark.parametrize("token", [None, BATCH])
def test_a_stranger_that_is_refused_takes_no_place(token: str | None) -> None:
    tree = ManualTree(token=DESK, places=PlaceLimits(1))
    assert not hello(tree, token).outbox.is_admitted
    assert hello(tree, DESK).outbox.is_admitted


def test_a_client_without_a_place_is_refused_with_the_reason() -> None:
    tree = ManualTree(places=PlaceLimits(2))
    clients = [hello(tree) for _ in range(3)]
    assert admitted(clients) == 2
    (ack,) = clients[2].outbox.frames
    assert (ack["ok"], ack["error"]) == (False, "overloaded")
    assert ack["message"] == "all 2 connections are in use; come later"
    assert clients[2].outbox.closed == (1008, "not admitted")
    assert tree.board.statistics().refused == 1
    clients[0].vanish()
    assert hello(tree).outbox.is_admitted


def test_a_tenant_cannot_take_the_places_of_another() -> None:
    tree = ManualTree(tokens=TOKENS, places=PlaceLimits(8))
    assert admitted([hello(tree, BATCH) for _ in range(8)]) == 6
    assert admitted([hello(tree, DESK) for _ in range(2)]) == 2


def test_an_address_cannot_take_more_places_than_it_may_by_saying_hello_late() -> None:
    tree = ManualTree(places=PlaceLimits(8, per_address=2))
    waiting = [tree.connect(Peer("10.0.0.1")) for _ in range(5)]
    for client in waiting:
        client.send({"op": "hello"})
    assert admitted(waiting) == 2
    assert hello(tree, address="10.0.0.2").outbox.is_admitted


def test_a_hello_refused_for_want_of_a_session_gives_its_place_back() -> None:
    tree = ManualTree(sessions=1, places=PlaceLimits(2))
    first = hello(tree)
    for _ in range(5):
        assert not hello(tree).outbox.is_admitted
    assert tree.board.statistics().connections == 1
    first.vanish()
    assert hello(tree).outbox.is_admitted


def test_a_client_that_is_gone_before_it_is_admitted_takes_no_place() -> None:
    tree = ManualTree(places=PlaceLimits(1))
    client = tree.connect()
    client.ref.tell_system(HelloTimeout(is_last=True))
    client.send({"op": "hello"})
    client.vanish()
    assert tree.board.statistics().connections == 0
    assert hello(tree).outbox.is_admitted


def test_a_hello_that_arrived_while_the_process_stood_still_is_in_time() -> None:
    tree = ManualTree(connection=ConnectionSettings(hello_timeout_s=3.0))
    client = tree.connect()
    # After a pause of the process the timer comes first, and then what the socket has received.
    client.ref.tell_system(HelloTimeout())
    (ack,) = client.send({"op": "hello"})
    assert ack["ok"]
    tree.advance(60.0)
    assert client.outbox.closed is None


def test_the_statistics_name_strangers_and_those_that_gave_way() -> None:
    tree = ManualTree()
    assert tree.board.statistics().strangers == 0
    tree.board.register_strangers(lambda: StrangerStatistics(7, 5))
    statistics = tree.board.statistics()
    assert (statistics.strangers, statistics.strangers_displaced) == (7, 5)


def rotate(client: ManualClient, old: str, new: str) -> dict[str, object]:
    return client.send({"op": "rotate_token", "old": old, "new": new})[0]


def test_a_client_can_replace_its_own_token_only() -> None:
    tree = ManualTree(tokens=TOKENS)
    client = tree.client(token=BATCH)
    assert rotate(client, DESK, "x" * 20)["error"] == "unauthorized"
    assert hello(tree, DESK).outbox.is_admitted
    assert rotate(client, BATCH, "x" * 20)["ok"] is True
    assert rotate(client, BATCH, "y" * 20)["error"] == "unauthorized"
    assert rotate(client, "x" * 20, "y" * 20)["ok"] is True


@pytest.mark.parametrize("guess", ["wrong-token-wrong", DESK, "ä" * 16])
def test_the_third_wrong_token_ends_the_connection_that_guesses(guess: str) -> None:
    tree = ManualTree(tokens=TOKENS)
    client = tree.client(token=BATCH)
    with structlog.testing.capture_logs() as log:
        for _ in range(3):
            client.send(b'{"op":"rotate_token","old":%b,"new":"%b"}' % (dumps(guess), b"x" * 20))
    assert client.outbox.closed == (4003, "unauthorized")
    (entry,) = (each for each in log if each["event"] == "access.tokens_guessed")
    assert (entry["address"], entry["wrong_tokens"]) == ("127.0.0.1", 3)
    assert "token" not in str([each for each in entry.values() if each != entry["event"]])


def test_a_rotation_to_the_same_token_ends_no_connection() -> None:
    tree = ManualTree(tokens=TOKENS)
    clients = [tree.client(token=BATCH) for _ in range(2)]
    assert rotate(clients[0], BATCH, BATCH)["ok"] is True
    clients[1].received()
    assert clients[1].outbox.closed is None


def dumps(text: str) -> bytes:
    return json.dumps(text).encode()


def test_a_rotation_ends_the_other_connections_of_the_token_and_is_logged() -> None:
    tree = ManualTree(tokens=TOKENS)
    clients = [tree.client(token=BATCH) for _ in range(3)]
    other = tree.client(token=DESK)
    with structlog.testing.capture_logs() as log:
        assert rotate(clients[0], BATCH, "x" * 20)["ok"] is True
    for client in (*clients, other):
        client.received()
    assert [client.outbox.closed for client in clients] == [None, *[(4003, "unauthorized")] * 2]
    assert other.outbox.closed is None
    (entry,) = log
    assert (entry["event"], entry["connections_ended"]) == ("access.token_rotated", 2)
    assert "x" * 20 not in str(entry)
    assert BATCH not in str(entry)


def test_wrong_tokens_of_an_address_are_answered_later_and_right_ones_immediately() -> None:
    tree = ManualTree(token=DESK)
    guessers = [hello(tree, BATCH) for _ in range(5)]
    assert [client.outbox.closed is not None for client in guessers] == [True] * 2 + [False] * 3
    assert hello(tree, DESK).outbox.is_admitted
    assert hello(tree, BATCH, "10.0.0.2").outbox.closed is not None
    tree.advance(1.0)
    for client in guessers:
        client.received()
        assert client.outbox.closed == (4003, "unauthorized")
    tree.advance(60.0)
    assert hello(tree, BATCH).outbox.closed is not None
    assert tree.board.statistics().wrong_tokens == 7
