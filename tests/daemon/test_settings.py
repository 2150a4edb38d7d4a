"""Settings of actors and edges are made from the configuration and have the same defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import msgspec

from exai_actors.actors.connection.settings import ConnectionSettings
from exai_actors.actors.http_exchange.settings import ExchangeSettings
from exai_actors.actors.provider.settings import ProviderSettings
from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.authentication import Identity
from exai_actors.core.capacity.settings import (
    CapacitySettings,
    CircuitSettings,
    GateSettings,
    RetrySettings,
)
from exai_actors.daemon.config.provider_tables import (
    PROVIDER_KINDS,
    OpenAIProvider,
    SyntheticProvider,
)
from exai_actors.daemon.config.tables import FileConfig
from exai_actors.daemon.settings import (
    capacity_settings,
    connection_settings,
    exchange_settings,
    http_settings,
    places,
    provider_settings,
    session_settings,
    synthetic_settings,
    websocket_settings,
)
from exai_actors.edges.http.settings import HttpSettings
from exai_actors.edges.synthetic.settings import SyntheticSettings
from exai_actors.edges.websocket.settings import WebSocketSettings
from exai_actors.ids import DEFAULT_TENANT, ConnectionId, TenantName
from tests.daemon.configs import config_of

COPIED = (
    CapacitySettings,
    ConnectionSettings,
    ExchangeSettings,
    HttpSettings,
    ProviderSettings,
    SessionSettings,
    SyntheticSettings,
    WebSocketSettings,
)


def test_defaults_of_configuration_and_settings_agree() -> None:
    config = config_of("")
    (provider,) = config.provider
    assert session_settings(config, Identity(DEFAULT_TENANT)) == SessionSettings()
    assert connection_settings(config) == ConnectionSettings()
    assert provider_settings(provider, config) == ProviderSettings(
        "synthetic", "synthetic", ("synthetic",), CapacitySettings(limit=4)
    )
    assert isinstance(provider, SyntheticProvider)
    assert synthetic_settings(provider) == SyntheticSettings()
    assert http_settings(OpenAIProvider(name="a", base_url="http://a")) == HttpSettings()
    assert websocket_settings(config) == WebSocketSettings()
    assert exchange_settings(config) == ExchangeSettings()


def test_places_are_kept_for_the_tenants_with_tokens() -> None:
    config = config_of(
        """
        [server]
        token = "the-shared-token"
        max_connections = 8
        max_connections_per_address = 5
        [[access]]
        name = "t"
        token_env = "T"
    """,
        {"T": "the-token-of-a-tenant"},
    )
    of_t = places(config)
    taken = [of_t.take(ConnectionId(str(n)), TenantName("t"), "") is None for n in range(8)]
    assert taken == [True] * 6 + [False] * 2
    of_one = places(msgspec.structs.replace(config, access=()))
    address = [of_one.take(ConnectionId(str(n)), DEFAULT_TENANT, "a") is None for n in range(8)]
    assert address == [True] * 5 + [False] * 3
    capped = msgspec.structs.replace(config.server, max_connections_per_tenant=2)
    of_two = places(msgspec.structs.replace(config, server=capped))
    taken = [of_two.take(ConnectionId(str(n)), TenantName("t"), "") is None for n in range(8)]
    assert sum(taken) == 2


def test_keys_of_a_session_reach_its_actors() -> None:
    config = config_of("""
        [server]
        hello_timeout_s = 1
        [session]
        window = 1
        request_bytes = 3000
        request_timeout_s = 5
        outcome_bytes = 8000
        history_bytes = 10000
        [chat]
        system_prompt = "be brief"
        [compat]
        text = false
        envelope = "ex-ai"
    """)
    assert session_settings(config, Identity(TenantName("t"), window=3)) == SessionSettings(
        window=3,
        request_bytes=3000,
        request_timeout_s=5,
        outcome_bytes=8000,
        history_bytes=10000,
        system_prompt="be brief",
        tenant=TenantName("t"),
    )
    assert connection_settings(config) == ConnectionSettings(
        hello_timeout_s=1, call_timeout_s=5, compat_text=False, envelope="ex-ai"
    )


def test_keys_of_a_provider_reach_its_actor() -> None:
    config = config_of("""
        [[access]]
        name = "t"
        token_env = "T"
        weight = 2
        [[provider]]
        kind = "synthetic"
        name = "s"
        limit = 2
        queue = 3
        model_limits = { m = 4 }
        requests_per_minute = 5
        tokens_per_minute = 6
        requests_per_day = 7
        tokens_per_day = 8
        attempts = 1
        circuit_failures = 10
        circuit_open_s = 100
        coalesce = true
    """)
    capacity = capacity_settings(config.provider[0], config)
    assert capacity == CapacitySettings(
        limit=2,
        queue=3,
        session_queue=3,
        model_limits=(("m", 4),),
        gates=GateSettings(5, 6, 7, 8),
        weights=(("t", 2),),
        retry=RetrySettings(attempts=1),
        circuit=CircuitSettings(failures_in_a_row=10, open_s=100, open_cap_s=100),
        coalesce=True,
    )


def test_every_key_is_copied_by_name_or_used_by_the_daemon() -> None:
    copied = {name for settings in COPIED for name in settings.__struct_fields__}
    daemon = Path(__file__).parents[2] / "exai_actors" / "daemon"
    used = set(re.findall(r"\.(\w+)", "".join(each.read_text() for each in daemon.rglob("*.py"))))
    tables = [each.type for each in msgspec.structs.fields(FileConfig)]
    structs = [table for table in tables if not get_args(table)] + [*PROVIDER_KINDS.values()]
    keys = {name for struct in structs for name in struct.__struct_fields__}
    assert len(keys) > 50
    assert keys - {"preset"} <= copied | used  # a preset is replaced by its keys before
