"""A session and its requests as consoles see them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from exai_actors.actors.log import shown
from exai_actors.actors.session.connections import SessionConnections
from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.observe.parts import RequestState, SessionState
from exai_actors.core.session.conversations import Conversations
from exai_actors.core.session.requests import ActiveRequest, SessionRequests
from exai_actors.core.wait_reasons import WaitReason
from exai_actors.ids import SessionId


@dataclass(slots=True)
class SessionView:
    """Reads the parts of a session; loop thread only."""

    path: str
    session_id: SessionId
    settings: SessionSettings
    requests: SessionRequests
    conversations: Conversations
    connections: SessionConnections

    @property
    def number(self) -> str:
        """The last part of the path, which no other session of this broker has."""
        return self.path.rpartition("/")[2]

    def number_of(self, active: ActiveRequest) -> str:
        """The number of a request: that of this session, and its own."""
        return f"{self.number}/{active.number}"

    def client_id_of(self, active: ActiveRequest) -> str:
        """The id that its client gave a request, or the broker in its place."""
        return active.names[0].text if active.names else active.run.text

    def state(self) -> SessionState:
        requests = self.requests
        return SessionState(
            path=self.path,
            session=shown(self.session_id),
            tenant=self.settings.tenant,
            connections=len(self.connections),
            at_providers=requests.at_providers,
            window=self.settings.window,
            waiting=requests.waiting,
            conversations=len(self.conversations),
            text=requests.text,
            kept_bytes=requests.kept_bytes + self.conversations.kept_bytes,
        )

    def request(
        self,
        active: ActiveRequest,
        state: str,
        waited_s: float,
        reason: WaitReason | None = None,
        **at_provider: Any,
    ) -> RequestState:
        """A request of this session; the session does not know its state ``at_provider``."""
        return RequestState(
            number=self.number_of(active),
            request_id=self.client_id_of(active),
            tenant=self.settings.tenant,
            session=shown(self.session_id),
            connection=active.waiters[0][0] if active.waiters else "",
            model=active.route.model,
            provider=active.route.provider,
            state=state,
            waited_s=waited_s,
            reason=reason,
            pieces=active.piece_count,
            **at_provider,
        )

    def not_at_providers(self, now: float) -> Iterator[RequestState]:
        """The requests that wait here."""
        for active in self.requests.active():
            if not active.at_provider and self.requests.find(active.run) is active:
                waited_s = now - active.deadline + active.timeout_s
                reason = self.requests.wait_reason(active)
                yield self.request(active, "waiting", waited_s, reason)
