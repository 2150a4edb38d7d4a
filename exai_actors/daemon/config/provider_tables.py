"""The ``[[provider]]`` tables as values: address, limits and behaviour of each kind."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

import msgspec
from msgspec import Meta

from exai_actors.core.capacity.settings import CapacitySettings
from exai_actors.core.families import Family
from exai_actors.core.pieces import STALL_TIMEOUT_S
from exai_actors.daemon.config.value_types import (
    Bytes,
    Count,
    CountOrNone,
    Model,
    Name,
    Seconds,
    SecondsOrNone,
    Text,
    Tokens,
)
from exai_actors.edges.http.settings import HttpSettings
from exai_actors.edges.synthetic.settings import SyntheticSettings

_CAPACITY = CapacitySettings(limit=1)
_HTTP = HttpSettings()
_SYNTHETIC = SyntheticSettings()


class CapacityKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of every kind of provider: its name, limits and behaviour."""

    name: Name
    """The provider's name."""
    limit: Count = _CAPACITY.limit
    """The maximum number of calls in flight."""
    queue: CountOrNone = _CAPACITY.queue
    """How many requests may wait for the provider; then those with the most give way."""
    model_limits: Annotated[dict[Model, Count], Meta(max_length=100)] = {}
    """Separate limits of single models; all other models share `limit`: { "glm-4.6" = 1 }."""
    requests_per_minute: CountOrNone = 0
    """The maximum number of calls in any minute; 0: no limit."""
    tokens_per_minute: Tokens = 0
    """The maximum number of tokens in any minute, prompts and answers together; 0: no limit."""
    requests_per_day: CountOrNone = 0
    """The maximum number of calls in any 24 hours; 0: no limit."""
    tokens_per_day: Tokens = 0
    """The maximum number of tokens in any 24 hours; 0: no limit."""
    max_wait_s: Seconds = _CAPACITY.max_wait_s
    """A session that has waited this long without a grant goes first."""
    attempts: Annotated[int, Meta(ge=1, le=3)] = _CAPACITY.retry.attempts
    """The maximum number of attempts of a request. It is retried only before the first piece of its
    answer. More than 3 would keep a service that fails under load from recovering.
    """
    circuit_failures: Count = _CAPACITY.circuit.failures_in_a_row
    """The number of consecutive failures that opens the circuit."""
    circuit_open_s: Seconds = _CAPACITY.circuit.open_s
    """How long the circuit first stays open before a single call probes the service."""
    hold_probe_s: Seconds = _CAPACITY.hold_probe_s
    """How often a single call probes a service that wants no calls for longer than this; every
    fourth time only, if it named the end of a plan's window.
    """
    adaptive: bool = _CAPACITY.adaptive
    """Whether to send fewer concurrent calls than `limit` after the service reported overload, then
    gradually more.
    """
    on_disconnect: Literal["abort", "finish"] = _CAPACITY.on_disconnect
    """Whether to "abort" or to "finish" a call after its client has gone; the answer of a finished
    call is kept for `[session] resume_s`.
    """
    quarantine_s: Literal["auto"] | SecondsOrNone = _CAPACITY.quarantine_s
    """How long the permit of an aborted call rests, since the service may still count the call.
    "auto": 0.05 s and the time in which a connection to the service is opened, at most 1 s.
    Longer for a service that finishes aborted calls.
    """
    coalesce: bool = _CAPACITY.coalesce
    """Whether identical calls that overlap are sent once."""


