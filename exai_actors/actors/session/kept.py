"""The part of a session that outlives its actor."""

from __future__ import annotations

from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.session.conversations import Conversations
from exai_actors.core.session.outcomes import OutcomeStore
from exai_actors.core.suspects import Suspects


class SessionKept:
    """Conversations and outcomes. All sessions share ``suspects``, the calls that kill actors."""

    __slots__ = ("conversations", "generated", "outcomes", "suspects")

    def __init__(self, settings: SessionSettings, suspects: Suspects) -> None:
        self.outcomes = OutcomeStore(
            count=settings.outcome_count,
            size=settings.outcome_bytes,
            lifetime_s=settings.outcome_ttl_s,
        )
        self.conversations = Conversations(
            count=settings.conversations,
            turns=settings.history_turns,
            size=settings.history_bytes,
        )
        self.suspects = suspects
        self.generated = 0
        """How many conversation ids were made."""
