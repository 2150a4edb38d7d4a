"""The bounded history of a session's conversations, which goes to the provider with each turn."""

from __future__ import annotations

from itertools import islice

from exai_actors.core.calls import ChatMessage
from exai_actors.ids import ConversationId

History = tuple[ChatMessage, ...]


class Conversations:
    """At most ``count`` conversations, each of ``turns`` question-and-answer pairs.

    ``size`` bounds the characters of one conversation, eight times that the whole; the oldest
    turns go first, and then the conversation that was used longest ago.
    """

    __slots__ = ("_histories", "_is_counting", "_small", "_spare", "count", "size", "turns")

    def __init__(self, count: int, turns: int, size: int) -> None:
        self.count = count
        self.turns = turns
        self.size = size
        # In order of use: whichever is used is taken out and put in again at the end.
        self._histories: dict[ConversationId, History] = {}
        self._spare = count // 16
        # So many characters each, and all that may be kept fit without being counted.
        self._small = min(size, 8 * size // max(1, count)) if turns > 0 and count > 0 else -1
        self._is_counting = False

    def __len__(self) -> int:
        return len(self._histories)

    def history(self, conversation: ConversationId) -> History:
        """The turns so far, oldest first; empty for a conversation that is not known."""
        return self._histories.get(conversation, ())

    def add(self, conversation: ConversationId, question: ChatMessage, answer: ChatMessage) -> None:
        """Append a turn, and drop what is now too much.

        A turn too large on its own leaves nothing: a history has no gap between its turns.
        """
        histories = self._histories
        if (
            not self._is_counting
            and conversation not in histories
            and len(question.content) + len(answer.content) <= self._small
            and not question.images
        ):
            histories[conversation] = (question, answer)
            if len(histories) > self.count:
                self._drop_oldest(1 + self._spare)
        elif self._small >= 0:
            self._add_counted(conversation, (question, answer))

    def _add_counted(self, conversation: ConversationId, turn: History) -> None:
        histories = self._histories
        history = histories.pop(conversation, ()) + turn
        size = _size(history)
        while len(history) > 2 * self.turns or size > self.size:
            size -= _size(history[:2])
            history = history[2:]
        if history:
            histories[conversation] = history
        if len(histories) > self.count:
            self._drop_oldest(len(histories) - self.count)
        sizes = {conversation: _size(each) for conversation, each in histories.items()}
        excess = sum(sizes.values()) - 8 * self.size
        while excess > 0:
            oldest = next(iter(histories))
            del histories[oldest]
            excess -= sizes.pop(oldest)
        self._is_counting = any(size > self._small for size in sizes.values())

    def _drop_oldest(self, number: int) -> None:
        for conversation in tuple(islice(self._histories, number)):
            del self._histories[conversation]


def _size(history: History) -> int:
    size = 0
    for message in history:
        size += len(message.content)
        if message.images:
            size += sum(map(len, message.images))
    return size
