"""The clients of the broker: plain values that outlive the guardian, as an account its provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from exai_actors.actors.session.kept import SessionKept
from exai_actors.core.authentication import Authenticator, Identity
from exai_actors.core.places import Places
from exai_actors.core.session.table import SessionTable
from exai_actors.core.suspects import Suspects
from exai_actors.core.wrong_tokens import WrongTokens
from exai_actors.ids import ConnectionId, SessionId


@dataclass(slots=True, eq=False)
class SessionRecord:
    """A session that has to live, whether its actor does or not.

    ``number`` is its name in the tree: unlike its id, no later session has it. ``kept`` is made for
    the first incarnation of its actor.
    """

    session_id: SessionId
    number: str
    identity: Identity
    kept: SessionKept | None = None

    @property
    def has_begun(self) -> bool:
        """Whether its actor was spawned, with the first call; many clients never make one."""
        return self.kept is not None


class SessionBook:
    """The sessions that have to live. Only the guardian and the sessions' supervisor change it.

    ``on_gone`` is called with the id of each session that has ended for good.
    """

    def __init__(self, on_gone: Callable[[SessionId], object] = lambda _: None) -> None:
        self._on_gone = on_gone
        self._by_id: dict[SessionId, SessionRecord] = {}
        self._by_number: dict[str, SessionRecord] = {}
        self._count = 0

    def open(self, session_id: SessionId, identity: Identity) -> SessionRecord:
        """Note a new session under a number of its own."""
        self._count += 1
        record = SessionRecord(session_id, str(self._count), identity)
        self._by_id[session_id] = self._by_number[record.number] = record
        return record

    def close(self, record: SessionRecord) -> None:
        """Forget a session, but not one of the same id that has begun since."""
        self._by_number.pop(record.number, None)
        if self._by_id.get(record.session_id) is record:
            del self._by_id[record.session_id]
            self._on_gone(record.session_id)

    def find(self, session_id: SessionId) -> SessionRecord | None:
        return self._by_id.get(session_id)

    def numbered(self, number: str) -> SessionRecord | None:
        return self._by_number.get(number)

    def records(self) -> tuple[SessionRecord, ...]:
        return tuple(self._by_number.values())

    def __len__(self) -> int:
        return len(self._by_id)


@dataclass(slots=True)
class Admissions:
    """Places, sessions and access tokens of the clients, and whether the broker drains."""

    authenticator: Authenticator
    places: Places
    table: SessionTable
    book: SessionBook = field(default_factory=SessionBook)
    suspects: Suspects = field(default_factory=Suspects)
    wrong_tokens: WrongTokens = field(default_factory=WrongTokens)
    token_of: dict[ConnectionId, str] = field(default_factory=dict)
    draining: bool = False

    def known_connections(self) -> Iterator[ConnectionId]:
        """The connections that have a place, a session or a token; some come twice."""
        yield from self.places.connections()
        yield from self.token_of
        for session in self.table.sessions():
            yield from self.table.connections(session)
