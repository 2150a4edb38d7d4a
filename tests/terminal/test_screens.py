"""Every pane as text at both sizes.

To renew the files after a change that you want:
``EXAI_RENEW_SCREENS=1 python -m pytest tests/terminal/test_screens.py``, and read the difference.
"""

from __future__ import annotations

import pytest

from exai_actors.terminal.app import ConsoleApp
from tests.terminal.scripted import LARGE, SMALL, ScriptedSource, assert_screen, settle

WHERE = "ws://127.0.0.1:8079"
HISTORY = {
    "every_s": 1.0,
    "columns": ["time", "in_flight", "queued", "completed", "refused", "failed", "loop_lag_s"],
    "rows": [
        [1_700_004_200.0 + n, n % 10, (n * 7) % 40, 40 * n, max(0, n - 100), 0, 0.001 * (n % 5)]
        for n in range(120)
    ],
}
PANES = [
    "overview",
    "tree",
    "actors",
    "providers",
    "tenants",
    "requests",
    "events",
    "alarms",
    "gates",
]


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x50"])
async def test_panes(size: tuple[int, int]) -> None:
    source = ScriptedSource()
    source.answers = {
        "history": HISTORY,
        "why": {
            "text": "It waits for a permit of kimi: 6 of 6 are held.",
            "request": "r-3",
            "state": "queued",
            "figures": {"limit": 6, "in_flight": 6},
            "ahead": [
                {"request": "r-1", "tenant": "alice", "because": "it came first"},
                {"request": "r-2", "tenant": "alice", "because": "it came first"},
            ],
            "starts_in_s": 1.5,
            "waited_s": 6.0,
        },
        "request": {
            "request": "r-3",
            "timeline": [
                {"at_s": 0.0, "where": "connection", "event": "received", "detail": ""},
                {"at_s": 0.001, "where": "provider", "event": "queued", "detail": "kimi"},
            ],
        },
    }
    app = ConsoleApp(source, WHERE)
    name = "x".join(map(str, size))
    async with app.run_test(size=size) as pilot:
        for pane in PANES:
            app.show_pane(pane)
            await settle(pilot)
            assert_screen(app, f"{pane}-{name}")
        app.show_pane("requests")
        await settle(pilot)
        await pilot.press("j", "j", "w")
        await settle(pilot)
        assert_screen(app, f"why-{name}")
        await pilot.press("escape", "enter")
        await settle(pilot)
        assert_screen(app, f"request-{name}")
        await pilot.press("escape")
        app.show_pane("providers")
        await settle(pilot)
        await pilot.press("a")
        await settle(pilot)
        assert_screen(app, f"actions-{name}")
        await pilot.press("1")
        await settle(pilot)
        assert_screen(app, f"preview-{name}")
        await pilot.press("escape")
        await settle(pilot)
        await pilot.press("question_mark")
        await settle(pilot)
        assert_screen(app, f"help-{name}")


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x50"])
async def test_an_idle_broker(size: tuple[int, int]) -> None:
    broker = ["ok", 12.0, 0, 9, 0, 0, 0, 0, 0, 0.0, 0, 0, 0, 0.001]
    kimi = ["kimi", "serving", 6, 0, 6, True, 0, 0.0, None, 0, 0]
    source = ScriptedSource({"broker": {"broker": broker}, "providers": {"kimi": kimi}})
    app = ConsoleApp(source, WHERE)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        assert_screen(app, f"idle-{'x'.join(map(str, size))}")
        app.show_pane("events")
        await settle(pilot)
        assert_screen(app, f"empty-{'x'.join(map(str, size))}")
