"""The parts of a broker at one instant as consoles see them. No prompt, no answer, no secret."""

from __future__ import annotations

import msgspec

from exai_actors.core.wait_reasons import WaitReason


class ConnectionState(msgspec.Struct, frozen=True, gc=False):
    """A connection; ``session`` is empty until it is admitted.

    ``calls`` have no answer yet. ``paused`` is True while its client reads too slowly.
    ``protocol`` is ``websocket``, or over HTTP ``mcp`` or the family of its request.
    """

    connection: str
    address: str
    agent: str
    tenant: str
    session: str
    open_s: float
    calls: int
    paused: bool
    protocol: str = "websocket"


class SessionState(msgspec.Struct, frozen=True, gc=False):
    """A session; ``session`` is the beginning of its name, ``path`` that of its actor.

    ``at_providers`` of its ``window`` requests are with providers, ``waiting`` others wait for
    room. ``kept_bytes`` is the size of its stored outcomes and conversations, ``text`` the
    characters of its requests in flight.
    """

    path: str
    session: str
    tenant: str
    connections: int
    at_providers: int
    window: int
    waiting: int
    conversations: int
    text: int
    kept_bytes: int

    @property
    def number(self) -> str:
        """The last part of the path, which no other session of this broker has."""
        return self.path.rpartition("/")[2]


class RequestState(msgspec.Struct, frozen=True, gc=False):
    """A request without an outcome, by the number of its session and its own within that.

    ``state`` is ``running``, ``queued``, ``retrying``, ``waiting`` (in its session) or ``sent`` (on
    its way to the provider). ``position`` is its place in the provider's queue, from 1.
    ``starts_in_s`` is the predicted wait, None if it cannot be predicted.
    """

    number: str
    request_id: str
    tenant: str
    session: str
    connection: str
    model: str
    provider: str
    state: str
    waited_s: float
    position: int | None = None
    reason: WaitReason | None = None
    starts_in_s: float | None = None
    attempt: int = 0
    running_s: float | None = None
    pieces: int = 0
    is_held: bool = False


class RequestCounts(msgspec.Struct, frozen=True):
    """The requests so far: ``accepted`` ones, of which some have ended, and ``refused`` ones."""

    accepted: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    refused: int = 0


class ProcessState(msgspec.Struct, frozen=True):
    """The process: parts of one core, the longest recent lag of its loop, restarts, alarms."""

    loop_lag_s: float = 0.0
    cpu_share: float = 0.0
    sampling_share: float = 0.0
    restarts: int = 0
    alarms: int = 0


class UsageState(msgspec.Struct, frozen=True, gc=False):
    """What one session has used of a provider's model; ``session`` is the beginning of its name.

    ``running`` calls run now; the other figures are those of the last hour and the last day.
    """

    provider: str
    tenant: str
    session: str
    model: str
    running: int
    calls_hour: int
    tokens_hour: float
    calls_day: int
    tokens_day: float
