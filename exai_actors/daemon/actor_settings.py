"""From the configuration file's words to the values each actor goes by."""

from __future__ import annotations

from math import inf

from exai_actors.actors.settings import ConnectionSettings, ProviderSettings, SessionSettings
from exai_actors.core.authentication import Authenticator, Identity
from exai_actors.core.capacity.settings import (
    CapacitySettings,
    CircuitSettings,
    GateSettings,
    RetrySettings,
)
from exai_actors.daemon.config.provider_tables import OpenAIProvider, ProviderConfig
from exai_actors.daemon.config.tables import Config

# What the end of a call may take beyond its time: its connection is closed first.
ENDING_S = 30.0


def authenticator(config: Config) -> Authenticator:
    entries = (
        (config.access_tokens[entry.name], Identity(entry.tenant_name, entry.window or None))
        for entry in config.access
    )
    return Authenticator(config.server.token, tuple(entries))


def capacity_settings(provider: ProviderConfig, config: Config) -> CapacitySettings:
    weights = {entry.tenant_name: entry.weight for entry in config.access}
    return CapacitySettings(
        limit=provider.limit,
        queue=provider.queue,
        session_queue=provider.queue,
        model_limits=tuple(provider.model_limits.items()),
        gates=GateSettings(
            provider.requests_per_minute or None,
            provider.tokens_per_minute or None,
            provider.requests_per_day or None,
            provider.tokens_per_day or None,
        ),
        weights=tuple(weights.items()),
        max_wait_s=provider.max_wait_s,
        retry=RetrySettings(attempts=provider.attempts),
        circuit=CircuitSettings(
            failures_in_a_row=provider.circuit_failures,
            open_s=provider.circuit_open_s,
            open_cap_s=max(CircuitSettings().open_cap_s, provider.circuit_open_s),
        ),
        adaptive=provider.adaptive,
        on_disconnect=provider.on_disconnect,
        quarantine_s=provider.quarantine_s,
        coalesce=provider.coalesce,
    )


def provider_settings(provider: ProviderConfig, config: Config) -> ProviderSettings:
    return ProviderSettings(
        name=provider.name,
        kind=provider.kind,
        models=provider.models,
        capacity=capacity_settings(provider, config),
        progress_interval_s=config.session.progress_interval_s,
        longest_call_s=(
            provider.total_timeout_s + ENDING_S if isinstance(provider, OpenAIProvider) else inf
        ),
    )


def session_settings(config: Config, grant: Identity) -> SessionSettings:
    session = config.session
    return SessionSettings(
        window=session.window if grant.window is None else grant.window,
        conversation_limit=session.conversation_limit,
        queue=session.queue,
        request_timeout_s=session.request_timeout_s,
        outcome_ttl_s=session.outcome_ttl_s,
        outcome_count=session.outcome_count,
        outcome_size=session.outcome_bytes,
        request_size=session.request_bytes,
        history_turns=session.history_turns,
        history_size=session.history_bytes,
        conversations=session.conversations,
        system_prompt=config.chat.system_prompt,
        tenant=grant.tenant,
    )


def connection_settings(config: Config) -> ConnectionSettings:
    return ConnectionSettings(
        hello_timeout_s=config.server.hello_timeout_s,
        progress_interval_s=config.session.progress_interval_s,
        slow_consumer_s=config.server.slow_consumer_s,
        call_timeout_s=config.session.request_timeout_s,
        compat_text=config.compat.text,
        envelope=config.compat.envelope,
    )
