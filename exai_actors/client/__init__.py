"""A Python client for the broker, asynchronous and synchronous."""

from exai_actors.client.client import BrokerClient, connect
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
