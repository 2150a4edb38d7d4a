"""The configuration as values: one Struct per table of the file.

The Structs state each key with its type, range and meaning; the checks, the JSON Schema, `exai
config init` and `exai config show` are derived from them. A default that a part of the broker has
as well is taken from that part's settings. Keys that end in ``_s`` are seconds, in ``_ms``
milliseconds, in ``_bytes`` bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from exai_actors.actors.settings import ConnectionSettings, SessionSettings
from exai_actors.core.capacity.changes import MAX_WEIGHT, MIN_WEIGHT
from exai_actors.daemon.config.provider_tables import ProviderConfig, SyntheticProvider
from exai_actors.daemon.config.toml_lines import KeyPath
from exai_actors.daemon.config.value_types import (
    Bytes,
    Count,
    CountOrNone,
    Model,
    Name,
    Port,
    Seconds,
    SecondsOrNone,
    Text,
)
from exai_actors.ids import ProviderName, TenantName

HIDDEN = "********"
_CONNECTION = ConnectionSettings()
_SESSION = SessionSettings()
TOKEN_MIN_LENGTH = 16

RouteReason = Literal[
    "rate_limited",
    "overloaded",
    "quota",
    "unreachable",
    "server_error",
    "timeout",
    "unauthorized",
    "busy",
    "circuit_open",
]
DEFAULT_REASONS: tuple[RouteReason, ...] = (
    "rate_limited",
    "overloaded",
    "quota",
    "unreachable",
    "server_error",
    "circuit_open",
)
"""Neither ``timeout``: that call may have been answered and billed; nor ``busy``: it may wait."""


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The socket and who may come in. ``token`` is empty when nobody has to name one."""

    host: Annotated[Text, Meta(description="The address to listen on.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="The port to listen on; 0 picks a free one.")] = 8079
    token: Annotated[
        str,
        Meta(
            description="What clients must name to come in, at least 16 characters. "
            "Empty: no token is asked for, which only a loopback address allows."
        ),
    ] = ""
    token_file: Annotated[
        str,
        Meta(
            description="A file that holds the token, read at start, in place of `token`. "
            "A relative path starts at the folder of the configuration file."
        ),
    ] = ""
    allowed_origins: Annotated[
        tuple[Text, ...],
        Meta(
            description="Origins of web pages that may connect, such as "
            '"https://desk.example". A page from anywhere else is refused.'
        ),
    ] = ()
    allowed_hosts: Annotated[
        tuple[Text, ...],
        Meta(
            description="Names under which clients may address this broker besides its own "
            'address and localhost, such as "desk.example".'
        ),
    ] = ()
    max_frame_bytes: Annotated[
        Bytes, Meta(description="The largest frame a client may send; a larger one closes 1009.")
    ] = 33_554_432
    max_connections: Annotated[
        Count, Meta(description="How many connections may be open at once.")
    ] = 1000
    max_connections_per_address: Annotated[
        CountOrNone,
        Meta(description="How many of them may come from one address; 0: no such limit."),
    ] = 0
    hello_timeout_s: Annotated[
        Seconds, Meta(description="How long a new connection may take to say hello.")
    ] = _CONNECTION.hello_timeout_s
    ping_interval_s: Annotated[
        Seconds, Meta(description="How often a connection is tested with a ping.")
    ] = 30.0
    ping_timeout_s: Annotated[
        Seconds, Meta(description="How long its pong may take before it is closed.")
    ] = 10.0
    close_timeout_s: Annotated[
        Seconds, Meta(description="How long the closing handshake may take.")
    ] = 1.0
    slow_consumer_s: Annotated[
        Seconds,
        Meta(
            description="How long a client may leave its answers unread before it is closed. "
            "Whoever takes 256 KiB in that time reads."
        ),
    ] = _CONNECTION.slow_consumer_s
    drain_s: Annotated[
        SecondsOrNone,
        Meta(description="How long requests in flight may go on after SIGTERM."),
    ] = 30.0

    def __repr__(self) -> str:
        shown = msgspec.structs.asdict(self)
        if self.token:
            shown["token"] = HIDDEN
        return f"ServerConfig({', '.join(f'{key}={value!r}' for key, value in shown.items())})"


class SessionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one session may have going on at once and what it keeps."""

    window: Annotated[
        Count,
        Meta(description="How many requests of one session may be with providers at once."),
    ] = _SESSION.window
    queue: Annotated[
        CountOrNone,
        Meta(description="How many more of its requests may wait in the session."),
    ] = _SESSION.queue
    request_bytes: Annotated[
        Bytes,
        Meta(
            description="How much text and images its requests without an outcome may hold "
            "together; one alone always may."
        ),
    ] = _SESSION.request_size
    conversation_limit: Annotated[
        Count,
        Meta(description="How many requests of one conversation may run at once; 1: in order."),
    ] = _SESSION.conversation_limit
    request_timeout_s: Annotated[
        Seconds, Meta(description="The deadline of a request that names none.")
    ] = _SESSION.request_timeout_s
    resume_s: Annotated[
        SecondsOrNone,
        Meta(description="How long a session without a connection is kept for its client."),
    ] = 60.0
    outcome_ttl_s: Annotated[
        SecondsOrNone,
        Meta(description="How long an outcome is kept for a repeat of its request id."),
    ] = _SESSION.outcome_ttl_s
    outcome_count: Annotated[
        CountOrNone, Meta(description="How many outcomes a session keeps at most.")
    ] = _SESSION.outcome_count
    outcome_bytes: Annotated[
        Bytes, Meta(description="How many bytes the kept outcomes may take together.")
    ] = _SESSION.outcome_size
    history_turns: Annotated[
        CountOrNone,
        Meta(description="How many past turns of a conversation go to the provider."),
    ] = _SESSION.history_turns
    history_bytes: Annotated[
        Bytes, Meta(description="How many bytes of a conversation are kept for that.")
    ] = _SESSION.history_size
    conversations: Annotated[
        Count,
        Meta(description="How many conversations a session keeps; the least recent goes first."),
    ] = _SESSION.conversations
    progress_interval_s: Annotated[
        Seconds, Meta(description="How often a client hears that its call still runs.")
    ] = _CONNECTION.progress_interval_s


class AccessConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One more access token, and the tenant that whoever names it belongs to."""

    name: Annotated[Name, Meta(description="What this entry is called in messages.")]
    token_env: Annotated[
        str, Meta(description="The environment variable that holds its token.")
    ] = ""
    token_file: Annotated[
        str,
        Meta(
            description="A file that holds its token, in place of `token_env`. "
            "A relative path starts at the folder of the configuration file."
        ),
    ] = ""
    tenant: Annotated[
        str,
        Meta(
            max_length=64,
            pattern=r"^[A-Za-z0-9_.\-]*$",
            description="Who shares in the capacity as one. Empty: the entry's name.",
        ),
    ] = ""
    weight: Annotated[
        float,
        Meta(
            ge=MIN_WEIGHT,
            le=MAX_WEIGHT,
            description="The tenant's share beside others who wait too; all without an entry "
            "of their own have 1 together.",
        ),
    ] = 1.0
    window: Annotated[
        CountOrNone,
        Meta(description="The window of sessions it opens; 0: as `[session] window` says."),
    ] = 0

    @property
    def tenant_name(self) -> TenantName:
        return TenantName(self.tenant or self.name)


class RouteConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model name of your own that stands for several models, asked in order."""

    model: Annotated[Model, Meta(description="The name that clients ask for.")]
    to: Annotated[
        tuple[Model, ...],
        Meta(
            min_length=1,
            max_length=16,
            description='The models behind it in order, such as "glm/glm-4.6".',
        ),
    ]
    on: Annotated[
        tuple[RouteReason, ...],
        Meta(description="For which reasons the next one is asked."),
    ] = DEFAULT_REASONS


class CompatConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What clients and scripts of the EX-AI daemon rely on."""

    envelope: Annotated[
        Literal["plain", "ex-ai"],
        Meta(description='What `chat` gives back: its "plain" text, or JSON as "ex-ai" did.'),
    ] = _CONNECTION.envelope
    text: Annotated[bool, Meta(description="Whether results carry `text` beside `outputs`.")] = (
        _CONNECTION.compat_text
    )
    http: Annotated[
        bool, Meta(description="Whether the health and monitoring pages over HTTP are served.")
    ] = False
    http_health_port: Annotated[Port, Meta(description="The port of the health pages.")] = 8082
    http_monitor_port: Annotated[Port, Meta(description="The port of the monitoring page.")] = 8080
    health_file: Annotated[
        str,
        Meta(description="A file that is rewritten every 10 s with the health. Empty: none."),
    ] = ""


class ChatConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``chat`` tool."""

    default_model: Annotated[
        str,
        Meta(
            max_length=100,
            description="The model of a request that names none. "
            "Empty: the first model of the first provider.",
        ),
    ] = ""
    system_prompt: Annotated[
        str,
        Meta(
            max_length=100_000,
            description="What the provider is told before every conversation.",
        ),
    ] = ""


class LogConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said on stderr."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least important entries that are shown."),
    ] = "info"
    format: Annotated[
        Literal["auto", "text", "json"],
        Meta(description='"auto" is text on a terminal and JSON lines anywhere else.'),
    ] = "auto"


class FileConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file; every table may be missing."""

    server: ServerConfig = ServerConfig()
    session: SessionConfig = SessionConfig()
    access: tuple[AccessConfig, ...] = ()
    provider: tuple[ProviderConfig, ...] = ()
    route: tuple[RouteConfig, ...] = ()
    compat: CompatConfig = CompatConfig()
    chat: ChatConfig = ChatConfig()
    logging: LogConfig = LogConfig()


class Source(msgspec.Struct, frozen=True):
    """Where the configuration came from: the file, and what set each value that is no default."""

    file: Path | None = None
    origins: Mapping[KeyPath, str] = {}


class Config(FileConfig, frozen=True, kw_only=True):
    """What the process runs with: checked, complete and fixed from start to end.

    ``provider`` is never empty. ``server.token`` holds the token wherever it came from.
    ``api_keys`` has the key of each provider that names an ``api_key_env``, ``access_tokens`` the
    token of each entry of ``access`` by its name.
    """

    source: Source = Source()
    access_tokens: Mapping[str, str] = {}
    api_keys: Mapping[ProviderName, str] = {}

    def __repr__(self) -> str:
        return f"Config(server={self.server!r}, provider={self.provider!r}, ...)"


DEFAULT_PROVIDERS: tuple[ProviderConfig, ...] = (SyntheticProvider(name="synthetic"),)
"""What runs when the file names no provider: answers without a key."""
