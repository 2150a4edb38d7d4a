"""The bounded history of a session's conversations, which goes to the provider with each turn."""

from __future__ import annotations

from exai_actors.core.calls import ChatMessage
from exai_actors.ids import ConversationId

History = tuple[ChatMessage, ...]


class Conversations:
    """At most ``count`` conversations, each of ``turns`` question-and-answer pairs.

    ``size`` bounds the characters of one conversation, eight times that the whole; the oldest
    turns go first, and then the conversation that was used longest ago.
    """

    __slots__ = ("_histories", "_size", "count", "size", "turns")

    def __init__(self, count: int, turns: int, size: int) -> None:
        self.count = count
        self.turns = turns
        self.size = size
        # In order of use: whichever is used is taken out and put in again at the end.
        self._histories: dict[ConversationId, History] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._histories)

    def history(self, conversation: ConversationId) -> History:
        """The turns so far, oldest first; empty for a conversation that is not known."""
        return self._histories.get(conversation, ())

    def add(self, conversation: ConversationId, question: ChatMessage, answer: ChatMessage) -> None:
        """Append a turn, and drop what is now too much.

        A turn too large on its own leaves nothing: a history has no gap between its turns.
        """
        if self.turns <= 0 or self.count <= 0:
            return
        history: History = (question, answer)
        size = len(question.content) + len(answer.content)
        if question.images:
            size += sum(map(len, question.images))
        known = self._histories.pop(conversation, None)
        if known is not None:
            before = _size(known)
            self._size -= before
            size += before
            history = known + history
        while len(history) > 2 * self.turns or size > self.size:
            size -= _size(history[:2])
            history = history[2:]
            if not history:
                return
        self._histories[conversation] = history
        self._size += size
        while len(self._histories) > self.count or self._size > 8 * self.size:
            oldest = next(iter(self._histories))
            self._size -= _size(self._histories.pop(oldest))


def _size(history: History) -> int:
    size = 0
    for message in history:
        size += len(message.content)
        if message.images:
            size += sum(map(len, message.images))
    return size
