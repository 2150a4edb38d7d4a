"""A session's name alone gives nobody its outcomes and conversations."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from exai_actors.core.authentication import Identity
from exai_actors.ids import TenantName
from exai_actors.testing.tree import ManualClient, ManualTree

ONE, TWO = "token-of-tenant-one", "token-of-tenant-two"
UUID_OF_A_CLOCK = "550e8400-e29b-11d4-a716-446655440000"


def hello(tree: ManualTree, **members: Any) -> tuple[ManualClient, dict[str, Any]]:
    client = tree.connect()
    (ack,) = client.send({"op": "hello"} | members)
    assert ack["ok"] is True
    return client, ack


def answered(tree: ManualTree, client: ManualClient, request_id: str, prompt: str) -> str:
    """The conversation of a call that has been answered."""
    client.call(request_id, prompt)
    tree.upstream.calls[-1].complete(f"answer to {prompt}")
    conversation = client.received()[-1]["continuation_id"]
    assert isinstance(conversation, str)
    return conversation


def activity(client: ManualClient) -> list[Any]:
    (answer,) = client.send({"op": "tool_call", "name": "activity"})
    events = json.loads(answer["text"])["events"]
    assert isinstance(events, list)
    return events


@pytest.mark.parametrize(
    "members", [{}, {"resume": "guess"}, {"resume": ""}, {"resume": "generated-2 "}, {"resume": 7}]
)
@pytest.mark.parametrize("name", ["desk-1", "123", "0" * 64, UUID_OF_A_CLOCK])
def test_a_name_without_its_secret_is_another_session(name: str, members: dict[str, Any]) -> None:
    tree = ManualTree(limit=4)
    owner, mine = hello(tree, session_id=name)
    conversation = answered(tree, owner, "r-1", "secret")
    other, ack = hello(tree, session_id=name, **members)
    assert (ack["resumed"], "resume" in ack) == (False, False)
    assert ack["session_id"] != mine["session_id"] == name
    assert activity(other) == []
    # Its own call under the same id, neither the outcome nor DUPLICATE.
    other.call("r-1", "secret")
    assert len(tree.upstream.calls) == 2
    (refused,) = other.call("r-2", "go on", arguments={"continuation_id": conversation})
    assert refused["error"]["code"] == "NOT_FOUND"


def test_a_name_without_its_secret_cancels_nothing_of_its_owner() -> None:
    tree = ManualTree()
    owner, _ = hello(tree, session_id="desk-1")
    owner.call("r-1")
    other, _ = hello(tree, session_id="desk-1")
    (cancelled,) = other.send({"op": "cancel", "request_id": "r-1"})
    assert cancelled["found"] is False
    assert not tree.upstream.calls[0].abort_asked


def test_a_name_with_its_secret_resumes_the_session() -> None:
    tree = ManualTree()
    owner, ack = hello(tree, session_id="desk-1")
    assert ack["resumed"] is False
    conversation = answered(tree, owner, "r-1", "one")
    owner.vanish()
    again, resumed = hello(tree, session_id="desk-1", resume=ack["resume"])
    assert resumed == ack | {"resumed": True}
    (repeated,) = again.call("r-1", "one")
    assert repeated["text"] == "answer to one"
    again.call("r-2", "two", arguments={"continuation_id": conversation})
    assert len(tree.upstream.calls[-1].call.messages) == 3


def test_several_connections_share_a_session_by_its_secret() -> None:
    tree = ManualTree()
    one, ack = hello(tree, session_id="desk-1")
    two, joined = hello(tree, session_id="desk-1", resume=ack["resume"])
    assert joined["session_id"] == "desk-1"
    one.call("r-1")
    two.call("r-1")
    tree.upstream.calls[0].complete("both")
    assert [client.received()[-1]["text"] for client in (one, two)] == ["both", "both"]


@pytest.mark.parametrize("wanted", [{}, {"session_id": str(uuid4())}])
def test_a_name_that_cannot_be_guessed_is_enough(wanted: dict[str, str]) -> None:
    tree = ManualTree()
    first, ack = hello(tree, **wanted)
    assert "resume" not in ack
    answered(tree, first, "r-1", "one")
    first.vanish()
    # As the shims of the old daemon do: a random UUID for all connections of a process.
    again, resumed = hello(tree, session_id=ack["session_id"])
    assert resumed["resumed"] is True
    (repeated,) = again.call("r-1", "one")
    assert repeated["text"] == "answer to one"


def test_a_session_that_has_ended_leaves_its_name_free() -> None:
    tree = ManualTree()
    owner, ack = hello(tree, session_id="desk-1")
    answered(tree, owner, "r-1", "secret")
    owner.vanish()
    tree.advance(61.0)
    other, new = hello(tree, session_id="desk-1")
    assert (new["session_id"], new["resumed"]) == ("desk-1", False)
    assert new["resume"] != ack["resume"]
    assert activity(other) == []
    # The first owner comes back too late: the name is another's now.
    late, third = hello(tree, session_id="desk-1", resume=ack["resume"])
    assert third["session_id"] != "desk-1"
    assert activity(late) == []


def test_each_tenant_has_its_own_names_and_secrets() -> None:
    tokens = ((ONE, Identity(TenantName("one"))), (TWO, Identity(TenantName("two"))))
    tree = ManualTree(tokens=tokens)
    _, first = hello(tree, session_id="desk-1", token=ONE)
    _, second = hello(tree, session_id="desk-1", token=TWO)
    assert (first["session_id"], second["session_id"]) == ("desk-1", "desk-1")
    assert first["resume"] != second["resume"]
    _, stolen = hello(tree, session_id="desk-1", token=TWO, resume=first["resume"])
    assert stolen["session_id"] != "desk-1"


def test_old_clients_of_one_name_work_beside_each_other() -> None:
    tree = ManualTree(limit=4)
    desks = [hello(tree, session_id="load-test-1")[0] for _ in range(3)]
    for number, desk in enumerate(desks):
        desk.call("1", f"prompt {number}")
    for call in tree.upstream.calls:
        call.complete(f"answer to {call.prompt}")
    texts = [desk.received()[-1]["text"] for desk in desks]
    assert texts == [f"answer to prompt {number}" for number in range(3)]
