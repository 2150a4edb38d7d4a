"""The requests without an outcome: where each is, and why it waits."""

from __future__ import annotations

from exai_actors.console.tables.cells import COUNT, FLAG, SECONDS, TEXT, rounded_if
from exai_actors.core.observe.parts import RequestState
from exai_actors.core.observe.query import Column, Table
from exai_actors.core.observe.tables import Keyed, Row
from exai_actors.core.wait_reasons import words
from exai_actors.ids import shown_tenant

REQUESTS = Table(
    "requests",
    (
        Column("request", "Request", TEXT, "its number: that of its session, and its own"),
        Column("tenant", "Tenant", TEXT, "the owner of its client's token"),
        Column("state", "State", TEXT, "waiting (in its session), queued, running or retrying"),
        Column("position", "Pos", COUNT, "its place in the provider's queue"),
        Column("waited_s", "Waited", SECONDS, "how long it has waited, or did before it ran"),
        Column("starts_in_s", "Starts in", SECONDS, "the predicted time until it runs"),
        Column("reason", "Reason", TEXT, "the code of the limit that it waits for"),
        Column("provider", "Provider", TEXT, "the provider that it is meant for now"),
        Column("model", "Model", TEXT, "the model that it is meant for now"),
        Column("request_id", "Client's id", TEXT, "the id that its client gave it"),
        Column("session", "Session", TEXT, "the beginning of its session's name"),
        Column("connection", "Connection", TEXT, "the connection that waits for it first"),
        Column("attempt", "Attempt", COUNT, "how often it got a permit"),
        Column("running_s", "Runs", SECONDS, "how long this attempt has run"),
        Column("pieces", "Pieces", COUNT, "the pieces of its answer that were sent"),
        Column("held", "Held", FLAG, "whether an operator keeps it from running"),
        Column("detail", "Detail", TEXT, "the reason in words"),
    ),
)


def request_row(state: RequestState, now: float) -> Keyed:
    """The row of a request at ``now``; its key is its number."""
    reason = state.reason
    row: Row = (
        state.number,
        shown_tenant(state.tenant),
        state.state,
        state.position,
        max(0.0, round(state.waited_s, 1)),
        rounded_if(state.starts_in_s),
        "" if reason is None else reason.code.value,
        state.provider,
        state.model,
        state.request_id,
        state.session,
        state.connection,
        state.attempt,
        None if state.running_s is None else round(state.running_s, 1),
        state.pieces,
        state.is_held,
        "" if reason is None else words(reason, now),
    )
    return state.number, row
