"""The usage of each account by tenant, session and model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from exai_actors.console.tables.cells import COUNT, TEXT
from exai_actors.core.observe.parts import UsageState
from exai_actors.core.observe.query import Column, Table
from exai_actors.core.observe.tables import Keyed
from exai_actors.ids import shown_tenant

USAGE = Table(
    "usage",
    (
        Column("provider", "Provider", TEXT, "whose account was used"),
        Column("tenant", "Tenant", TEXT, "the owner of the clients' tokens"),
        Column("session", "Session", TEXT, "the beginning of its name; empty for many small ones"),
        Column("model", "Model", TEXT, "the service's name of the model; empty for many"),
        Column("calls_now", "Now", COUNT, "calls that run"),
        Column("calls_hour", "Calls/h", COUNT, "calls that ended in the last hour"),
        Column("tokens_hour", "Tokens/h", COUNT, "LLM tokens of the last hour"),
        Column("calls_day", "Calls/d", COUNT, "calls that ended in the last 24 hours"),
        Column("tokens_day", "Tokens/d", COUNT, "LLM tokens of the last 24 hours"),
    ),
)


def usage_rows(usage: Iterable[UsageState]) -> Iterator[Keyed]:
    """One row for each user, the one with the most tokens in the last hour first."""
    for used in sorted(usage, key=lambda each: (-each.tokens_hour, -each.running)):
        yield (
            f"{used.provider}/{used.tenant}/{used.session}/{used.model}",
            (
                used.provider,
                shown_tenant(used.tenant),
                used.session,
                used.model,
                used.running,
                used.calls_hour,
                round(used.tokens_hour),
                used.calls_day,
                round(used.tokens_day),
            ),
        )
