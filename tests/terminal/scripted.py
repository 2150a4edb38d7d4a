"""A scripted feed for the console, and its screen as text."""

from __future__ import annotations

import asyncio
import os
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pytest
from textual.app import App
from textual.pilot import Pilot

from exai_actors.core.observe.query import Column, Kind, PreparedQuery, Query, QueryError, Table
from exai_actors.errors import ExaiError, UsageError
from exai_actors.terminal.app import ConsoleApp
from exai_actors.terminal.source import Listener, SeenTable, Window

SCREENS = Path(__file__).parent / "screens"
STARTED_AT = 1_700_000_000.0
SMALL, LARGE = (80, 24), (160, 50)


def columns(*specs: str) -> list[dict[str, str]]:
    """Columns from texts such as ``queued count Queued``."""
    found = []
    for spec in specs:
        name, kind, *title = spec.split()
        shown = " ".join(title) or name.capitalize()
        found.append({"name": name, "kind": kind, "title": shown, "help": f"explains {shown}"})
    return found


TABLES = {
    "broker": columns(
        "health text", "uptime_s seconds", "in_flight count", "limit count", "queued count",
        "completed total", "failed total", "refused total", "restarts count", "loop_lag_s seconds",
        "connections count", "sessions count", "dead_letters count", "sampling_share share",
    ),
    "tree": columns(
        "path text", "depth count", "strategy text", "phase text", "restarts count",
        "backoff_s seconds Backoff", "last_error text Last error",
    ),
    "actors": columns(
        "path text", "class text", "state text", "user count", "full share",
        "oldest_s seconds Oldest", "processed total", "failed total",
    ),
    "providers": columns(
        "name text Provider", "state text", "limit count", "in_flight count In flight",
        "free count", "conserved flag", "queued count", "full share", "service_s seconds Service",
        "completed total", "refused total",
    ),
    "requests": columns(
        "request text Request", "tenant text", "state text", "position count",
        "waited_s seconds Waited", "starts_in_s seconds Starts", "reason text", "model text",
    ),
    "tenants": columns(
        "tenant text", "weight count", "queued count", "share_received share Received",
        "share_entitled share Entitled",
    ),
    "events": columns("at_s seconds At", "event text", "where text", "what text"),
    "alarms": columns("name text", "severity text", "text text"),
    "gates": columns("provider text", "used count", "limit count", "remains count"),
}  # fmt: skip

ACTIONS = [
    {
        "name": "provider.pause", "title": "Pause", "table": "providers", "targets": True,
        "role": "operator", "allowed": True, "help": "Grant no call.", "arguments": [],
    },
    {
        "name": "provider.limit", "title": "Set limit", "table": "providers", "targets": True,
        "role": "admin", "allowed": True, "help": "Change the limit.",
        "arguments": [
            {"name": "limit", "kind": "count", "required": True, "help": "calls in flight"}
        ],
    },
    {
        "name": "provider.resume", "title": "Resume", "table": "providers", "targets": True,
        "role": "operator", "allowed": True, "help": "Grant calls again.", "arguments": [],
    },
]  # fmt: skip


def busy_rows() -> dict[str, dict[str, list[Any]]]:
    """A broker under load with one provider in trouble."""
    actors = {
        f"/connections/conn-{n}#1": [
            f"/connections/conn-{n}", "ConnectionActor", "idle", 0, 0.0, 0.0, 40 + n, 0,
        ]
        for n in range(1, 61)
    }  # fmt: skip
    return {
        "broker": {
            "broker": [
                "degraded: glm is held", 4_325.0, 7, 9, 31,
                5_120, 3, 12, 1, 0.0021, 60, 60, 2, 0.004,
            ]
        },
        "tree": {
            "/": ["/", 0, "rest_for_one", "running", 0, None, None],
            "/providers": ["/providers", 1, "one_for_one", "running", 1, None, None],
            "/providers/kimi": ["/providers/kimi", 2, None, "running", 0, None, None],
            "/providers/glm": ["/providers/glm", 2, None, "backoff", 1, 2.5, "ValueError: boom"],
            "/sessions": ["/sessions", 1, "one_for_one", "running", 0, None, None],
            "/sessions/s-1": ["/sessions/s-1", 2, None, "running", 0, None, None],
        },
        "actors": {
            "/providers/glm#2": [
                "/providers/glm", "ProviderActor", "busy", 870, 0.87, 12.5, 9_000, 1
            ],
            **actors,
        },
        "providers": {
            "kimi": ["kimi", "serving", 6, 6, 0, True, 12, 0.012, 0.948, 4_000, 0],
            "glm": ["glm", "held for 20 s", 3, 1, 2, False, 19, 0.87, 1.34, 1_120, 12],
        },
        "requests": {
            f"r-{n}": [f"job-{n}", "alice", "queued", n, 2.0 * n, 0.5 * n, "permit", "kimi-1"]
            for n in range(1, 32)
        },
        "tenants": {
            "alice": ["alice", 3.0, 31, 0.62, 0.75], "bob": ["bob", 1.0, 0, 0.38, 0.25],
        },
        "events": {
            "2": [4_320.5, "provider.held", "glm", "429: retry after 20 s"],
            "1": [4_301.0, "actor.restarted", "/providers/glm", "incarnation 2"],
        },
        "alarms": {"held": ["provider.held", "warning", "glm is held for 20 s by its service"]},
        "gates": {"kimi/60": ["kimi", 170, 200, 30]},
    }  # fmt: skip


