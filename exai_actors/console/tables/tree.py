"""The tree of supervision: the supervisors, their children, and the restarts they needed."""

from __future__ import annotations

from collections.abc import Iterator

from exai_actors.console.tables.cells import COUNT, SECONDS, TEXT, TOTAL, rounded_if
from exai_actors.core.observe.query import Column, Table
from exai_actors.core.observe.tables import Keyed, ManyRows
from exai_actors.runtime import SupervisorBoard

TREE = Table(
    "tree",
    # Those that fit beside each other on a narrow screen come first.
    (
        Column("path", "Path", TEXT, "where the actor lives"),
        Column(
            "phase",
            "Phase",
            TEXT,
            "waiting (to start), starting, running, suspended, stopping, stopped, or closed",
        ),
        Column(
            "strategy",
            "Strategy",
            TEXT,
            "of a supervisor: which children restart with a failed one",
        ),
        Column("restarts", "Restarts", TOTAL, "how often it was restarted after a failure"),
        Column("used", "Used", COUNT, "restarts within the period, its own or its children's"),
        Column("intensity", "Allowed", COUNT, "how many restarts are allowed within the period"),
        Column("backoff_s", "Backoff", SECONDS, "the time until it is started again"),
        Column("last_error", "Last error", TEXT, "class and place of the error that ended it last"),
        Column("kind", "Kind", TEXT, "its class; empty while it has no actor"),
        Column("period_s", "Period", SECONDS, "the period in which restarts count"),
        Column("depth", "Depth", COUNT, "how many supervisors are above it"),
    ),
)


class TreeRows(ManyRows):
    """One row for each place of the tree, depth first, read when its turn comes."""

    def __init__(self, supervisors: SupervisorBoard) -> None:
        self._supervisors = supervisors

    def __len__(self) -> int:
        return len(self._supervisors)

    def __iter__(self) -> Iterator[Keyed]:
        for row in self._supervisors.rows():
            yield (
                row.path,
                (
                    row.path,
                    row.phase,
                    row.strategy,
                    row.restarts,
                    row.used,
                    row.intensity,
                    rounded_if(row.backoff_s),
                    row.last_error,
                    row.kind,
                    row.period_s,
                    row.depth,
                ),
            )
