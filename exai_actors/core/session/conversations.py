"""The histories of a session's conversations, each sent to the provider with the next turn."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from exai_actors.core.calls import ChatMessage
from exai_actors.core.session.packing import pack, unpacker
from exai_actors.ids import ConversationId

History = tuple[ChatMessage, ...]

_unpack: Callable[[bytes], History] = unpacker(History)


class Conversations:
    """At most ``count`` conversations, each with at most ``turns`` questions and their answers.

    ``size`` limits the bytes of one conversation, and eight times ``size`` those of all. A
    conversation loses its oldest turns first; the store loses the least recently used conversation.
    """

    __slots__ = ("_histories", "_size", "_spare", "count", "size", "turns")

    def __init__(self, count: int, turns: int, size: int) -> None:
        self.count = count
        self.turns = turns
        self.size = size
        # In order of use: a conversation that is used moves to the end.
        self._histories: dict[ConversationId, bytes] = {}
        self._size = 0
        self._spare = count // 16

    def __len__(self) -> int:
        return len(self._histories)

    def history(self, conversation: ConversationId) -> History:
        """The turns so far, oldest first; empty for an unknown conversation."""
        packed = self._histories.get(conversation)
        return () if packed is None else _unpack(packed)

    def add(self, conversation: ConversationId, question: ChatMessage, answer: ChatMessage) -> None:
        """Append a turn, and drop the oldest turns and conversations that exceed the limits.

        A turn that alone exceeds them leaves an empty history: one without gaps.
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
        """Pack as many of the latest turns as fit, or the last one alone if it does not fit."""
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
