"""The history sent to the provider: the latest turns without a gap, within limits."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from exai_actors.core.calls import ChatMessage
from exai_actors.core.session.conversations import (
    Conversation,
    Conversations,
    History,
    PlainMessage,
)
from exai_actors.core.session.packing import pack
from exai_actors.ids import ConversationId

IDS = [ConversationId(name) for name in "abcdefghijkl"]
A, B, C = IDS[:3]


def turn(text: str, answer: str = "") -> tuple[ChatMessage, ChatMessage]:
    return ChatMessage("user", text), ChatMessage("assistant", answer)


def as_added(turn: tuple[ChatMessage, ChatMessage]) -> tuple[PlainMessage, PlainMessage]:
    question, answer = turn
    return (
        ("user", question.content, question.images, question.more),
        ("assistant", answer.content, answer.images, answer.more),
    )


def asked(text: str, answer: str = "") -> tuple[PlainMessage, PlainMessage]:
    return as_added(turn(text, answer))


def bytes_of(*texts: str) -> int:
    """The size of a history of these questions."""
    messages = tuple(message for text in texts for message in turn(text))
    return len(pack(Conversation("", len(texts), messages)))


def history(conversations: Conversations, conversation: ConversationId) -> History:
    """The messages that are kept of a conversation, which counts as used by this."""
    found = conversations.find(conversation)
    return () if found is None else found.history


TEN = bytes_of("1234567890")


def test_an_unknown_conversation_has_no_history() -> None:
    assert Conversations(count=4, turns=4, size=1000).find(A) is None


def test_a_history_holds_questions_and_answers_oldest_first() -> None:
    conversations = Conversations(count=4, turns=4, size=1000)
    conversations.add(A, asked("one?", "one."))
    conversations.add(A, asked("two?", "two."))
    assert [message.content for message in history(conversations, A)] == [
        "one?",
        "one.",
        "two?",
        "two.",
    ]
    assert history(conversations, B) == ()


def test_the_oldest_turns_are_dropped_when_there_are_too_many() -> None:
    conversations = Conversations(count=4, turns=2, size=1000)
    for text in ("one?", "two?", "three?"):
        conversations.add(A, asked(text))
    assert history(conversations, A) == turn("two?") + turn("three?")


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
    conversations.add(A, asked("1234"))
    conversations.add(A, as_added(turn_of_six))
    assert history(conversations, A) == turn("1234") + turn_of_six
    conversations = Conversations(count=4, turns=9, size=bytes_of("1234", "123456"))
    conversations.add(A, asked("12345"))
    conversations.add(A, as_added(turn_of_six))
    assert history(conversations, A) == turn_of_six


def test_a_turn_that_is_too_large_leaves_an_empty_history() -> None:
    conversations = Conversations(count=2, turns=9, size=TEN)
    conversations.add(A, asked("first"))
    assert conversations.add(A, asked("much too large")) == 2
    assert conversations.find(A) == Conversation("", 2, ())
    assert conversations.add(B, asked("much too large")) == 1


def test_a_record_that_is_too_large_without_turns_is_not_kept() -> None:
    conversations = Conversations(count=2, turns=9, size=TEN)
    assert conversations.add(A, asked("first"), model="m" * TEN) is None
    assert conversations.find(A) is None


def test_the_least_recently_used_conversation_is_dropped_first() -> None:
    conversations = Conversations(count=2, turns=9, size=1000)
    conversations.add(A, asked("one?"))
    conversations.add(B, asked("one?"))
    conversations.add(A, asked("two?"))
    conversations.add(C, asked("one?"))
    assert history(conversations, A) == turn("one?") + turn("two?")
    assert history(conversations, B) == ()
    assert history(conversations, C) == turn("one?")


def test_all_conversations_hold_at_most_eight_times_as_much_as_one() -> None:
    conversations = Conversations(count=100, turns=9, size=TEN)
    for conversation in IDS[:9]:
        conversations.add(conversation, asked("1234567890"))
    assert history(conversations, IDS[0]) == ()
    assert len(conversations) == 8


def test_a_full_store_makes_room_for_a_sixteenth_of_its_conversations_at_once() -> None:
    conversations = Conversations(count=32, turns=9, size=1000)
    for number in range(32):
        conversations.add(ConversationId(str(number)), asked("1"))
    assert len(conversations) == 32
    conversations.add(A, asked("1"))
    assert len(conversations) == 30
    assert [n for n in range(32) if conversations.find(ConversationId(str(n))) is None] == [0, 1, 2]
    assert conversations.find(A) is not None


@pytest.mark.parametrize(("count", "turns"), [(0, 4), (4, 0)])
def test_a_limit_of_zero_stores_no_conversation(count: int, turns: int) -> None:
    conversations = Conversations(count, turns, size=1000)
    conversations.add(A, asked("one?"))
    assert history(conversations, A) == ()
    assert len(conversations) == 0


def test_a_conversation_keeps_what_its_last_turn_asked_for() -> None:
    conversations = Conversations(count=4, turns=4, size=1000)
    conversations.add(A, asked("one?"), model="kimi", system="Be brief.")
    conversations.add(A, asked("two?"), model="glm")
    found = conversations.find(A)
    assert found == Conversation("glm", 2, turn("one?") + turn("two?"), "")


def test_the_number_of_dropped_turns_is_returned() -> None:
    conversations = Conversations(count=4, turns=2, size=300)
    added = [conversations.add(A, asked(text)) for text in ("one?", "two?", "three?", "x" * 400)]
    assert added == [0, 0, 1, 4]
    assert conversations.add(A, asked("five?")) == 4
    found = conversations.find(A)
    assert found is not None
    assert (found.turns, found.dropped_turns, found.history) == (5, 4, turn("five?"))


def test_a_conversation_that_was_dropped_during_a_call_keeps_what_the_call_had() -> None:
    conversations = Conversations(count=1, turns=4, size=1000)
    conversations.add(A, asked("one?"), model="kimi")
    before = conversations.find(A)
    conversations.add(B, asked("other"))
    assert conversations.find(A) is None
    assert conversations.add(A, asked("two?"), before=before) == 0
    assert history(conversations, A) == turn("one?") + turn("two?")


def test_a_turn_that_ended_during_a_call_is_kept_beside_it() -> None:
    conversations = Conversations(count=2, turns=4, size=1000)
    conversations.add(A, asked("one?"))
    before = conversations.find(A)
    conversations.add(A, asked("two?"), before=before)
    conversations.add(A, asked("three?"), before=before)
    assert history(conversations, A) == turn("one?") + turn("two?") + turn("three?")


def test_a_conversation_that_is_found_counts_as_used() -> None:
    conversations = Conversations(count=2, turns=9, size=1000)
    conversations.add(A, asked("one?"))
    conversations.add(B, asked("one?"))
    conversations.find(A)
    conversations.add(C, asked("one?"))
    assert conversations.find(A) is not None
    assert conversations.find(B) is None


class ConversationsMachine(RuleBasedStateMachine):
    """The conversations beside a list of all turns of each."""

    @initialize(count=st.integers(1, 12), turns=st.integers(1, 4), size=st.integers(1, 3 * TEN))
    def open(self, count: int, turns: int, size: int) -> None:
        self.conversations = Conversations(count, turns, size)
        self.said: dict[ConversationId, list[int]] = {}

    def record(self, said: list[int], kept: int) -> Conversation:
        latest = said[len(said) - kept :]
        messages = tuple(message for length in latest for message in turn("x" * length))
        return Conversation("", len(said), messages)

    def kept(self, said: list[int]) -> int | None:
        """How many of these turns fit; None if not even a record without turns does."""
        for kept in range(min(len(said), self.conversations.turns), -1, -1):
            if len(pack(self.record(said, kept))) <= self.conversations.size:
                return kept
        return None

    def size(self, said: list[int]) -> int:
        return len(pack(self.record(said, self.kept(said) or 0)))

    @rule(conversation=st.sampled_from(IDS), length=st.integers(0, 40))
    def add(self, conversation: ConversationId, length: int) -> None:
        said = [*self.said.pop(conversation, ()), length]
        kept = self.kept(said)
        dropped = self.conversations.add(conversation, asked("x" * length))
        assert dropped == (None if kept is None else len(said) - kept)
        if kept is not None:
            self.said[conversation] = said
        while len(self.said) > self.conversations.count or (
            sum(map(self.size, self.said.values())) > 8 * self.conversations.size
        ):
            del self.said[next(iter(self.said))]

    @rule(conversation=st.sampled_from(IDS))
    def find(self, conversation: ConversationId) -> None:
        found = self.conversations.find(conversation)
        said = self.said.pop(conversation, None)
        if said is None:
            assert found is None
        else:
            self.said[conversation] = said
            assert found == self.record(said, self.kept(said) or 0)

    @invariant()
    def as_many_are_kept_as_the_limits_allow(self) -> None:
        assert len(self.conversations) == len(self.said) <= self.conversations.count

    def teardown(self) -> None:
        for conversation in IDS:
            self.find(conversation)


TestConversations = ConversationsMachine.TestCase
