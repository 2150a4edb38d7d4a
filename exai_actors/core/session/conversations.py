"""The histories of a session's conversations, each sent to the provider with the next turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from exai_actors.core.calls import ChatMessage
from exai_actors.core.session.packing import PackedStore, pack, unpacker
from exai_actors.ids import ConversationId

History = tuple[ChatMessage, ...]
PlainMessage = tuple[Literal["user", "assistant"], str, tuple[str, ...], bytes]
"""A ChatMessage as a tuple: the same as bytes, and made in a third of the time."""


class Conversation(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The part of a conversation that is kept.

    ``model`` is the name by which its last turn asked for a model, ``system`` the system prompt of
    that turn, empty for the configured one. ``turns`` counts all questions that were answered;
    ``history`` has the latest of them with their answers, oldest first and without gaps.
    """

    model: str
    turns: int
    history: History
    system: str = ""

    @property
    def dropped_turns(self) -> int:
        """The number of turns that the next call will not have with it."""
        return self.turns - len(self.history) // 2


_unpack: Callable[[bytes], Conversation] = unpacker(Conversation)


class Conversations(PackedStore[ConversationId]):
    """At most ``count`` conversations, each with at most ``turns`` questions and their answers.

    ``size`` limits the bytes of one conversation, and eight times ``size`` those of all. A
    conversation loses its oldest turns first; the store loses those conversations that were not
    used for the longest time.
    """

    __slots__ = ("size", "turns")

    def __init__(self, count: int, turns: int, size: int) -> None:
        super().__init__(count, 8 * size)
        self.turns = turns
        self.size = size

    def find(self, conversation: ConversationId) -> Conversation | None:
        """The conversation, which counts as used; None for an unknown one."""
        # In order of use: a conversation that is used moves to the end.
        packed = self.kept.pop(conversation, None)
        if packed is None:
            return None
        self.kept[conversation] = packed
        return _unpack(packed)

    def add(
        self,
        conversation: ConversationId,
        turn: tuple[PlainMessage, PlainMessage],
        before: Conversation | None = None,
        model: str = "",
        system: str = "",
    ) -> int | None:
        """Append a turn, and drop the oldest turns and conversations that exceed the limits.

        ``before`` is the conversation as the call had it, in case that the store has dropped it
        since. Returns the number of turns that the conversation lacks now, the new one included if
        it alone exceeds the limits; None if the conversation is not kept at all.
        """
        if self.turns <= 0 or self.count <= 0:
            return None
        turns = 1
        history: tuple[ChatMessage | PlainMessage, ...] = turn
        if conversation in self.kept:
            before = _unpack(self._drop(conversation))
        if before is not None:
            turns = before.turns + 1
            history = (before.history + history)[-2 * self.turns :]
        # As bytes, a tuple is the same as a Conversation, and is made in a third of the time.
        packed = pack((model, turns, history, system))
        while len(packed) > self.size:
            if not history:
                return None
            history = history[2:]
            packed = pack((model, turns, history, system))
        self._keep(conversation, packed)
        return turns - len(history) // 2
