"""A Python client for the broker, asynchronous and synchronous."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from exai_actors.client.errors import (
    BrokerError,
    ConnectError,
    ConnectionLost,
    ConversationNotFound,
    Draining,
    DuplicateRequest,
    ExaiError,
    InternalError,
    InvalidArguments,
    InvalidRequest,
    ModelNotFound,
    NotAccepting,
    OverCapacity,
    ProviderError,
    RequestCancelled,
    RequestTimeout,
    ServiceUnavailable,
    StreamGap,
    ToolNotFound,
    Unauthorized,
    UsageError,
)
from exai_actors.client.results import CallResult, Progress, Tool
from exai_actors.client.settings import DEFAULT_URL, IfBusy, Settings

if TYPE_CHECKING:
    from exai_actors.client.client import BrokerClient, connect
    from exai_actors.client.stream import Stream
    from exai_actors.client.sync import SyncBrokerClient, SyncStream, connect_sync

__all__ = [
    "DEFAULT_URL",
    "BrokerClient",
    "BrokerError",
    "CallResult",
    "ConnectError",
    "ConnectionLost",
    "ConversationNotFound",
    "Draining",
    "DuplicateRequest",
    "ExaiError",
    "IfBusy",
    "InternalError",
    "InvalidArguments",
    "InvalidRequest",
    "ModelNotFound",
    "NotAccepting",
    "OverCapacity",
    "Progress",
    "ProviderError",
    "RequestCancelled",
    "RequestTimeout",
    "ServiceUnavailable",
    "Settings",
    "Stream",
    "StreamGap",
    "SyncBrokerClient",
    "SyncStream",
    "Tool",
    "ToolNotFound",
    "Unauthorized",
    "UsageError",
    "connect",
    "connect_sync",
]

# Imported when they are first used: the broker needs addresses and errors only.
_LATER = {
    "BrokerClient": "client",
    "connect": "client",
    "Stream": "stream",
    "SyncBrokerClient": "sync",
    "SyncStream": "sync",
    "connect_sync": "sync",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
