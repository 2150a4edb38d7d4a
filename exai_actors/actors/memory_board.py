"""The memory of all sessions, without a message: the memory guard looks at it all the time."""

from __future__ import annotations

from exai_actors.core.session.conversations import Conversations
from exai_actors.core.session.requests import SessionRequests
from exai_actors.ids import SessionId, TenantName
from exai_actors.messages.recipient import Recipient
from exai_actors.messages.session import LimitText, SessionMessage, ShrinkKept


class MemoryBoard:
    """The memory of each living session; loop thread only."""

    def __init__(self) -> None:
        self.sessions: set[SessionMemory] = set()


class SessionMemory:
    """Reads the figures of a session; all that changes it is a message. Loop thread only."""

    __slots__ = ("_actor", "_conversations", "_requests", "session_id", "tenant")

    def __init__(
        self,
        session_id: SessionId,
        tenant: TenantName,
        actor: Recipient[SessionMessage],
        requests: SessionRequests,
        conversations: Conversations,
    ) -> None:
        self.session_id = session_id
        self.tenant = tenant
        self._actor = actor
        self._requests = requests
        self._conversations = conversations

    def held_bytes(self) -> int:
        """The size of the requests in flight; characters are counted as bytes."""
        return self._requests.text

    def kept_bytes(self) -> int:
        """The size of stored outcomes and conversations."""
        return self._requests.kept_bytes + self._conversations.kept_bytes

    def restrain(self) -> None:
        """Refuse further requests while there are others in flight."""
        self._actor.tell(LimitText(is_short=True))

    def release(self) -> None:
        """Accept requests as usual again."""
        self._actor.tell(LimitText(is_short=False))

    def end_if_left(self) -> None:
        """No effect: the connections of a session notice."""

    def give_up(self) -> None:
        """No effect: requests that were accepted get their outcomes."""

    def shrink(self, size: int) -> None:
        """Keep at most ``size`` bytes of outcomes and conversations."""
        self._actor.tell(ShrinkKept(size))
