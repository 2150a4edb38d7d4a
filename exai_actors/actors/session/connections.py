"""The connections of one session: tells each, under its own id, what becomes of its requests."""

from __future__ import annotations

from typing import assert_never

from exai_actors.core import error_bodies
from exai_actors.core.calls import Outcome, OutcomeKind
from exai_actors.core.session.requests import ActiveRequest, Repeat
from exai_actors.errors import ErrorBody
from exai_actors.ids import ConnectionId
from exai_actors.messages.connection import (
    ConnectionMessage,
    RequestAccepted,
    RequestChunk,
    RequestEnded,
    RequestGranted,
    RequestQueued,
)
from exai_actors.messages.recipient import Recipient
from exai_actors.messages.session_requests import Submit


class SessionConnections:
    """``connections`` by their ids; ``behind`` are those whose reader has fallen behind.

    Nothing is told to a connection that has left.
    """

    __slots__ = ("behind", "connections")

    def __init__(self) -> None:
        self.connections: dict[ConnectionId, Recipient[ConnectionMessage]] = {}
        self.behind: set[ConnectionId] = set()

    def remove(self, connection_id: ConnectionId) -> None:
        self.connections.pop(connection_id, None)
        self.behind.discard(connection_id)

    def is_read(self, active: ActiveRequest) -> bool:
        """False while whoever gets the pieces of this stream is behind; True if nobody does."""
        return active.reader is None or active.reader[0] not in self.behind

    def tell(self, connection_id: ConnectionId, message: ConnectionMessage) -> None:
        connection = self.connections.get(connection_id)
        if connection is not None:
            connection.tell(message)

    def refuse(self, submit: Submit, error: ErrorBody) -> None:
        """The request was not taken in."""
        outcome = Outcome(OutcomeKind.REFUSED, error=error)
        self.tell(submit.connection_id, RequestEnded(submit.request, outcome))

    def repeated(
        self, submit: Submit, known: Repeat | Outcome, active: ActiveRequest | None
    ) -> None:
        """The request is known by its id or its key; ``active`` is what it joined."""
        match known:
            case Repeat.IN_FLIGHT | Repeat.BEGUN_BEFORE:
                if submit.reports_progress:
                    runs = active is not None and active.granted
                    message = RequestGranted if runs else RequestAccepted
                    self.tell(submit.connection_id, message(submit.request))
            case Repeat.OTHER_CALL:
                self.refuse(submit, error_bodies.id_reused())
            case Repeat.KEY_OF_OTHER_CALL:
                self.refuse(submit, error_bodies.key_reused())
            case Repeat.TOO_OFTEN:
                self.refuse(submit, error_bodies.repeated_too_often())
            case Outcome() as outcome:
                self.tell(submit.connection_id, RequestEnded(submit.request, outcome))
            case _:
                assert_never(known)

    def accepted(self, active: ActiveRequest) -> None:
        for connection_id, request in active.waiters:
            self.tell(connection_id, RequestAccepted(request))

    def queued(self, active: ActiveRequest, position: int, estimate_s: float | None) -> None:
        for connection_id, request in active.waiters:
            self.tell(connection_id, RequestQueued(request, position, estimate_s))

    def granted(self, active: ActiveRequest) -> None:
        active.granted = True
        for connection_id, request in active.waiters:
            connection = self.connections.get(connection_id)
            if connection is not None:
                connection.tell(RequestGranted(request))

    def piece(self, active: ActiveRequest, text: str) -> None:
        """Hand a piece of the answer to the reader, if there is one."""
        reader = active.reader
        if reader is not None:
            self.tell(reader[0], RequestChunk(reader[1], active.sequence, text))
        active.sequence += 1

    def ended(self, active: ActiveRequest, outcome: Outcome) -> None:
        """Give the one outcome to everyone who waits for it."""
        for connection_id, request in active.waiters:
            connection = self.connections.get(connection_id)
            if connection is not None:
                connection.tell(RequestEnded(request, outcome))
