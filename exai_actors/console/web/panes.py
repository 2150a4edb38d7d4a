"""The panes of the web console, and the tables on each."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

BASE = "/console"


class Pane(msgspec.Struct, frozen=True):
    """A pane at ``/console/NAME``. The first of its tables has the filter, the order and the rows
    that can be marked; the others are below it.
    """

    name: str
    title: str
    tables: tuple[str, ...]

    @property
    def path(self) -> str:
        return f"{BASE}/{self.name}"


_PANES = (
    Pane("overview", "Overview", ("providers", "alarms", "events")),
    Pane("tree", "Tree", ("tree",)),
    Pane("actors", "Actors", ("actors",)),
    Pane("providers", "Providers", ("providers", "gates", "holds")),
    Pane("tenants", "Tenants", ("tenants",)),
    Pane("sessions", "Sessions", ("sessions",)),
    Pane("connections", "Connections", ("connections",)),
    Pane("requests", "Requests", ("requests",)),
    Pane("fairness", "Fairness", ("tenants",)),
    Pane("usage", "Usage", ("usage",)),
    Pane("events", "Events", ("events",)),
    Pane("dead-letters", "Dead letters", ("dead_letters",)),
    Pane("alarms", "Alarms", ("alarms",)),
    Pane("audit", "Audit", ("audit",)),
    Pane("traces", "Traces", ("traces",)),
    Pane("config", "Configuration", ("config",)),
)


def panes(tables: Collection[str]) -> tuple[Pane, ...]:
    """The panes that have something to show, and one for each table that is on none of them."""
    shown = [
        Pane(pane.name, pane.title, tuple(name for name in pane.tables if name in tables))
        for pane in _PANES
        if pane.tables[0] in tables
    ]
    known = {"broker", *(name for pane in _PANES for name in pane.tables)}
    others = [Pane(name, name.replace("_", " ").capitalize(), (name,)) for name in tables]
    return (*shown, *(pane for pane in others if pane.name not in known))
