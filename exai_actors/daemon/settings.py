"""The settings of actors and edges, made from the configuration."""

from __future__ import annotations

from math import inf
from typing import Any, TypeVar

import msgspec

from exai_actors.actors.connection.settings import ConnectionSettings
from exai_actors.actors.http_exchange.settings import ExchangeSettings
from exai_actors.actors.provider.settings import ProviderSettings
from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.alarm_readings import Thresholds
from exai_actors.core.authentication import Authenticator, Identity
from exai_actors.core.capacity.settings import (
    CapacitySettings,
    CircuitSettings,
    GateSettings,
    RetrySettings,
)
from exai_actors.core.families import Family
from exai_actors.core.loopback import is_loopback
from exai_actors.core.operators import Operator, Operators, Role
from exai_actors.core.places import PlaceLimits, Places
from exai_actors.daemon.config.provider_tables import (
    OpenAIProvider,
    ProviderConfig,
    SyntheticProvider,
)
from exai_actors.daemon.config.tables import Config
from exai_actors.edges.http.settings import Address, HttpSettings
from exai_actors.edges.synthetic.settings import SyntheticSettings
from exai_actors.edges.websocket.settings import WebSocketSettings
from exai_actors.ids import DEFAULT_TENANT, TenantName

S = TypeVar("S", bound=msgspec.Struct)

# How long a call may take to end after its timeout, while its connection is closed.
ENDING_S = 30.0


def authenticator(config: Config) -> Authenticator:
    entries = (
        (config.access_tokens[entry.name], Identity(entry.tenant_name, entry.window or None))
        for entry in config.access
    )
    return Authenticator(config.server.token, tuple(entries))


def operators(config: Config) -> Operators:
    entries = (
        (config.operator_tokens[entry.name], Operator(entry.name, Role(entry.role)))
        for entry in config.operator
    )
    return Operators(tuple(entries), on_loopback=is_loopback(config.server.host))


def thresholds(config: Config) -> Thresholds:
    return _filled(Thresholds, (config.alarms,))


def tenant_weights(config: Config) -> dict[TenantName, float]:
    return {entry.tenant_name: entry.weight for entry in config.access}


def places(config: Config) -> Places:
    server = config.server
    limits = PlaceLimits(
        server.max_connections,
        per_tenant=server.max_connections_per_tenant or None,
        per_address=server.max_connections_per_address or None,
    )
    tenants = {TenantName(entry.tenant_name) for entry in config.access}
    if server.token or not tenants:
        tenants.add(DEFAULT_TENANT)
    return Places(limits, frozenset(tenants))


def capacity_settings(provider: ProviderConfig, config: Config) -> CapacitySettings:
    return _filled(
        CapacitySettings,
        (provider,),
        session_queue=provider.queue,
        model_limits=tuple(provider.model_limits.items()),
        gates=GateSettings(
            provider.requests_per_minute or None,
            provider.tokens_per_minute or None,
            provider.requests_per_day or None,
            provider.tokens_per_day or None,
        ),
        weights=tuple(tenant_weights(config).items()),
        retry=RetrySettings(attempts=provider.attempts),
        circuit=CircuitSettings(
            failures_in_a_row=provider.circuit_failures,
            open_s=provider.circuit_open_s,
            open_cap_s=max(CircuitSettings().open_cap_s, provider.circuit_open_s),
        ),
    )


def provider_settings(provider: ProviderConfig, config: Config) -> ProviderSettings:
    return _filled(
        ProviderSettings,
        (provider, config.session),
        kind=provider.kind,
        capacity=capacity_settings(provider, config),
        longest_call_s=(
            provider.total_timeout_s + ENDING_S if isinstance(provider, OpenAIProvider) else inf
        ),
    )


def session_settings(config: Config, identity: Identity) -> SessionSettings:
    session = config.session
    return _filled(
        SessionSettings,
        (session, config.chat),
        window=session.window if identity.window is None else identity.window,
        tenant=identity.tenant,
    )


def connection_settings(config: Config) -> ConnectionSettings:
    return _filled(
        ConnectionSettings,
        (config.server, config.session, config.compat),
        call_timeout_s=config.session.request_timeout_s,
        compat_text=config.compat.text,
    )


def exchange_settings(config: Config) -> ExchangeSettings:
    return _filled(ExchangeSettings, (config.http,))


def websocket_settings(config: Config) -> WebSocketSettings:
    server = config.server
    per_address = server.max_connections_per_address or None
    return _filled(WebSocketSettings, (server,), max_connections_per_address=per_address)


def http_settings(provider: OpenAIProvider) -> HttpSettings:
    return _filled(HttpSettings, (provider,))


def relay_addresses(provider: OpenAIProvider) -> dict[Family, Address]:
    """Where requests of each of the provider's families are relayed to, and by which header."""
    own, messages = provider.api_key_header, provider.messages_api_key_header
    return {
        family: Address(url, messages or own if family == "messages" else own)
        for family, url in provider.addresses().items()
    }


def synthetic_settings(provider: SyntheticProvider) -> SyntheticSettings:
    return _filled(SyntheticSettings, (provider,))


def _filled(settings: type[S], tables: tuple[msgspec.Struct, ...], **differing: Any) -> S:
    """Fill settings from the keys of the same name in ``tables``, and from ``differing``."""
    same = {
        name: getattr(table, name)
        for table in tables
        for name in settings.__struct_fields__
        if name in table.__struct_fields__
    }
    return settings(**same | differing)
