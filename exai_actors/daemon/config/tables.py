"""The configuration as values: one Struct per table of the file.

The Structs state each key with its type and range, and in the string below it its meaning; the
checks, the JSON Schema, `exai config init` and the reference page are derived from them. Defaults
of actors are taken from their settings. Keys that end in ``_s`` are seconds, in ``_ms``
milliseconds, in ``_bytes`` bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from exai_actors.actors.connection.settings import ConnectionSettings
from exai_actors.actors.http_exchange.settings import ExchangeSettings
from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.capacity.changes import MAX_WEIGHT, MIN_WEIGHT
from exai_actors.daemon.config.observing_tables import AlarmsConfig, MetricsConfig, TracingConfig
from exai_actors.daemon.config.provider_tables import ProviderConfig, SyntheticProvider
from exai_actors.daemon.config.toml_lines import KeyPath
from exai_actors.daemon.config.value_types import (
    Bytes,
    Count,
    CountOrNone,
    Model,
    Name,
    Port,
    ProcessBytes,
    Seconds,
    SecondsOrNone,
    Text,
)
from exai_actors.edges.websocket.settings import WebSocketSettings
from exai_actors.ids import ProviderName, TenantName

HIDDEN = "********"
_CONNECTION = ConnectionSettings()
_EXCHANGE = ExchangeSettings()
_SESSION = SessionSettings()
_WEBSOCKET = WebSocketSettings()
TOKEN_MIN_LENGTH = 16

RouteReason = Literal[
    "rate_limited",
    "overloaded",
    "quota",
    "unreachable",
    "server_error",
    "timeout",
    "unauthorized",
    "model_not_found",
    "busy",
    "circuit_open",
]
DEFAULT_REASONS: tuple[RouteReason, ...] = (
    "rate_limited",
    "overloaded",
    "quota",
    "unreachable",
    "server_error",
    "model_not_found",
    "circuit_open",
)
"""Not ``timeout``: that call may have been answered and billed. Not ``busy``: a request can wait.
Not ``unauthorized``: a wrong key should be noticed."""


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The listening socket and its access control; an empty ``token`` means that none is needed."""

    host: Text = "127.0.0.1"
    """The address to listen on."""
    port: Port = 8079
    """The port to listen on; 0 picks a free one."""
    token: str = ""
    """The token that clients must send, at least 16 characters. Empty: none is needed, which is
    allowed on a loopback address only.
    """
    token_file: str = ""
    """A file with the token, read at start; use it instead of `token`. A relative path starts at
    the folder of the configuration file.
    """
    allowed_origins: tuple[Text, ...] = ()
    """Origins of web pages that may connect, and call the HTTP APIs with fetch(), such as
    "https://desk.example". Other pages are refused. "file://" and "null" are those of many desktop
    programs, but other pages have them too: also require a token.
    """
    allowed_hosts: tuple[Text, ...] = ()
    """Host names that clients may use for this broker besides its own address and localhost, such
    as "desk.example".
    """
    max_frame_bytes: Bytes = _WEBSOCKET.max_frame_bytes
    """The largest frame a client may send; a larger one closes the connection with 1009. Above
    10 MiB only images, as data URLs, are of use; other frames are answered with an error.
    """
    message_timeout_s: Seconds = _WEBSOCKET.message_timeout_s
    """How long a message may take to arrive, from its first byte to its last."""
    max_connections: Count = _WEBSOCKET.max_connections
    """The maximum number of connections of admitted clients."""
    max_connections_per_tenant: CountOrNone = 0
    """The maximum number of connections of one tenant. 0: it depends on the others; half of
    `max_connections` is kept for the tenants in equal parts, the rest is for any of them.
    """
    max_connections_per_address: CountOrNone = 0
    """The maximum number of connections of admitted clients from one address; 0: no limit."""
    max_strangers: Count = _WEBSOCKET.max_strangers
    """How many sockets that are not admitted may be open besides; the oldest gives way to a new
    one.
    """
    hello_timeout_s: Seconds = _CONNECTION.hello_timeout_s
    """How long a new connection may take to send its hello."""
    ping_interval_s: Seconds = _WEBSOCKET.ping_interval_s
    """The time between pings on an idle connection."""
    ping_timeout_s: Seconds = _WEBSOCKET.ping_timeout_s
    """How long the pong may take before the connection is closed."""
    close_timeout_s: Seconds = _WEBSOCKET.close_timeout_s
    """How long the closing handshake may take."""
    slow_consumer_s: Seconds = _CONNECTION.slow_consumer_s
    """How long a client may leave its answers unread before it is disconnected. Reading 256 KiB in
    that time is enough.
    """
    buffer_bytes: ProcessBytes = 536_870_912
    """The size of all buffers of the process: unread answers, unfinished messages and requests in
    flight. Above it, those that hold most take in nothing more until three quarters are in use.
    At most half of the memory that the process may have.
    """
    kept_bytes: ProcessBytes = 134_217_728
    """The size of the outcomes and conversations that all sessions keep together. Above it, the
    sessions that keep most, of the tenants that keep most, lose their oldest.
    """
    stall_s: SecondsOrNone = 60.0
    """How long the event loop may stand still before the watchdog ends the process with exit code
    12; 0: however long.
    """
    drain_s: SecondsOrNone = 30.0
    """How long requests in flight may continue after SIGTERM."""
    recordings: str = ""
    """A folder for recordings of the last five minutes before an actor fails, an alarm is raised or
    the watchdog ends the process; `exai console --replay` shows them. The newest 20 are kept. A
    relative path starts at the folder of the configuration file. Empty: none.
    """

    def __repr__(self) -> str:
        shown = msgspec.structs.asdict(self)
        if self.token:
            shown["token"] = HIDDEN
        return f"ServerConfig({', '.join(f'{key}={value!r}' for key, value in shown.items())})"


class SessionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits of one session."""

    window: Count = _SESSION.window
    """How many requests of a session may be with providers at the same time."""
    queue: CountOrNone = _SESSION.queue
    """How many more of its requests may wait in the session."""
    request_bytes: Bytes = _SESSION.request_bytes
    """The total size of text and images in its requests without an outcome. A single request is
    always accepted.
    """
    conversation_limit: Count = _SESSION.conversation_limit
    """How many requests of a conversation may run at the same time; 1: one after the other."""
    request_timeout_s: Seconds = _SESSION.request_timeout_s
    """The timeout of a request that sets no deadline."""
    resume_s: SecondsOrNone = 60.0
    """How long a session without a connection is kept for its client."""
    outcome_ttl_s: SecondsOrNone = _SESSION.outcome_ttl_s
    """How long an outcome is kept for a repeat of its request id."""
    outcome_count: CountOrNone = _SESSION.outcome_count
    """The maximum number of kept outcomes."""
    outcome_bytes: Bytes = _SESSION.outcome_bytes
    """The maximum size of all kept outcomes together."""
    history_turns: CountOrNone = _SESSION.history_turns
    """How many past turns of a conversation are sent to the provider."""
    history_bytes: Bytes = _SESSION.history_bytes
    """The maximum size of the turns kept for that."""
    conversations: Count = _SESSION.conversations
    """How many conversations a session keeps; the least recently used is dropped first."""
    progress_interval_s: Seconds = _CONNECTION.progress_interval_s
    """The time between progress frames of a running call."""


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The HTTP APIs for clients."""

    commit_after_s: Annotated[float, Meta(ge=0, le=300)] = _EXCHANGE.commit_after_s
    """How long a streaming request waits for its outcome before it is answered with 200: a refusal
    that is known by then has its own status. With `pad_json` every request.
    """
    keepalive_s: Annotated[float, Meta(ge=1, le=300)] = _EXCHANGE.keepalive_s
    """The time between two signs of life on a response that has begun and waits for its answer."""
    pad_json: bool = _EXCHANGE.pad_json
    """Whether requests that do not stream also get 200 after `commit_after_s`, and empty lines
    until their answer comes, for clients behind proxies that give up without a byte. If the request
    fails later, the connection is broken off without a reason.
    """
    sub_agents: Literal["equal", "behind"] = "equal"
    """Whether agents that another agent has started are "equal" to it in the order of their
    session, or come "behind" it.
    """
    retry_grace_s: Annotated[float, Meta(ge=0, le=5)] = _EXCHANGE.retry_grace_s
    """How long a call goes on after its client's connection broke, so that the same request, sent
    again, joins it instead of costing another one; 0: not at all.
    """


class AccessConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An access token with its tenant, in addition to the shared one."""

    name: Name
    """The name of this entry in messages."""
    token_env: str = ""
    """The environment variable that holds the token."""
    token_file: str = ""
    """A file with the token; use it instead of `token_env`. A relative path starts at the folder of
    the configuration file.
    """
    tenant: Annotated[str, Meta(max_length=64, pattern="^[A-Za-z0-9_.\\-]*$")] = ""
    """The tenant that the token belongs to. Empty: the entry's name."""
    weight: Annotated[float, Meta(ge=MIN_WEIGHT, le=MAX_WEIGHT)] = 1.0
    """The tenant's weight when tenants compete for a provider. All clients with the shared token
    are one tenant of weight 1.
    """
    window: CountOrNone = 0
    """The window of the tenant's sessions; 0: that of `[session] window`."""

    @property
    def tenant_name(self) -> TenantName:
        return TenantName(self.tenant or self.name)


class OperatorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person or script at the console."""

    name: Name
    """The name in messages and logs."""
    token_env: str = ""
    """The environment variable that holds the token."""
    token_file: str = ""
    """A file with the token; use it instead of `token_env`. A relative path starts at the folder of
    the configuration file.
    """
    role: Literal["viewer", "operator", "admin"] = "viewer"
    """The rights at consoles. A "viewer" sees figures and states, an "operator" may also pause,
    drain, disconnect and cancel, an "admin" may do everything.
    """


class RouteConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model name of your own for several models, tried in order."""

    model: Model
    """The name that clients ask for."""
    to: Annotated[tuple[Model, ...], Meta(min_length=1, max_length=16)]
    """The models to try, in order, such as "glm/glm-4.6"."""
    on: tuple[RouteReason, ...] = DEFAULT_REASONS
    """The reasons for which the next model is tried."""
    also_on: tuple[RouteReason, ...] = ()
    """Reasons in addition to `on`, such as "busy", so that its defaults need not be repeated."""
    responses_by_chat: bool = False
    """Whether its models may serve Responses, as Codex needs them, by chat completions where the
    service has nothing else. Some members of requests are lost.
    """

    @property
    def reasons(self) -> tuple[RouteReason, ...]:
        """All reasons for which the next model is tried."""
        return tuple(dict.fromkeys(self.on + self.also_on))


class CompatConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Compatibility with clients and scripts of the EX-AI daemon."""

    envelope: Literal["plain", "ex-ai"] = _CONNECTION.envelope
    """The form of `chat` answers: "plain" text, or the JSON object of "ex-ai"."""
    text: bool = _CONNECTION.compat_text
    """Whether results have `text` beside `outputs`."""
    http: bool = False
    """Whether to serve the health and monitoring pages over HTTP."""
    http_health_port: Port = 8082
    """The port of the health pages."""
    http_monitor_port: Port = 8080
    """The port of the monitoring page."""
    health_file: str = ""
    """A file that is rewritten with the broker's health every 10 s. Empty: none."""


class ChatConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``chat`` tool."""

    default_model: Annotated[str, Meta(max_length=4096)] = ""
    """The model of requests that name none. Empty: the first model of the first provider."""
    system_prompt: Annotated[str, Meta(max_length=100000)] = ""
    """The system prompt of every conversation."""


class LogConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The log on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is logged."""
    format: Literal["auto", "text", "json"] = "auto"
    """"auto" is text on a terminal and JSON lines anywhere else."""
    access: Literal["off", "text", "json"] = "off"
    """The form of the access log, with a line for each request to a model; never with a prompt."""
    access_file: str = ""
    """The file of the access log, which is opened again after a rotation. Empty: stderr. A relative
    path starts at the folder of the configuration file.
    """


class AuditConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The audit log: the actions of operators, and their refused attempts."""

    file: str = ""
    """A file that gets a JSON line for each action. A relative path starts at the folder of the
    configuration file. Empty: the log and the table `audit` alone have them.
    """
    file_bytes: Bytes = 10_485_760
    """The size at which a new file is begun."""
    files_kept: Annotated[int, Meta(ge=1, le=1000)] = 10
    """How many full files are kept."""


class FileConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file; every table may be missing."""

    server: ServerConfig = ServerConfig()
    session: SessionConfig = SessionConfig()
    http: HttpConfig = HttpConfig()
    access: tuple[AccessConfig, ...] = ()
    operator: tuple[OperatorConfig, ...] = ()
    provider: tuple[ProviderConfig, ...] = ()
    route: tuple[RouteConfig, ...] = ()
    compat: CompatConfig = CompatConfig()
    chat: ChatConfig = ChatConfig()
    logging: LogConfig = LogConfig()
    audit: AuditConfig = AuditConfig()
    metrics: MetricsConfig = MetricsConfig()
    alarms: AlarmsConfig = AlarmsConfig()
    tracing: TracingConfig = TracingConfig()


class Source(msgspec.Struct, frozen=True):
    """The origin of a configuration: its file, and the place that set each non-default value."""

    file: Path | None = None
    origins: Mapping[KeyPath, str] = {}


class Config(FileConfig, frozen=True, kw_only=True):
    """The complete, checked configuration of a process; it does not change while that runs.

    ``provider`` is never empty. ``server.token`` holds the token even if it came from a file.
    ``api_keys`` has the key of each provider with an ``api_key_env``, ``access_tokens`` the token
    of each ``access`` entry by the entry's name, ``operator_tokens`` that of each ``operator``.
    ``metrics_token`` and ``webhook_token`` are empty if none is configured.
    """

    source: Source = Source()
    access_tokens: Mapping[str, str] = {}
    operator_tokens: Mapping[str, str] = {}
    metrics_token: str = ""
    webhook_token: str = ""
    api_keys: Mapping[ProviderName, str] = {}

    def __repr__(self) -> str:
        return f"Config(server={self.server!r}, provider={self.provider!r}, ...)"


DEFAULT_PROVIDERS: tuple[ProviderConfig, ...] = (SyntheticProvider(name="synthetic"),)
"""The providers of a file without any: answers without a key."""
