"""The tables of the providers as values: what is called, and what its account allows."""

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
    """What every kind of provider has: its name and what its account allows."""

    name: Annotated[
        Name, Meta(description="What this provider is called: letters, digits, `_`, `.`, `-`.")
    ]
    limit: Annotated[Count, Meta(description="How many calls it allows in flight at once.")] = (
        _CAPACITY.limit
    )
    queue: Annotated[
        CountOrNone, Meta(description="How many requests may wait for it before it refuses.")
    ] = _CAPACITY.queue
    model_limits: Annotated[
        dict[Model, Count],
        Meta(
            max_length=100,
            description="Limits of single models, each apart from `limit`, which all other "
            'models share: { "glm-4.6" = 1 }.',
        ),
    ] = {}
    requests_per_minute: Annotated[
        CountOrNone, Meta(description="How many calls it allows in any minute; 0: no such limit.")
    ] = 0
    tokens_per_minute: Annotated[
        Tokens,
        Meta(description="How many tokens, sent and answered, in any minute; 0: no such limit."),
    ] = 0
    requests_per_day: Annotated[
        CountOrNone, Meta(description="How many calls in any 24 hours; 0: no such limit.")
    ] = 0
    tokens_per_day: Annotated[
        Tokens, Meta(description="How many tokens in any 24 hours; 0: no such limit.")
    ] = 0
    max_wait_s: Annotated[
        Seconds,
        Meta(description="After how long without any grant a session that waits goes first."),
    ] = _CAPACITY.max_wait_s
    attempts: Annotated[
        int,
        Meta(
            ge=1,
            le=3,
            description="How often a request is tried here, the first time included, when it "
            "fails before its first piece of answer.",
        ),
    ] = _CAPACITY.retry.attempts
    circuit_failures: Annotated[
        Count,
        Meta(description="After how many failures in a row it is left alone for a while."),
    ] = _CAPACITY.circuit.failures_in_a_row
    circuit_open_s: Annotated[
        Seconds,
        Meta(description="For how long at first, before one call tries whether it is back."),
    ] = _CAPACITY.circuit.open_s
    adaptive: Annotated[
        bool,
        Meta(
            description="Whether fewer calls than `limit` are sent at once after it said that it "
            "is overloaded, and more again bit by bit."
        ),
    ] = _CAPACITY.adaptive
    on_disconnect: Annotated[
        Literal["abort", "finish"],
        Meta(
            description='What becomes of a call whose client is gone: "abort", or "finish" and '
            "keep the answer for the session to collect, resume_s from then on."
        ),
    ] = _CAPACITY.on_disconnect
    quarantine_s: Annotated[
        SecondsOrNone,
        Meta(
            description="How long the permit of an aborted call stays out of use, for a provider "
            "that goes on with it regardless."
        ),
    ] = _CAPACITY.quarantine_s
    coalesce: Annotated[
        bool,
        Meta(description="Whether identical calls that run or wait at the same time are one."),
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
            description="A known account or server whose address and limits stand in for the keys "
            "that are not given here; `exai providers --presets` lists them."
        ),
    ] = ""
    base_url: Annotated[
        Text, Meta(description='Where its API begins, such as "https://api.example/v1".')
    ]
    api_key_env: Annotated[
        str,
        Meta(description="The environment variable that holds its key. Empty: it needs none."),
    ] = ""
    models: Annotated[
        tuple[Model, ...], Meta(description="The models it serves. Empty: it is asked.")
    ] = ()
    connect_timeout_s: Annotated[
        Seconds, Meta(description="How long connecting to it may take.")
    ] = 10.0
    first_byte_timeout_s: Annotated[
        Seconds, Meta(description="How long it may take to begin an answer.")
    ] = 60.0
    idle_timeout_s: Annotated[
        Seconds, Meta(description="How long it may fall silent within an answer.")
    ] = 60.0
    total_timeout_s: Annotated[Seconds, Meta(description="How long a whole call may take.")] = 600.0
    max_answer_bytes: Annotated[Bytes, Meta(description="The largest answer taken from it.")] = (
        33_554_432
    )


class SyntheticProvider(
    CapacityKeys,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="synthetic",
):
    """The built-in provider that makes its answers up and says so; no key, no network."""

    kind: ClassVar[Literal["synthetic"]] = "synthetic"
    example: ClassVar[dict[str, str]] = {"name": "synthetic"}
    models: Annotated[
        tuple[Model, ...], Meta(min_length=1, description="The models it pretends to serve.")
    ] = ("synthetic",)
    limit: Annotated[Count, Meta(description="How many calls it allows in flight at once.")] = 4
    delay_ms: Annotated[
        float, Meta(ge=0, le=3_600_000, description="How long it waits before an answer.")
    ] = 0.0
    tokens: Annotated[
        int, Meta(ge=0, le=10_000_000, description="How many tokens an answer has.")
    ] = 16
    tokens_per_second: Annotated[
        float, Meta(ge=0, le=1_000_000_000, description="How fast it writes them; 0: all at once.")
    ] = 0.0
    failure_rate: Annotated[
        float, Meta(ge=0, le=1, description="Which part of its calls fails, from 0 to 1.")
    ] = 0.0
    seed: Annotated[
        int,
        Meta(
            ge=0,
            le=2**63 - 1,
            description="Same seed, same requests: same answers, same failures.",
        ),
    ] = 0


ProviderConfig = OpenAIProvider | SyntheticProvider

PROVIDER_KINDS: dict[str, type[ProviderConfig]] = {
    struct.kind: struct for struct in get_args(ProviderConfig)
}
