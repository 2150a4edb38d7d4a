"""A request over HTTP that has arrived, and its owner."""

from __future__ import annotations

import msgspec

from exai_actors.core.calls import CallOptions
from exai_actors.core.relay import RelayRequest
from exai_actors.ids import SessionId


class Owner(msgspec.Struct, frozen=True):
    """The token and session of a request, and its sub-agent's name if it comes from one.

    No client can guess the name of the session.
    """

    token: str | None
    session: SessionId
    agent: str = ""


class RelayedExchange(msgspec.Struct, frozen=True):
    """A request to be relayed."""

    request_id: str
    owner: Owner
    request: RelayRequest
    options: CallOptions
