"""The ``[[provider]]`` tables as values: address, limits and behaviour of each kind."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

import msgspec
from msgspec import Meta

from exai_actors.core.capacity.settings import CapacitySettings
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

_CAPACITY = CapacitySettings(limit=1)


class CapacityKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of every kind of provider: its name, limits and behaviour."""

    name: Annotated[Name, Meta(description="The provider's name.")]
    limit: Annotated[Count, Meta(description="The maximum number of calls in flight.")] = (
        _CAPACITY.limit
    )
    queue: Annotated[
        CountOrNone,
        Meta(description="How many requests may wait for the provider; further ones are refused."),
    ] = _CAPACITY.queue
    model_limits: Annotated[
        dict[Model, Count],
        Meta(
            max_length=100,
            description="Separate limits of single models; all other models share `limit`: "
            '{ "glm-4.6" = 1 }.',
        ),
    ] = {}
    requests_per_minute: Annotated[
        CountOrNone, Meta(description="The maximum number of calls in any minute; 0: no limit.")
    ] = 0
    tokens_per_minute: Annotated[
        Tokens,
        Meta(
            description="The maximum number of tokens in any minute, prompts and answers "
            "together; 0: no limit."
        ),
    ] = 0
    requests_per_day: Annotated[
        CountOrNone, Meta(description="The maximum number of calls in any 24 hours; 0: no limit.")
    ] = 0
    tokens_per_day: Annotated[
        Tokens, Meta(description="The maximum number of tokens in any 24 hours; 0: no limit.")
    ] = 0
    max_wait_s: Annotated[
        Seconds,
        Meta(description="A session that has waited this long without a grant goes first."),
    ] = _CAPACITY.max_wait_s
    attempts: Annotated[
        int,
        Meta(
            ge=1,
            le=3,
            description="The maximum number of attempts of a request. It is retried only "
            "before the first piece of its answer.",
        ),
    ] = _CAPACITY.retry.attempts
    circuit_failures: Annotated[
        Count,
        Meta(description="The number of consecutive failures that opens the circuit."),
    ] = _CAPACITY.circuit.failures_in_a_row
    circuit_open_s: Annotated[
        Seconds,
        Meta(
            description="How long the circuit first stays open before a single call probes "
            "the service."
        ),
    ] = _CAPACITY.circuit.open_s
    adaptive: Annotated[
        bool,
        Meta(
            description="Whether to send fewer concurrent calls than `limit` after the "
            "service reported overload, then gradually more."
        ),
    ] = _CAPACITY.adaptive
    on_disconnect: Annotated[
        Literal["abort", "finish"],
        Meta(
            description='Whether to "abort" or to "finish" a call after its client has '
            "gone; the answer of a finished call is kept for `[session] resume_s`."
        ),
    ] = _CAPACITY.on_disconnect
    quarantine_s: Annotated[
        Literal["auto"] | SecondsOrNone,
        Meta(
            description="How long the permit of an aborted call rests, since the service may still "
            'count the call. "auto": 0.05 s and the time in which a connection to the service is '
            "opened, at most 1 s. Longer for a service that finishes aborted calls."
        ),
    ] = _CAPACITY.quarantine_s
    coalesce: Annotated[
        bool,
        Meta(description="Whether identical calls that overlap are sent once."),
    ] = _CAPACITY.coalesce


class OpenAIProvider(
    CapacityKeys,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="openai",
):
    """A service that speaks the OpenAI chat-completions protocol."""

    kind: ClassVar[Literal["openai"]] = "openai"
    example: ClassVar[dict[str, str]] = {
        "name": "kimi",
        "base_url": "https://api.moonshot.ai/v1",
        "api_key_env": "KIMI_API_KEY",
    }
    preset: Annotated[
        str,
        Meta(
            description="A known account or server that supplies address and limits where "
            "keys are missing here; `exai providers --presets` lists them."
        ),
    ] = ""
    base_url: Annotated[
        Text, Meta(description='The URL of the API, such as "https://api.example/v1".')
    ]
    api_key_env: Annotated[
        str,
        Meta(
            description="The environment variable that holds the API key. Empty: the "
            "service needs none."
        ),
    ] = ""
    models: Annotated[
        tuple[Model, ...],
        Meta(description="The models it serves. Empty: the service is asked for them."),
    ] = ()
    connect_timeout_s: Annotated[
        Seconds, Meta(description="How long connecting to the service may take.")
    ] = 10.0
    first_byte_timeout_s: Annotated[
        Seconds, Meta(description="How long the service may take to begin an answer.")
    ] = 60.0
    idle_timeout_s: Annotated[
        Seconds, Meta(description="How long the service may pause within an answer.")
    ] = 60.0
    total_timeout_s: Annotated[Seconds, Meta(description="How long a whole call may take.")] = 600.0
    max_answer_bytes: Annotated[
        Bytes, Meta(description="The largest answer accepted from the service.")
    ] = 33_554_432


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
    models: Annotated[
        tuple[Model, ...], Meta(min_length=1, description="The models it pretends to serve.")
    ] = ("synthetic",)
    limit: Annotated[Count, Meta(description="The maximum number of calls in flight.")] = 4
    delay_ms: Annotated[
        float, Meta(ge=0, le=3_600_000, description="The delay before each answer.")
    ] = 0.0
    tokens: Annotated[
        int, Meta(ge=0, le=10_000_000, description="The number of tokens in an answer.")
    ] = 16
    tokens_per_second: Annotated[
        float, Meta(ge=0, le=1_000_000_000, description="The speed of an answer; 0: immediately.")
    ] = 0.0
    failure_rate: Annotated[
        float, Meta(ge=0, le=1, description="The fraction of calls that fail.")
    ] = 0.0
    seed: Annotated[
        int,
        Meta(
            ge=0,
            le=2**63 - 1,
            description="Determines answers and failures: the same requests with the same "
            "seed get the same.",
        ),
    ] = 0


ProviderConfig = OpenAIProvider | SyntheticProvider

PROVIDER_KINDS: dict[str, type[ProviderConfig]] = {
    struct.kind: struct for struct in get_args(ProviderConfig)
}
