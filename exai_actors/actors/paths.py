"""The paths of the actors."""

from __future__ import annotations

from exai_actors.ids import ConnectionId, ProviderName

ROOT = "/"
BROKER = "/broker"
PROVIDERS = "/providers"
SESSIONS = "/sessions"
CONNECTIONS = "/connections"
CONSOLES = "/consoles"


def provider_path(name: ProviderName) -> str:
    """The path of a provider."""
    return f"{PROVIDERS}/{name}"


def session_path(number: str) -> str:
    """The path of a session; its number is that in the ``SessionBook``."""
    return f"{SESSIONS}/{number}"


def connection_path(connection_id: ConnectionId) -> str:
    """The path of a connection."""
    return f"{CONNECTIONS}/{connection_id}"


def connection_at(path: str) -> ConnectionId | None:
    """The connection that lives at this path, if one does."""
    above, _, name = path.rpartition("/")
    return ConnectionId(name) if above == CONNECTIONS else None
