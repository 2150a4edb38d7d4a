"""Logs at start which limits, presets, tenants, tokens and routes are in force. Names only."""

from __future__ import annotations

import structlog

from exai_actors.core.capacity.changes import GATES
from exai_actors.daemon.config.provider_tables import OpenAIProvider, ProviderConfig
from exai_actors.daemon.config.tables import DEFAULT_REASONS, Config, RouteConfig

log = structlog.get_logger()


def log_in_force(config: Config) -> None:
    """Log the settings of shares and limits."""
    for provider in config.provider:
        log.info(
            "config.provider",
            provider=provider.name,
            limit=provider.limit,
            gates=_gates(provider),
            preset=(provider.preset or None) if isinstance(provider, OpenAIProvider) else None,
        )
    window = config.session.window
    tenants: dict[str, list[str]] = {}
    for entry in config.access:
        tenants.setdefault(entry.tenant_name, []).append(entry.name)
    for entry in config.access:
        tokens = tenants.pop(entry.tenant_name, None)
        if tokens is not None:
            log.info(
                "config.tenant",
                tenant=entry.tenant_name,
                weight=entry.weight,
                window=entry.window or window,
                tokens=", ".join(tokens),
            )
    if config.server.token or not config.access:
        tokens_needed = "[server] token" if config.server.token else "none needed"
        log.info("config.tenant", tenant="default", weight=1.0, window=window, tokens=tokens_needed)
    for route in config.route:
        log.info("config.route", model=route.model, to=", ".join(route.to), on=_reasons(route))


def _reasons(route: RouteConfig) -> str:
    """The reasons, with one word for the default ones."""
    given = route.reasons
    if given[: len(DEFAULT_REASONS)] != DEFAULT_REASONS:
        return ", ".join(given)
    return ", ".join(("default", *given[len(DEFAULT_REASONS) :]))


def _gates(provider: ProviderConfig) -> str:
    """``200 requests/minute, 2,000,000 tokens/minute``; ``none`` without any."""
    figures = [
        f"{getattr(provider, name):,} {name.replace('_per_', '/')}"
        for name in GATES
        if getattr(provider, name)
    ]
    return ", ".join(figures) or "none"
