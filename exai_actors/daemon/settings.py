"""From the configuration file's words to the values each actor goes by."""

from __future__ import annotations

from exai_actors.actors.settings import ConnectionSettings, ProviderSettings, SessionSettings
from exai_actors.core.capacity_settings import CapacitySettings
from exai_actors.daemon.config import Config, ProviderConfig, SessionConfig


def of_provider(provider: ProviderConfig, session: SessionConfig) -> ProviderSettings:
    return ProviderSettings(
        name=provider.name,
        kind=provider.kind,
        models=provider.models,
        capacity=CapacitySettings(limit=provider.limit, queue=provider.queue),
        progress_interval_s=session.progress_interval_s,
    )


def of_session(config: Config) -> SessionSettings:
    session = config.session
    return SessionSettings(
        window=session.window,
        conversation_limit=session.conversation_limit,
        queue=session.queue,
        request_timeout_s=session.request_timeout_s,
        outcome_ttl_s=session.outcome_ttl_s,
        outcome_count=session.outcome_count,
        outcome_size=session.outcome_bytes,
        history_turns=session.history_turns,
        history_size=session.history_bytes,
        conversations=session.conversations,
        system_prompt=config.chat.system_prompt,
    )


def of_connection(config: Config) -> ConnectionSettings:
    return ConnectionSettings(
        hello_timeout_s=config.server.hello_timeout_s,
        progress_interval_s=config.session.progress_interval_s,
        slow_consumer_s=config.server.slow_consumer_s,
        call_timeout_s=config.session.request_timeout_s,
        compat_text=config.compat.text,
        envelope=config.compat.envelope,
    )
