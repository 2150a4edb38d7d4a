"""The effects of actions on actors, and the state of an actor that admins see."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from exai_actors.core.operations.action import Effect, Undo
from exai_actors.core.operations.actor_effects import (
    MAX_STATE_ENTRIES,
    Lost,
    attributes_of,
    restarted,
    resumed,
    stopped,
    suspended,
)
from exai_actors.core.operators import Role
from exai_actors.core.places import PlaceLimits
from tests.idle_provider import IDLE


@pytest.mark.parametrize(
    ("below", "end", "arguments"),
    [
        (None, "", {}),
        (0, "; 0 actors below with it", {"subtree": "yes"}),
        (1, "; 1 actor below with it", {"subtree": "yes"}),
        (7, "; 7 actors below with it", {"subtree": "yes"}),
    ],
)
def test_a_suspension_is_undone_by_a_resumption_of_the_same_actors(
    below: int | None, end: str, arguments: dict[str, Any]
) -> None:
    assert suspended(2, below, "running") == Effect(
        f"it handles no message until it is resumed; 2 messages wait now{end}",
        "running",
        Undo("actor.resume", arguments),
    )
    assert resumed(1, below, "suspended") == Effect(
        f"it handles messages again; 1 message waits{end}",
        "suspended",
        Undo("actor.suspend", arguments),
    )


@pytest.mark.parametrize(
    ("lost", "text"),
    [
        (Lost(), ""),
        (Lost(below=1), "; 1 actor below with it"),
        (
            Lost(providers=(replace(IDLE, in_flight=1, queued=1),)),
            (
                "; 1 call in flight aborted, and their requests and 1 queued request go to another "
                "provider of their route or end with SERVICE_UNAVAILABLE"
            ),
        ),
        (
            Lost(
                below=2,
                providers=(
                    replace(IDLE, in_flight=1, queued=2),
                    replace(IDLE, in_flight=2, queued=3),
                ),
            ),
            (
                "; 2 actors below with it; 3 calls in flight aborted, and their requests and "
                "5 queued requests go to another provider of their route or end with "
                "SERVICE_UNAVAILABLE"
            ),
        ),
        (
            Lost(requests=0, clients=1),
            "; 0 requests end with INTERNAL_ERROR; 1 client disconnected",
        ),
        (
            Lost(requests=1, clients=2),
            "; 1 request ends with INTERNAL_ERROR; 2 clients disconnected",
        ),
    ],
)
def test_all_that_ends_with_an_actor_is_counted(lost: Lost, text: str) -> None:
    assert stopped(3, lost, "running") == Effect(
        "it ends after its present message and stays so until it is restarted"
        f"{text}; 3 messages wait in it",
        "running",
        Undo("actor.restart"),
    )
    assert restarted(1, lost, "running") == Effect(
        f"it ends after its present message and is started again{text}; 1 message waits in it",
        "running",
    )


class Slotted:
    __slots__ = ("_count", "never_set")

    def __init__(self) -> None:
        self._count = 3


class Thing(Slotted):
    def __init__(self) -> None:
        super().__init__()
        self._cell = object()
        self.actor_ref = object()
        self.system = object()
        self.now = 3.0
        self.name = "a secret"
        self.share = 0.5
        self.is_open = True
        self.nothing = None
        self.role = Role.ADMIN
        self._queue = deque("abc")
        self.limits = PlaceLimits(per_address=4)


def test_the_state_of_an_actor_has_figures_sizes_and_classes_and_no_text() -> None:
    assert attributes_of(Thing()) == {
        "count": 3,
        "name": "str of 8",
        "share": 0.5,
        "is_open": True,
        "nothing": None,
        "role": "ADMIN",
        "queue": "deque of 3",
        "limits": {"connections": 1000, "per_tenant": None, "per_address": 4},
    }


def test_a_class_may_have_a_single_slot() -> None:
    one = type("One", (), {"__slots__": "only"})()
    one.only = 1
    assert attributes_of(one) == {"only": 1}


def test_a_large_state_is_cut() -> None:
    thing = SimpleNamespace()
    for number in range(MAX_STATE_ENTRIES + 50):
        setattr(thing, f"figure_{number:03}", number)
    found = attributes_of(thing)
    assert len(found) == MAX_STATE_ENTRIES
    assert list(found)[:2] == ["figure_000", "figure_001"]