class OpenAIProvider(
    CapacityKeys,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="openai",
):
    """A service whose API has the form of OpenAI's or Anthropic's."""

    kind: ClassVar[Literal["openai"]] = "openai"
    example: ClassVar[dict[str, str]] = {
        "name": "kimi",
        "base_url": "https://api.moonshot.ai/v1",
        "api_key_env": "KIMI_API_KEY",
    }
    preset: str = ""
    """A known account or server that supplies address and limits where keys are missing here; `exai
    providers --presets` lists them.
    """
    base_url: Text
    """The URL of the API, such as "https://api.example/v1", to which `/chat/completions`,
    `/responses` and `/embeddings` are added.
    """
    families: Annotated[tuple[Family, ...], Meta(min_length=1)] = ("chat",)
    """The families of its API that clients may use over HTTP: chat completions, Anthropic's
    Messages, Responses, embeddings.
    """
    messages_base_url: Annotated[str, Meta(max_length=4096)] = ""
    """The URL to which `/v1/messages` is added, such as "https://api.example/anthropic". Empty:
    `base_url` without a `/v1` at its end.
    """
    responses_base_url: Annotated[str, Meta(max_length=4096)] = ""
    """The URL to which `/responses` is added. Empty: `base_url`."""
    api_key_env: str = ""
    """The environment variable that holds the API key. Empty: the service needs none."""
    api_key_header: Annotated[str, Meta(max_length=100)] = _HTTP.api_key_header
    """The header that holds the API key: as `Bearer KEY` in "Authorization", bare in any other,
    such as Azure's "api-key".
    """
    messages_api_key_header: Annotated[str, Meta(max_length=100)] = ""
    """As `api_key_header`, for Messages: "x-api-key" for Anthropic. Empty: the same header."""
    count_tokens: Literal["estimate", "relay"] = "estimate"
    """How a client's question for the tokens of its messages is answered: with an "estimate", or
    by the service, to which such questions are of no cost, with "relay".
    """
    headers: Annotated[dict[Text, Text], Meta(max_length=50)] = {}
    """Further headers of each request, such as { "User-Agent" = "desk/1" }. Not for secrets."""
    query: Annotated[dict[Text, Text], Meta(max_length=50)] = {}
    """The query of each request: { "api-version" = "2024-10-21" }. Not for secrets."""
    models: tuple[Model, ...] = ()
    """The models it serves. Empty: the service is asked for them."""
    connect_timeout_s: Seconds = _HTTP.connect_timeout_s
    """How long connecting to the service may take."""
    first_byte_timeout_s: Seconds = _HTTP.first_byte_timeout_s
    """How long the service may be silent before the first piece of its answer or its reasoning."""
    idle_timeout_s: Seconds = _HTTP.idle_timeout_s
    """How long the service may be silent within its answer."""
    total_timeout_s: Seconds = _HTTP.total_timeout_s
    """How long a whole call may take."""
    stall_timeout_s: Seconds = STALL_TIMEOUT_S
    """How long a call may stand still, in all, because its client reads too slowly."""
    max_answer_bytes: Bytes = _HTTP.max_answer_bytes
    """The largest answer accepted from the service."""
    ask_for_stream: Literal["always", "when_asked"] = _HTTP.ask_for_stream
    """Whether to ask the service for a stream "always", which shows that it works and whether its
    answer is whole, or only "when_asked" by the client.
    """

    def addresses(self) -> dict[Family, str]:
        """Of each family the URL before its path: `/v1/messages` for Messages, `/responses`, ..."""
        base = self.base_url.rstrip("/")
        found: dict[Family, str] = dict.fromkeys(self.families, base)
        if "messages" in found:
            found["messages"] = self.messages_base_url.rstrip("/") or base.removesuffix("/v1")
        if "responses" in found and self.responses_base_url:
            found["responses"] = self.responses_base_url.rstrip("/")
        return found


class SyntheticProvider(
    CapacityKeys,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="synthetic",
):
    """The built-in provider: invented answers that say so, without a key or network."""

    kind: ClassVar[Literal["synthetic"]] = "synthetic"
    example: ClassVar[dict[str, str]] = {"name": "synthetic"}
    models: Annotated[tuple[Model, ...], Meta(min_length=1)] = ("synthetic",)
    """The models it pretends to serve."""
    limit: Count = 4
    """The maximum number of calls in flight."""
    delay_ms: Annotated[float, Meta(ge=0, le=3600000)] = _SYNTHETIC.delay_ms
    """The delay before each answer."""
    tokens: Annotated[int, Meta(ge=0, le=10000000)] = _SYNTHETIC.tokens
    """The length of an answer; 0: a few sentences, one token for each word."""
    tokens_per_second: Annotated[float, Meta(ge=0, le=1000000000)] = _SYNTHETIC.tokens_per_second
    """The speed of an answer, by default slow enough to watch; 0: immediately."""
    failure_rate: Annotated[float, Meta(ge=0, le=1)] = _SYNTHETIC.failure_rate
    """The fraction of calls that fail."""
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = _SYNTHETIC.seed
    """Determines answers and failures: the same requests with the same seed get the same."""


ProviderConfig = OpenAIProvider | SyntheticProvider

PROVIDER_KINDS: dict[str, type[ProviderConfig]] = {
    struct.kind: struct for struct in get_args(ProviderConfig)
}
