"""The order across sessions: one request per session and turn."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.fair_queue import FairQueue
from exai_actors.ids import RequestKey, SessionId

Entry = tuple[SessionId, RequestKey]
SESSIONS = [SessionId(name) for name in "abc"]
# More comes than goes, so that sessions have several requests waiting.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put"] * 4 + ["take"] * 2 + ["remove first", "remove all"]),
        st.sampled_from(SESSIONS),
    ),
    max_size=60,
)


class BruteForce:
    """Round robin told plainly: a circle of sessions, each with a list."""

    def __init__(self) -> None:
        self.circle: list[SessionId] = []
        self.lists: dict[SessionId, list[Entry]] = {session: [] for session in SESSIONS}

    def put(self, entry: Entry) -> None:
        self.lists[entry[0]].append(entry)
        if entry[0] not in self.circle:
            self.circle.append(entry[0])

    def take(self) -> Entry | None:
        if not self.circle:
            return None
        session = self.circle.pop(0)
        entry = self.lists[session].pop(0)
        if self.lists[session]:
            self.circle.append(session)
        return entry

    def remove(self, session: SessionId, how_many: int) -> None:
        del self.lists[session][:how_many]
        if not self.lists[session] and session in self.circle:
            self.circle.remove(session)


@given(STEPS)
def test_sessions_are_served_as_by_a_plain_round_robin(steps: list[tuple[str, SessionId]]) -> None:
    queue: FairQueue[Entry] = FairQueue(1000)
    plain = BruteForce()
    for number, (step, session) in enumerate(steps):
        match step:
            case "put":
                entry = (session, RequestKey(str(number)))
                queue.put(*entry, entry)
                plain.put(entry)
            case "take":
                assert queue.take() == plain.take()
            case "remove first":
                for _, request in plain.lists[session][:1]:
                    queue.remove(session, request)
                plain.remove(session, 1)
            case "remove all":
                queue.remove_session(session)
                plain.remove(session, 1000)
    while (expected := plain.take()) is not None:
        assert queue.take() == expected
    assert queue.take() is None


def test_a_small_session_waits_for_one_request_of_the_greedy_one() -> None:
    queue: FairQueue[str] = FairQueue(1000)
    for number in range(24):
        queue.put(SESSIONS[0], RequestKey(str(number)), f"greedy {number}")
    queue.put(SESSIONS[1], RequestKey("0"), "small 0")
    queue.put(SESSIONS[1], RequestKey("1"), "small 1")
    assert [queue.take() for _ in range(5)] == [
        "greedy 0",
        "small 0",
        "greedy 1",
        "small 1",
        "greedy 2",
    ]


def test_a_request_that_leaves_does_not_cost_its_session_the_turn() -> None:
    queue: FairQueue[str] = FairQueue(1000)
    for session in SESSIONS:
        queue.put(session, RequestKey("1"), f"{session}1")
        queue.put(session, RequestKey("2"), f"{session}2")
    queue.remove(SESSIONS[0], RequestKey("1"))
    assert [queue.take() for _ in range(3)] == ["a2", "b1", "c1"]


def test_a_session_that_comes_back_waits_its_turn() -> None:
    queue: FairQueue[str] = FairQueue(1000)
    for session in SESSIONS:
        queue.put(session, RequestKey("1"), f"{session}1")
        queue.put(session, RequestKey("2"), f"{session}2")
    queue.remove_session(SESSIONS[0])
    queue.put(SESSIONS[0], RequestKey("3"), "a3")
    assert [queue.take() for _ in range(3)] == ["b1", "c1", "a3"]
