"""Requests that an operator moves to the front, holds and releases, in the fair queue."""

from __future__ import annotations

from exai_actors.core.capacity.fair_queue import FairQueue
from exai_actors.ids import DEFAULT_TENANT, RequestKey, SessionId

A, B = SessionId("a"), SessionId("b")


def filled(*names: str, limit: int = 10) -> FairQueue[str]:
    """A queue of requests, each of the session that its name begins with."""
    queue: FairQueue[str] = FairQueue(limit)
    for name in names:
        put(queue, name)
    return queue


def put(queue: FairQueue[str], name: str, cost: float = 1.0) -> bool:
    flow = queue.flow(SessionId(name[0]), DEFAULT_TENANT)
    return queue.put(flow, RequestKey(name), name, cost, 0.0)


def key(name: str) -> tuple[SessionId, RequestKey]:
    return SessionId(name[0]), RequestKey(name)


def taken(queue: FairQueue[str]) -> list[str]:
    assert list(queue.violations()) == []
    names = []
    while (name := queue.take(0.0)) is not None:
        names.append(name)
        assert list(queue.violations()) == []
    return names


def test_requests_at_the_front_go_in_the_order_in_which_they_were_moved() -> None:
    queue = filled("a1", "a2", "a3", "b1", "b2")
    for name in ("b2", "a3", "b2"):
        queue.move_first(*key(name))
    assert list(queue.in_service_order())[:2] == ["b2", "a3"]
    assert taken(queue)[:2] == ["b2", "a3"]
    assert not queue.queued


def test_a_request_at_the_front_is_charged_so_that_its_session_pays_later() -> None:
    queue = filled("b1", "b2")
    put(queue, "a1", 10.0)
    put(queue, "a2")
    queue.move_first(*key("a1"))
    assert taken(queue) == ["a1", "b1", "b2", "a2"]


def test_an_idle_session_that_goes_first_gains_nothing_for_the_time_before() -> None:
    queue = filled(*(f"b{number}" for number in range(5)))
    for _ in range(5):
        queue.take(0.0)
        queue.settle(queue.flow(B, DEFAULT_TENANT), 1.0, 1.0, 1.0)
    put(queue, "a1", 4.0)
    queue.move_first(*key("a1"))
    assert queue.take(0.0) == "a1"
    for name in ("a2", "a3", "b5", "b6", "b7"):
        put(queue, name)
    assert taken(queue)[:3] == ["b5", "b6", "b7"]


def test_a_held_request_has_no_turn_and_others_pass() -> None:
    queue = filled("a1", "a2", "b1")
    queue.hold(*key("a1"))
    assert queue.is_held(*key("a1"))
    assert taken(queue) == ["a2", "b1"]
    assert list(queue.aside) == [], "time does not release it"
    assert list(queue.in_service_order()) == ["a1"]
    queue.release(*key("a1"), 0.0)
    assert not queue.is_held(*key("a1"))
    assert taken(queue) == ["a1"]


def test_a_released_request_has_its_old_place_in_its_session() -> None:
    queue = filled("a1", "a2", "a3")
    queue.hold(*key("a2"))
    queue.release(*key("a2"), 0.0)
    assert taken(queue) == ["a1", "a2", "a3"]


def test_one_that_waits_for_its_model_can_be_held_and_stays_so() -> None:
    queue = filled("a1", "b1")
    queue.set_aside(*key("a1"))
    queue.hold(*key("a1"))
    assert list(queue.aside) == []
    queue.move_first(*key("a1"))
    assert taken(queue) == ["a1", "b1"]


def test_one_at_the_front_can_wait_for_its_model_and_be_held() -> None:
    queue = filled("a1", "b1", "b2")
    queue.move_first(*key("b2"))
    queue.set_aside(*key("b2"))
    assert list(queue.aside) == ["b2"]
    assert queue.peek(0.0) == "a1"
    queue.restore(*key("b2"), 0.0)
    queue.move_first(*key("b2"))
    queue.hold(*key("b2"))
    assert taken(queue) == ["a1", "b1"]


def test_removed_and_forgotten_ones_leave_nothing_behind() -> None:
    queue = filled("a1", "a2", "b1", "b2")
    queue.move_first(*key("a1"))
    queue.hold(*key("a2"))
    queue.hold(*key("b1"))
    assert queue.remove(*key("b1")) == "b1"
    assert sorted(queue.forget(A)) == ["a1", "a2"]
    put(queue, "b1")
    assert not queue.is_held(*key("b1")), "it is another request"
    assert taken(queue) == ["b2", "b1"]


def test_they_count_in_a_full_queue_and_give_way_as_others_do() -> None:
    queue = filled("a1", "a2", "a3", limit=3)
    queue.move_first(*key("a2"))
    queue.hold(*key("a3"))
    assert not put(queue, "b1")
    assert queue.make_room(queue.flow(B, DEFAULT_TENANT)) == "a3"
    assert put(queue, "b1")
    assert taken(queue)[0] == "a2"


def test_unknown_requests_are_ignored() -> None:
    queue = filled("a1")
    queue.move_first(*key("b9"))
    queue.hold(*key("b9"))
    queue.release(*key("b9"), 0.0)
    assert taken(queue) == ["a1"]


def weighted(queue: FairQueue[str]) -> list[str]:
    """The first eight of two sessions with many requests each, the first of weight 3."""
    queue.set_session_weight(A, 3.0)
    for number in range(8):
        put(queue, f"a{number}")
        put(queue, f"b{number}")
    predicted = list(queue.in_service_order())
    names = taken(queue)
    assert names == predicted
    return names[:8]


def test_a_session_of_weight_three_gets_three_quarters() -> None:
    assert "".join(name[0] for name in weighted(filled(limit=100))) == "abaabaaa"


def test_a_weight_counts_for_a_session_that_is_known_already_and_for_calls_without_waiting() -> (
    None
):
    queue = filled("a0", "b0")
    assert sorted(taken(queue)) == ["a0", "b0"]
    flow_a, flow_b = (queue.flow(session, DEFAULT_TENANT) for session in (A, B))
    queue.set_session_weight(A, 3.0)
    for _ in range(3):
        queue.charge(flow_a, 1.0)
    queue.charge(flow_b, 1.0)
    assert abs(flow_a.start - flow_b.start) < 1e-9


def test_calls_in_flight_are_settled_in_full_after_a_change_of_weight() -> None:
    queue = filled("a1")
    taken(queue)
    flow = queue.flow(A, DEFAULT_TENANT)
    queue.set_session_weight(A, 4.0)
    queue.settle(flow, 1.0, 1.0, 1.0)
    assert abs(flow.unsettled) < 1e-12


def test_the_weight_of_a_session_outlives_its_actor_until_the_owner_forgets_it() -> None:
    weights: dict[SessionId, float] = {}
    queue: FairQueue[str] = FairQueue(10, session_weights=weights)
    queue.set_session_weight(A, 4.0)
    queue.forget(A)
    assert queue.flow(A, DEFAULT_TENANT).inverse_weight == 0.25
    queue.forget(A)
    weights.clear()
    assert queue.flow(A, DEFAULT_TENANT).inverse_weight == 1.0