class ScriptedSource:
    """A source whose rows the test sets; the broker's own query chooses among them."""

    def __init__(
        self,
        rows: dict[str, dict[str, list[Any]]] | None = None,
        *,
        role: str = "admin",
        tables: dict[str, list[dict[str, str]]] | None = None,
    ) -> None:
        self.rows = busy_rows() if rows is None else rows
        may = role != "viewer"
        self.greeting: dict[str, Any] = {
            "role": role,
            "broker": {"version": "1.2.3"},
            "tables": tables or TABLES,
            "questions": ["history", "why", "actor", "request"],
            "actions": [{**each, "allowed": may} for each in ACTIONS],
        }
        self.tables: dict[str, SeenTable] = {}
        self.watched: dict[str, Window] = {}
        self.asked: list[tuple[str, str]] = []
        self.acts: list[dict[str, Any]] = []
        self.refusal = ""
        """Why every action is refused; empty if none is."""
        self.undos: list[dict[str, Any]] = []
        """How actions are undone, instead of by resuming their targets."""
        self.forbidden: set[str] = set()
        """The actions that are refused as a whole, though not their previews."""
        self.seconds = 0.0
        self.answers: dict[str, dict[str, Any]] = {
            "history": {"every_s": 1.0, "columns": ["time"], "rows": []}
        }
        self.ends_with: ExaiError | None = None
        self._listener: Listener | None = None

    @property
    def listener(self) -> Listener:
        assert self._listener is not None
        return self._listener

    def watch(self, table: str, window: Window) -> None:
        if self.watched.get(table) != window:
            self.watched[table] = window
            asyncio.get_running_loop().call_soon(self.send, table)

    def unwatch(self, table: str) -> None:
        self.watched.pop(table, None)

    async def ask(self, question: str, of: str = "") -> dict[str, Any]:
        self.asked.append((question, of))
        if question not in self.answers:
            raise UsageError(f"there is no answer to {question}")
        return self.answers[question]

    async def act(self, action: dict[str, Any]) -> dict[str, Any]:
        if action["action"] in self.forbidden and not action["preview"]:
            raise UsageError("your role may not do this any more")
        self.acts.append(action)
        targets = action.get("targets") or ["kimi", "glm"]
        text, ok = self.refusal or "6 calls continue", not self.refusal
        effects = [{"target": each, "text": text, "ok": ok} for each in targets]
        undo: dict[str, Any] = {"action": "provider.resume", "targets": targets, "arguments": {}}
        undos = [] if self.refusal else self.undos or [undo]
        return {"effects": effects, "undos": undos, "preview": action["preview"]}

    async def run(self, listener: Listener) -> None:
        self._listener = listener
        if self.ends_with is not None:
            raise self.ends_with
        listener.connected()
        await asyncio.Event().wait()

    def send(self, table: str) -> None:
        """Send the rows of a table, if it is watched."""
        window = self.watched.get(table)
        if window is None:
            return
        found = self.greeting["tables"][table]
        kinds = tuple(Column(c["name"], c["title"], Kind(c["kind"]), c["help"]) for c in found)
        query = Query(window.filter, window.sort, window.limit, window.skip)
        keyed = [(key, tuple(row)) for key, row in self.rows.get(table, {}).items()]
        try:
            chosen = PreparedQuery(Table(table, kinds), query).select(keyed)
        except QueryError as error:
            self.listener.refused(table, str(error))
            return
        seen = SeenTable(found, window)
        seen.rows = {key: list(row) for key, row in chosen.rows.items()}
        seen.matching, seen.total = chosen.matching, chosen.total
        seen.time = STARTED_AT + 4_325.0 + self.seconds
        self.tables[table] = seen
        self.listener.changed(table)

    def pass_second(self) -> None:
        """A second passes, and all watched tables come once more."""
        self.seconds += 1.0
        for table in list(self.watched):
            self.send(table)


def screen_text(app: App[Any]) -> str:
    """The screen as lines of text."""
    strips = app.screen._compositor.render_strips(app.size)
    return "\n".join(strip.text.rstrip() for strip in strips) + "\n"


def screen_styles(app: ConsoleApp, text: str) -> set[str]:
    """The colours of the pieces of the screen that contain the text."""
    found = set()
    for strip in app.screen._compositor.render_strips(app.size):
        for segment in strip:
            if text in segment.text and segment.style and segment.style.color:
                found.add(segment.style.color.name)
    return found


async def settle(pilot: Pilot[Any]) -> None:
    """Let everything that has been sent come to the screen."""
    before, same = "", 0
    while same < 3:
        # All widgets have had their messages, and the screen has been drawn.
        await pilot._wait_for_screen()
        await pilot.pause()
        text = screen_text(pilot.app)
        same = same + 1 if text == before else 0
        before = text


def assert_screen(app: ConsoleApp, name: str) -> None:
    """Compare the screen with its file; EXAI_RENEW_SCREENS=1 writes the file instead."""
    file = SCREENS / f"{name}.txt"
    text = screen_text(app)
    if os.environ.get("EXAI_RENEW_SCREENS"):
        file.write_text(text, "utf-8")
    expected = file.read_text("utf-8")
    if text == expected:
        return
    difference = unified_diff(
        expected.splitlines(), text.splitlines(), file.name, "the screen", n=0, lineterm=""
    )
    pytest.fail(
        "\n".join([*difference, "If it is better so: EXAI_RENEW_SCREENS=1 pytest ..."]),
        pytrace=False,
    )
