"""The connections of one session, and the messages to them about its requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from exai_actors.core import error_bodies
from exai_actors.core.calls import Outcome
from exai_actors.core.session.requests import ActiveRequest, Repeat
from exai_actors.errors import ErrorBody
from exai_actors.ids import ConnectionId
from exai_actors.messages.connection import (
    ClientMessage,
    Disconnect,
    RequestAccepted,
    RequestEnded,
    RequestGranted,
    RequestQueued,
)
from exai_actors.messages.recipient import Recipient
from exai_actors.messages.session import Queued
from exai_actors.messages.session_requests import Submit


class SessionConnections:
    """Sends each waiter the news of a request under the name by which it asked.

    Messages to a connection that has been removed are dropped.
    """

    __slots__ = ("_by_id",)

    def __init__(self) -> None:
        self._by_id: dict[ConnectionId, Recipient[ClientMessage]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[ConnectionId]:
        return iter(self._by_id)

    def add(self, connection_id: ConnectionId, connection: Recipient[ClientMessage]) -> None:
        """Add a connection."""
        self._by_id[connection_id] = connection

    def remove(self, connection_id: ConnectionId) -> None:
        """Remove a connection, if it is here."""
        self._by_id.pop(connection_id, None)

    def tell(self, connection_id: ConnectionId, message: ClientMessage) -> None:
        """Send a message to one connection; no dead letter if its client has left meanwhile."""
        connection = self._by_id.get(connection_id)
        if connection is not None:
            connection.offer(message)

    def disconnect(self) -> None:
        """Close all connections, after the messages that were sent to them before."""
        for connection in self._by_id.values():
            connection.tell(Disconnect())

    def repeated(self, submit: Submit, known: ActiveRequest | Repeat | Outcome) -> ErrorBody | None:
        """Answer the repeat of a known request; return the error if it is to be refused."""
        match known:
            case ActiveRequest():
                if submit.options.reports_progress:
                    self.tell(submit.connection_id, RequestAccepted(submit.request))
            case Outcome():
                self.tell(submit.connection_id, RequestEnded(submit.request, known))
            case Repeat.OTHER_CALL:
                return error_bodies.id_reused()
            case Repeat.KEY_OF_OTHER_CALL:
                return error_bodies.key_reused()
            case Repeat.TOO_OFTEN:
                return error_bodies.repeated_too_often()
            case _:
                assert_never(known)
        return None

    def accepted(self, active: ActiveRequest) -> None:
        """Tell all waiters that the request waits."""
        for connection_id, name in active.waiters:
            self.tell(connection_id, RequestAccepted(name))

    def queued(self, active: ActiveRequest, place: Queued) -> None:
        """Tell all waiters the place of the request in its provider's queue."""
        for connection_id, name in active.waiters:
            message = RequestQueued(name, place.position, place.estimate_s, place.reason)
            self.tell(connection_id, message)

    def granted(self, active: ActiveRequest) -> None:
        """Tell all waiters that the request has its permit."""
        for connection_id, name in active.waiters:
            self.tell(connection_id, RequestGranted(name))

    def ended(self, active: ActiveRequest, outcome: Outcome) -> None:
        """Send the outcome to all waiters."""
        for connection_id, name in active.waiters:
            self.tell(connection_id, RequestEnded(name, outcome))
