"""The number of requests of a session that run, and the order in which the others start."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from exai_actors.core.session.window import Window
from exai_actors.ids import ConversationId, RequestKey
from tests.leftovers import leftovers

TALK, OTHER = ConversationId("talk"), ConversationId("other")
CONVERSATIONS = st.sampled_from([None, TALK, OTHER])


def key(number: int) -> RequestKey:
    return RequestKey(str(number))


def test_requests_start_then_wait_then_are_refused() -> None:
    window = Window(limit=2, conversation_limit=1, queue=1)
    entries = [window.enter(key(number), None) for number in range(4)]
    assert entries == [
        "started",
        "started",
        "waiting",
        "full",
    ]
    assert (window.running, window.waiting) == (2, 1)


def test_an_end_starts_the_request_that_waited_longest() -> None:
    window = Window(limit=1, conversation_limit=1, queue=8)
    for number in range(3):
        window.enter(key(number), None)
    assert window.leave(key(0)) == (key(1),)
    assert window.leave(key(1)) == (key(2),)
    assert window.leave(key(2)) == ()


def test_a_refused_request_can_enter_later() -> None:
    window = Window(limit=1, conversation_limit=1, queue=0)
    window.enter(key(0), None)
    assert window.enter(key(1), None) == "full"
    window.leave(key(0))
    assert window.enter(key(1), None) == "started"


def test_requests_of_one_conversation_run_one_after_the_other() -> None:
    window = Window(limit=8, conversation_limit=1, queue=8)
    assert window.enter(key(0), TALK) == "started"
    assert window.enter(key(1), TALK) == "waiting"
    assert window.enter(key(2), TALK) == "waiting"
    assert window.leave(key(0)) == (key(1),)
    assert window.leave(key(1)) == (key(2),)


def test_a_waiting_conversation_does_not_block_others() -> None:
    window = Window(limit=2, conversation_limit=1, queue=8)
    window.enter(key(0), TALK)
    window.enter(key(1), TALK)
    assert window.enter(key(2), OTHER) == "started"


def test_a_waiting_request_that_leaves_starts_no_other() -> None:
    window = Window(limit=1, conversation_limit=1, queue=8)
    window.enter(key(0), None)
    window.enter(key(1), None)
    window.enter(key(2), None)
    assert window.leave(key(1)) == ()
    assert window.leave(key(0)) == (key(2),)


def test_the_end_of_a_request_starts_the_next_of_its_conversation() -> None:
    window = Window(limit=2, conversation_limit=1, queue=8)
    window.enter(key(0), TALK)
    window.enter(key(1), None)
    window.enter(key(2), TALK)
    window.enter(key(3), OTHER)
    assert window.leave(key(1)) == (key(3),)
    assert window.leave(key(0)) == (key(2),)


def test_a_conversation_limit_above_one_lets_that_many_run() -> None:
    window = Window(limit=8, conversation_limit=2, queue=8)
    entries = [window.enter(key(number), TALK) for number in range(3)]
    assert entries == ["started", "started", "waiting"]


@pytest.mark.parametrize("number", [0, 1])
def test_a_request_cannot_enter_twice(number: int) -> None:
    window = Window(limit=1, conversation_limit=1, queue=8)
    window.enter(key(0), None)
    window.enter(key(1), None)
    with pytest.raises(ValueError, match=f"request '{number}' is already in the window"):
        window.enter(key(number), None)


class WindowMachine(RuleBasedStateMachine):
    """The window beside plain lists in order of arrival."""

    @initialize(
        limit=st.integers(1, 4), conversation_limit=st.integers(1, 2), queue=st.integers(0, 6)
    )
    def open(self, limit: int, conversation_limit: int, queue: int) -> None:
        self.window = Window(limit, conversation_limit, queue)
        self.conversation: dict[RequestKey, ConversationId | None] = {}
        self.running: list[RequestKey] = []
        self.waiting: list[RequestKey] = []
        self.started_order: list[RequestKey] = []
        self.came = 0

    def of_conversation(self) -> Counter[ConversationId | None]:
        return Counter(self.conversation[request] for request in self.running)

    def is_held_back_by_its_conversation(self, request: RequestKey) -> bool:
        conversation = self.conversation[request]
        if conversation is None:
            return False
        return self.of_conversation()[conversation] >= self.window.conversation_limit

    def started(self, request: RequestKey) -> None:
        self.running.append(request)
        self.started_order.append(request)

    @rule(conversation=CONVERSATIONS)
    def enter(self, conversation: ConversationId | None) -> None:
        self.came += 1
        request = key(self.came)
        self.conversation[request] = conversation
        match self.window.enter(request, conversation):
            case "started":
                self.started(request)
            case "waiting":
                self.waiting.append(request)
            case "full":
                assert len(self.waiting) == self.window.queue

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_running_request_ends(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.running))
        self.running.remove(request)
        for started in self.window.leave(request):
            earlier = self.waiting[: self.waiting.index(started)]
            assert all(self.is_held_back_by_its_conversation(each) for each in earlier)
            self.waiting.remove(started)
            self.started(started)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def a_waiting_request_leaves(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.waiting))
        assert self.window.leave(request) == ()
        self.waiting.remove(request)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_running_request_runs_again(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.running))
        again = replace(request, run=request.run + 1)
        self.window.rename(request, again)
        self.conversation[again] = self.conversation[request]
        self.running[self.running.index(request)] = again

    @rule(number=st.integers(900, 903))
    def leaving_without_being_there_changes_nothing(self, number: int) -> None:
        assert self.window.leave(key(number)) == ()

    @invariant()
    def no_bound_is_ever_exceeded(self) -> None:
        window = self.window
        assert window.running == len(self.running) <= window.limit
        assert window.waiting == len(self.waiting) <= window.queue
        for conversation, count in self.of_conversation().items():
            assert conversation is None or count <= window.conversation_limit

    @invariant()
    def no_request_waits_that_could_run(self) -> None:
        if len(self.running) < self.window.limit:
            assert all(self.is_held_back_by_its_conversation(each) for each in self.waiting)

    @invariant()
    def each_conversation_and_all_without_one_start_in_order(self) -> None:
        for conversation in (None, TALK, OTHER):
            order = [
                int(request.text)
                for request in self.started_order
                if self.conversation[request] == conversation
            ]
            assert order == sorted(order)

    @invariant()
    def each_request_is_in_one_place(self) -> None:
        for request in (*self.running, *self.waiting):
            with pytest.raises(ValueError, match="already in the window"):
                self.window.enter(request, None)

    def teardown(self) -> None:
        # Waiting requests first, so that no running one starts another.
        for request in (*self.waiting, *self.running):
            self.window.leave(request)
        assert leftovers(self.window) == {}


TestWindow = WindowMachine.TestCase


def test_a_request_passes_lower_priorities_but_not_its_own_conversation() -> None:
    window = Window(limit=1, conversation_limit=1, queue=9)
    talk = ConversationId("talk")
    assert window.enter(RequestKey("running"), None) == "started"
    window.enter(RequestKey("first"), None)
    window.enter(RequestKey("mine"), talk)
    window.enter(RequestKey("second"), None)
    window.enter(RequestKey("urgent"), talk, priority=3)
    order = []
    ended = RequestKey("running")
    while started := window.leave(ended):
        (ended,) = started
        order.append(ended.text)
    assert order == ["first", "mine", "urgent", "second"]
