"""The history sent to the provider: the latest turns without a gap, within limits."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from exai_actors.core.calls import ChatMessage
from exai_actors.core.session.conversations import Conversations
from exai_actors.core.session.packing import pack
from exai_actors.ids import ConversationId

IDS = [ConversationId(name) for name in "abcdefghijkl"]
A, B, C = IDS[:3]


def turn(text: str, answer: str = "") -> tuple[ChatMessage, ChatMessage]:
    return ChatMessage("user", text), ChatMessage("assistant", answer)


def bytes_of(*texts: str) -> int:
    """The size of a history of these questions."""
    return len(pack([message for text in texts for message in turn(text)]))


TEN = bytes_of("1234567890")


def test_an_unknown_conversation_has_no_history() -> None:
    assert Conversations(count=4, turns=4, size=1000).history(A) == ()


def test_a_history_holds_questions_and_answers_oldest_first() -> None:
    conversations = Conversations(count=4, turns=4, size=1000)
    conversations.add(A, *turn("one?", "one."))
    conversations.add(A, *turn("two?", "two."))
    assert [message.content for message in conversations.history(A)] == [
        "one?",
        "one.",
        "two?",
        "two.",
    ]
    assert conversations.history(B) == ()


def test_the_oldest_turns_are_dropped_when_there_are_too_many() -> None:
    conversations = Conversations(count=4, turns=2, size=1000)
    for text in ("one?", "two?", "three?"):
        conversations.add(A, *turn(text))
    assert conversations.history(A) == turn("two?") + turn("three?")


@pytest.mark.parametrize(
    "turn_of_six",
    [
        turn("123456"),
        turn("123", "456"),
        turn("一二"),
        (ChatMessage("user", "1", images=("12", "3")), ChatMessage("assistant", "")),
    ],
)
def test_the_oldest_turns_are_dropped_when_they_are_too_large(
    turn_of_six: tuple[ChatMessage, ChatMessage],
) -> None:
    conversations = Conversations(count=4, turns=9, size=bytes_of("1234", "123456"))
    conversations.add(A, *turn("1234"))
    conversations.add(A, *turn_of_six)
    assert conversations.history(A) == turn("1234") + turn_of_six
    conversations = Conversations(count=4, turns=9, size=bytes_of("1234", "123456"))
    conversations.add(A, *turn("12345"))
    conversations.add(A, *turn_of_six)
    assert conversations.history(A) == turn_of_six


def test_a_turn_that_is_too_large_leaves_an_empty_history() -> None:
    conversations = Conversations(count=2, turns=9, size=TEN)
    conversations.add(A, *turn("first"))
    conversations.add(B, *turn("first"))
    conversations.add(C, *turn("much too large"))
    assert conversations.history(A) == turn("first")
    assert conversations.history(B) == turn("first")
    conversations.add(A, *turn("much too large"))
    assert conversations.history(A) == ()
    assert len(conversations) == 1


def test_the_least_recently_used_conversation_is_dropped_first() -> None:
    conversations = Conversations(count=2, turns=9, size=1000)
    conversations.add(A, *turn("one?"))
    conversations.add(B, *turn("one?"))
    conversations.add(A, *turn("two?"))
    conversations.add(C, *turn("one?"))
    assert conversations.history(A) == turn("one?") + turn("two?")
    assert conversations.history(B) == ()
    assert conversations.history(C) == turn("one?")


def test_all_conversations_hold_at_most_eight_times_as_much_as_one() -> None:
    conversations = Conversations(count=100, turns=9, size=TEN)
    for conversation in IDS[:9]:
        conversations.add(conversation, *turn("1234567890"))
    assert conversations.history(IDS[0]) == ()
    assert len(conversations) == 8


@pytest.mark.parametrize(("count", "turns"), [(0, 4), (4, 0)])
def test_a_limit_of_zero_stores_no_conversation(count: int, turns: int) -> None:
    conversations = Conversations(count, turns, size=1000)
    conversations.add(A, *turn("one?"))
    assert conversations.history(A) == ()
    assert len(conversations) == 0


class ConversationsMachine(RuleBasedStateMachine):
    """The histories beside a list of all turns."""

    @initialize(count=st.integers(1, 12), turns=st.integers(1, 4), size=st.integers(1, 3 * TEN))
    def open(self, count: int, turns: int, size: int) -> None:
        self.conversations = Conversations(count, turns, size)
        self.said: dict[ConversationId, list[int]] = {}
        self.recent: list[ConversationId] = []

    def latest_that_fit(self, conversation: ConversationId) -> list[int]:
        said = self.said.get(conversation, [])
        for start in range(len(said)):
            if len(said[start:]) <= self.conversations.turns and (
                self.size(said[start:]) <= self.conversations.size
            ):
                return said[start:]
        return []

    def size(self, lengths: list[int]) -> int:
        return bytes_of(*("x" * length for length in lengths))

    @rule(conversation=st.sampled_from(IDS), length=st.integers(0, 40))
    def add(self, conversation: ConversationId, length: int) -> None:
        self.conversations.add(conversation, *turn("x" * length))
        self.said.setdefault(conversation, []).append(length)
        if conversation in self.recent:
            self.recent.remove(conversation)
        if self.latest_that_fit(conversation):
            self.recent.append(conversation)
        while len(self.recent) > self.conversations.count or (
            sum(self.size(self.latest_that_fit(each)) for each in self.recent)
            > 8 * self.conversations.size
        ):
            self.said[self.recent.pop(0)].clear()

    @invariant()
    def each_history_is_the_longest_run_of_latest_turns_that_fits(self) -> None:
        for conversation in IDS:
            sizes = [len(each.content) for each in self.conversations.history(conversation)[::2]]
            assert sizes == self.latest_that_fit(conversation)

    @invariant()
    def no_more_conversations_are_kept_than_have_a_history(self) -> None:
        assert len(self.conversations) == len(self.recent) <= self.conversations.count


TestConversations = ConversationsMachine.TestCase
