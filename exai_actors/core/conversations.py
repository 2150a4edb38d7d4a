"""The bounded history of a session's conversations, which goes to the provider with each turn."""

from __future__ import annotations

from collections import OrderedDict, deque

from exai_actors.core.calls import ChatMessage
from exai_actors.ids import ConversationId


class _History:
    __slots__ = ("size", "turns")

    def __init__(self) -> None:
        self.turns: deque[tuple[ChatMessage, ChatMessage]] = deque()
        self.size = 0

    def drop_oldest(self) -> int:
        dropped = _size(self.turns.popleft())
        self.size -= dropped
        return dropped


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
        self._histories: OrderedDict[ConversationId, _History] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._histories)

    def history(self, conversation: ConversationId) -> tuple[ChatMessage, ...]:
        """The turns so far, oldest first; empty for a conversation that is not known."""
        found = self._histories.get(conversation)
        if found is None:
            return ()
        return tuple(message for turn in found.turns for message in turn)

    def add(self, conversation: ConversationId, question: ChatMessage, answer: ChatMessage) -> None:
        """Append a turn, and drop what is now too much.

        A turn too large on its own leaves nothing: a history has no gap between its turns.
        """
        if self.turns <= 0 or self.count <= 0:
            return
        turn = (question, answer)
        size = _size(turn)
        history = self._histories.get(conversation)
        if history is None:
            history = self._histories[conversation] = _History()
        else:
            self._histories.move_to_end(conversation)
        history.turns.append(turn)
        history.size += size
        self._size += size
        while history.turns and (len(history.turns) > self.turns or history.size > self.size):
            self._size -= history.drop_oldest()
        if not history.turns:
            del self._histories[conversation]
        while len(self._histories) > self.count or self._size > 8 * self.size:
            _, dropped = self._histories.popitem(last=False)
            self._size -= dropped.size


def _size(turn: tuple[ChatMessage, ChatMessage]) -> int:
    question, answer = turn
    return len(question.content) + len(answer.content) + sum(map(len, question.images))
