"""The names by which the parts of the broker know each other.

All of them are plain strings or integers at run time; the distinct types keep a session id from
being passed where a request key is meant.
"""

from __future__ import annotations

from typing import NewType

ConnectionId = NewType("ConnectionId", str)
"""One socket, for example ``conn-17``: also the last part of its actor's path."""

SessionId = NewType("SessionId", str)
"""One conversation of a client with the broker; survives its connections."""

RequestKey = NewType("RequestKey", str)
"""A request inside its session. Derived from the id the client chose; minted when it chose none.

An idempotency key is one too, unlike any that is derived from an id.
"""

ConversationId = NewType("ConversationId", str)
"""The ``continuation_id`` of the wire protocol, scoped to its session."""

ProviderName = NewType("ProviderName", str)
"""The configured name of a provider, for example ``kimi``."""

PermitId = NewType("PermitId", int)
"""One right to one in-flight upstream call; never reused within an incarnation of its owner."""

TenantName = NewType("TenantName", str)
"""The owner of access tokens; all its sessions together have one share of the capacity."""

DEFAULT_TENANT = TenantName("")
"""The tenant of the sessions for which the configuration names none."""
