"""The bounded history of a session's conversations, which goes to the provider with each turn."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from exai_actors.core.calls import ChatMessage
from exai_actors.core.session.packing import pack, unpacker
from exai_actors.ids import ConversationId

History = tuple[ChatMessage, ...]

_unpack: Callable[[bytes], History] = unpacker(History)


class Conversations:
    """At most ``count`` conversations, each of ``turns`` question-and-answer pairs.

    ``size`` bounds the bytes of one conversation, eight times that the whole; the oldest
    turns go first, and then the conversation that was used longest ago.
    """

    __slots__ = ("_histories", "_size", "_spare", "count", "size", "turns")

    def __init__(self, count: int, turns: int, size: int) -> None:
        self.count = count
        self.turns = turns
        self.size = size
        # In order of use: whichever is used is taken out and put in again at the end.
        self._histories: dict[ConversationId, bytes] = {}
        self._size = 0
        self._spare = count // 16

    def __len__(self) -> int:
        return len(self._histories)

    def history(self, conversation: ConversationId) -> History:
        """The turns so far, oldest first; empty for a conversation that is not known."""
        packed = self._histories.get(conversation)
        return () if packed is None else _unpack(packed)

    def add(self, conversation: ConversationId, question: ChatMessage, answer: ChatMessage) -> None:
        """Append a turn, and drop what is now too much.

        A turn too large on its own leaves nothing: a history has no gap between its turns.
        """
        if self.turns <= 0 or self.count <= 0:
            return
        histories = self._histories
        history: History = (question, answer)
        if conversation in histories:
            history = self.history(conversation) + history
            self._drop(conversation)
        packed = self._pack_latest(history) if len(history) > 2 else pack(history)
        size = len(packed)
        if size > self.size:
            return
        histories[conversation] = packed
        self._size += size
        if len(histories) > self.count:
            for oldest in tuple(islice(histories, len(histories) - self.count + self._spare)):
                self._drop(oldest)
        while self._size > 8 * self.size:
            self._drop(next(iter(histories)))

    def _pack_latest(self, history: History) -> bytes:
        """As many of the latest turns as may be; the last one alone if not even that fits."""
        history = history[-2 * self.turns :]
        latest = pack(history[-2:])
        if len(latest) > self.size:
            return latest
        packed = pack(history)
        while len(packed) > self.size:
            history = history[2:]
            packed = pack(history)
        return packed

    def _drop(self, conversation: ConversationId) -> None:
        self._size -= len(self._histories.pop(conversation))
