"""How much an actor carries, of which there are thousands."""

from __future__ import annotations

from tests.actors.desk import Desk

# CPython 3.11 keeps fewer than this many in the object; with more, all of them move to a dictionary
# of its own, 1.3 KB, and each access takes the longer way.
MOST_ATTRIBUTES = 30


def test_no_actor_has_more_attributes_than_an_object_holds_by_itself() -> None:
    desk = Desk()
    client = desk.client()
    client.call("a")
    desk.upstream.calls[0].complete()
    assert client.heard()
    for path in desk.system.paths():
        ref = desk.system.resolve(path)
        assert ref is not None
        actor = ref._actor_weakref()
        assert len(vars(actor)) < MOST_ATTRIBUTES, path
