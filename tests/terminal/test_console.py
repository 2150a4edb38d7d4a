"""The console at work: keys, mouse, queries, actions, and a broker that comes and goes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from exai_actors.client.errors import Unauthorized
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.terminal import app as app_module
from exai_actors.terminal import reader
from exai_actors.terminal.app import ConsoleApp
from tests.terminal.conftest import NEVER_S
from tests.terminal.scripted import (
    LARGE,
    SMALL,
    ScriptedSource,
    busy_rows,
    columns,
    screen_styles,
    screen_text,
    settle,
)

GOOD, BAD = "#56d364", "#ff7b72"


def console(source: ScriptedSource | None = None) -> ConsoleApp:
    return ConsoleApp(source or ScriptedSource(), "ws://127.0.0.1:8079")


def source_of(app: ConsoleApp) -> ScriptedSource:
    assert isinstance(app.source, ScriptedSource)
    return app.source


async def write(pilot: Any, text: str) -> None:
    names = {" ": "space", ":": "colon", "/": "slash", ">": "greater_than_sign", "=": "equals_sign"}
    await pilot.press(*(names.get(each, each) for each in text))
    await settle(pilot)


def first_row(app: ConsoleApp) -> str:
    return screen_text(app).splitlines()[5]


def last_line(app: ConsoleApp) -> str:
    return screen_text(app).splitlines()[-1]


async def test_only_the_tables_on_the_screen_are_watched() -> None:
    app = console()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        assert set(source_of(app).watched) == {
            *("broker", "alarms", "providers", "events", "tenants", "requests"),
        }
        await pilot.press("3")
        await settle(pilot)
        assert set(source_of(app).watched) == {"broker", "alarms", "actors"}
        await pilot.press("p")
        assert source_of(app).watched == {}
        await settle(pilot)
        assert "FROZEN" in screen_text(app)
        await pilot.press("p")
        await settle(pilot)
        assert set(source_of(app).watched) == {"broker", "alarms", "actors"}
        assert "FROZEN" not in screen_text(app)


@pytest.mark.parametrize(
    ("keys", "pane"),
    [
        (["4"], "providers"),
        (["tab"], "tree"),
        (["shift+tab"], "gates"),
        (["colon", *"req", "enter"], "requests"),
        (["colon", *"gates", "enter"], "gates"),
        (["4", "escape"], "overview"),
        (["enter"], "providers"),
    ],
)
async def test_panes_are_chosen_by_key_and_by_name(keys: list[str], pane: str) -> None:
    app = console()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press(*keys)
        await settle(pilot)
        assert app.pane == pane


async def test_a_command_can_have_a_filter_and_an_unknown_one_is_explained() -> None:
    app = console()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("colon")
        await write(pilot, "actors glm")
        await pilot.press("enter")
        await settle(pilot)
        assert "/providers/glm" in first_row(app)
        assert "1–1 of 1 /glm" in last_line(app)
        await pilot.press("colon", *"nope", "enter")
        await settle(pilot)
        assert "there is no pane 'nope'" in last_line(app)


async def test_a_filter_works_while_it_is_written_and_escape_removes_it() -> None:
    app = console()
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("3", "slash")
        await write(pilot, "conn-7")
        assert "/connections/conn-7" in first_row(app)
        await pilot.press("enter")
        await settle(pilot)
        assert "of 1 /conn-7" in last_line(app)
        await pilot.press("escape")
        await settle(pilot)
        assert "of 61" in last_line(app)


async def test_a_filter_that_makes_no_sense_is_explained() -> None:
    app = console()
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("3", "slash")
        await write(pilot, "wait>3")
        await pilot.press("enter")
        await settle(pilot)
        assert "no column 'wait'" in last_line(app)


async def test_a_letter_sorts_and_twice_shows_growth_per_second() -> None:
    app = console()
    async with app.run_test(size=(120, 24)) as pilot:
        await pilot.press("3", "R")
        await settle(pilot)
        assert source_of(app).watched["actors"].sort == "-processed"
        assert "Processed▼" in screen_text(app)
        await pilot.press("R")
        for _ in range(4):
            for row in source_of(app).rows["actors"].values():
                row[6] += 5 if row[0].endswith("conn-3") else 1
            source_of(app).pass_second()
            await settle(pilot)
        assert "Processed/s▼" in screen_text(app)
        assert "/connections/conn-3 " in first_row(app)
        assert "5" in first_row(app).split()


async def test_a_second_press_and_r_reverse_other_columns() -> None:
    app = console()
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("3", "P")
        await settle(pilot)
        assert source_of(app).watched["actors"].sort == "path"
        await pilot.press("P")
        assert source_of(app).watched["actors"].sort == "-path"
        await pilot.press("r")
        assert source_of(app).watched["actors"].sort == "path"


async def test_scrolling_asks_for_the_rows_around_the_screen() -> None:
    rows = busy_rows()
    rows["actors"] = {f"{n}": [f"/a/{n:04}", "A", "idle", 0, 0.0, 0.0, 0, 0] for n in range(5_000)}
    app = console(ScriptedSource(rows))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("3")
        await settle(pilot)
        assert source_of(app).watched["actors"].limit <= 500
        await pilot.press("G")
        await settle(pilot)
        assert "/a/4999" in screen_text(app)
        assert "4983–5000 of 5000" in last_line(app)
        await pilot.press("pageup", "g")
        await settle(pilot)
        assert "> /a/0000" in screen_text(app)


async def test_the_cursor_stays_at_its_row_when_rows_move() -> None:
    app = console()
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("3", "j", "j")
        await settle(pilot)
        source = source_of(app)
        actors = source.rows["actors"]
        source.rows["actors"] = dict(reversed(actors.items()))
        source.pass_second()
        await settle(pilot)
        assert any(
            line.startswith("> /connections/conn-2 ") for line in screen_text(app).splitlines()
        )


async def test_from_85_percent_a_share_is_red_and_a_violated_conservation_too() -> None:
    app = console()
    async with app.run_test(size=(120, 24)) as pilot:
        await pilot.press("4", "j")
        await settle(pilot)
        assert screen_styles(app, "yes") == {"#ffffff"} or GOOD in screen_styles(app, "yes")
        await pilot.press("k")
        await settle(pilot)
        assert BAD in screen_styles(app, "NO")
        assert BAD in screen_styles(app, "87%")
        await pilot.press("1")
        await settle(pilot)
        assert BAD in screen_styles(app, "DIFFER")
        assert GOOD in screen_styles(app, "add up")


async def test_without_colours_states_are_in_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = console()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        text = screen_text(app)
        assert "! degraded: glm is held" in text
        assert "DIFFER" in text
        assert "! warning: glm is held for 20 s" in text
        assert app.no_color


async def test_the_mouse_chooses_rows_titles_and_panes() -> None:
    app = console()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.click("Tabs", offset=(18, 0))
        await settle(pilot)
        assert app.pane == "actors"
        await pilot.click("Grid", offset=(4, 3))
        await settle(pilot)
        assert app.view is not None
        assert app.view.cursor == 2
        await pilot.click("Grid", offset=(4, 0))
        await settle(pilot)
        assert source_of(app).watched["actors"].sort == "path"
        await pilot.click("Grid", offset=(4, 1))
        await settle(pilot)
        assert "explains Path" in screen_text(app)


async def test_the_last_line_counts_the_columns_that_have_no_room_any_more() -> None:
    app = console()
    source = source_of(app)
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("3")
        await settle(pilot)
        assert "· 1 more column:" in last_line(app)
        source.rows["actors"]["/connections/conn-1#1"][0] = "/connections/conn-" + "1" * 15
        source.pass_second()
        await settle(pilot)
        assert "· 2 more columns:" in last_line(app)


async def test_each_message_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    app = console()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        monkeypatch.setattr(app_module, "MESSAGE_S", 0.3)
        first_would_be_over = asyncio.Event()
        await pilot.press("u")
        app.set_timer(0.3, first_would_be_over.set)
        monkeypatch.setattr(app_module, "MESSAGE_S", NEVER_S)
        await pilot.press("+")
        await first_would_be_over.wait()
        await settle(pilot)
        assert "every 2 s" in last_line(app)
        monkeypatch.setattr(app_module, "MESSAGE_S", 0.01)
        await pilot.press("-")
        async with asyncio.timeout(10):
            while "every 1 s" in last_line(app):
                await pilot.pause(0.01)


async def test_a_failing_subtree_is_not_hidden_by_a_fold() -> None:
    app = console()
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("2", "f")
        await settle(pilot)
        text = screen_text(app)
        assert "▸ /" in text
        assert "glm" in text
        assert "sessions" not in text
        assert "kimi" not in text.partition("Path")[2]
        await pilot.press("f")
        await settle(pilot)
        assert "s-1" in screen_text(app)


async def shown(pilot: Any, text: str) -> None:
    """Wait for the next refreshing of a page."""
    async with asyncio.timeout(10):
        while text not in screen_text(pilot.app):
            await pilot.pause(0.01)


@pytest.fixture
def quick_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "REFRESH_S", 0.05)


@pytest.mark.usefixtures("quick_pages")
async def test_a_row_is_shown_with_explanations_and_the_answer_of_the_broker() -> None:
    source = ScriptedSource()
    source.answers["actor"] = {"children": ["/providers/glm/x"], "state": {"held": 3}}
    app = console(source)
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("3", "enter")
        await settle(pilot)
        text = screen_text(app)
        assert "explains Class" in text
        assert "/providers/glm/x" in text
        assert ("actor", "/providers/glm") in source.asked
        del source.rows["actors"]["/providers/glm#2"]
        source.pass_second()
        await shown(pilot, "This row is gone")


@pytest.mark.usefixtures("quick_pages")
async def test_why_asks_about_the_request_at_the_cursor() -> None:
    source = ScriptedSource()
    source.answers["why"] = {"text": "It waits for a permit.", "ahead": []}
    app = console(source)
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("w")
        await settle(pilot)
        assert "choose a request first" in last_line(app)
        await pilot.press("6", "j", "w")
        await settle(pilot)
        assert ("why", "r-2") in source.asked
        assert "It waits for a permit." in screen_text(app)
        del source.answers["why"]
        await shown(pilot, "! there is no answer to why")
        assert "It waits for a permit." in screen_text(app)


async def act(pilot: Any, *keys: str, reason: str = "too slow") -> None:
    await pilot.press("a", *keys)
    await settle(pilot)
    await write(pilot, reason)
    await pilot.press("enter")
    await settle(pilot)
    await pilot.press("y")
    await settle(pilot)


async def test_an_action_is_previewed_confirmed_and_undone() -> None:
    app = console()
    source = source_of(app)
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("4")
        await settle(pilot)
        await act(pilot, "1")
        asked = {"action": "provider.pause", "arguments": {}, "targets": ["kimi"]}
        assert source.acts == [
            {**asked, "reason": "", "preview": True},
            {**asked, "reason": "too slow", "preview": False},
        ]
        assert "✓ kimi  6 calls continue" in screen_text(app)
        await pilot.press("u")
        await settle(pilot)
        assert source.acts[-1]["action"] == "provider.resume"
        assert source.acts[-1]["preview"]


async def test_an_action_on_targets_in_different_states_is_undone_by_one_key() -> None:
    app = console()
    source = source_of(app)
    source.undos = [
        {"action": "provider.resume", "targets": ["kimi"], "arguments": {}},
        {"action": "provider.limit", "targets": ["glm"], "arguments": {"limit": 3}},
    ]
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("4", "slash", *"i", "enter")
        await settle(pilot)
        await act(pilot, "1")
        await pilot.press("u")
        await settle(pilot)
        assert "Undo: kimi, glm" in screen_text(app)
        await write(pilot, "wrong one")
        await pilot.press("enter")
        await settle(pilot)
        await pilot.press("y")
        await settle(pilot)
        done = [{"reason": "wrong one", "preview": False, **undo} for undo in source.undos]
        assert source.acts[-2:] == done


async def test_an_undo_that_is_refused_in_the_middle_can_be_continued() -> None:
    app = console()
    source = source_of(app)
    source.undos = [
        {"action": "provider.resume", "targets": ["kimi"], "arguments": {}},
        {"action": "provider.limit", "targets": ["glm"], "arguments": {"limit": 3}},
    ]
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("4", "slash", *"i", "enter")
        await settle(pilot)
        await act(pilot, "1")
        source.forbidden = {"provider.limit"}
        await pilot.press("u")
        await settle(pilot)
        await write(pilot, "wrong one")
        await pilot.press("enter")
        await settle(pilot)
        await pilot.press("y")
        await settle(pilot)
        assert "your role may not do this" in screen_text(app)
        await pilot.press("escape")
        await settle(pilot)
        assert "u undoes the rest" in last_line(app)
        await pilot.press("u")
        await settle(pilot)
        assert source.acts[-1] == {**source.undos[1], "reason": "", "preview": True}


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
async def test_the_preview_of_a_refusal_uses_the_width_of_the_screen(size: tuple[int, int]) -> None:
    app = console()
    source = source_of(app)
    why = "there is no call in flight, and " + "nothing to pause " * 5
    source.refusal = why
    async with app.run_test(size=size) as pilot:
        await pilot.press("4", "a", "1")
        await settle(pilot)
        lines = [line.strip() for line in screen_text(app).splitlines()]
        (at,) = [at for at, line in enumerate(lines) if line.startswith("✗ refused: kimi")]
        first = lines[at].removeprefix("✗ refused: kimi").strip()
        assert len(first) > size[0] // 2
        assert " ".join([first, *lines[at + 1 : at + 4]]).startswith(why.strip())


async def test_a_line_that_does_not_fit_ends_with_a_mark() -> None:
    app = console()
    source = source_of(app)
    long = "the queue is full " * 9
    source.rows["alarms"] = {
        "1": ["queue", "critical", long],
        "2": ["held", "warning", "glm is held"],
    }
    source.rows["events"] = {"1": [1.0, "provider.held", "glm", long]}
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        lines = screen_text(app).splitlines()
        alarm = lines[2]
        assert alarm.startswith("! critical: the queue is full the queue")
        assert alarm.rstrip().endswith("… (and 1 more)")
        (event,) = [line for line in lines if "provider.held" in line]
        assert event.endswith("…")
        assert max(map(len, lines)) == SMALL[0]


async def test_nothing_is_done_without_a_reason_or_a_yes() -> None:
    app = console()
    source = source_of(app)
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("4", "a", "1")
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert "needs a reason" in last_line(app)
        await write(pilot, "x")
        await pilot.press("enter", "n")
        await settle(pilot)
        assert [act["preview"] for act in source.acts] == [True]
        assert app.pane == "providers"


async def test_arguments_are_asked_for_and_checked() -> None:
    app = console()
    source = source_of(app)
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("4", "a", "2")
        await settle(pilot)
        await write(pilot, "many")
        await pilot.press("enter")
        await settle(pilot)
        assert "limit is a whole number" in last_line(app)
        await pilot.press(*["backspace"] * 4)
        await write(pilot, "5")
        await pilot.press("enter")
        await settle(pilot)
        assert source.acts[-1]["arguments"] == {"limit": 5}


@pytest.mark.parametrize(
    ("keys", "target"),
    [
        (["space", "space"], {"targets": ["glm", "kimi"]}),
        (["j"], {"targets": ["glm"]}),
        (["slash", *"glm", "enter"], {"targets": ["glm"]}),
        (["slash", *"!zzz", "enter"], {"filter": "!zzz"}),
    ],
)
async def test_actions_concern_marked_rows_or_all_that_match(
    keys: list[str], target: dict[str, Any]
) -> None:
    app = console()
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("4")
        await settle(pilot)
        for key in keys:
            await pilot.press({"!": "exclamation_mark"}.get(key, key))
            await settle(pilot)
        await pilot.press("a", "1")
        await settle(pilot)
        [asked] = source_of(app).acts
        assert {name: asked[name] for name in ("targets", "filter") if name in asked} == target


async def test_a_viewer_sees_actions_with_the_reason_why_not() -> None:
    app = console(ScriptedSource(role="viewer"))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("4", "a")
        await settle(pilot)
        assert "not allowed: needs the role operator, yours is viewer" in screen_text(app)
        await pilot.press("1", "enter")
        await settle(pilot)
        assert "not allowed" in last_line(app)
        assert source_of(app).acts == []


async def test_a_lost_broker_is_reported_and_its_return_too() -> None:
    app = console()
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("4")
        await settle(pilot)
        source = source_of(app)
        source.listener.lost("ws://127.0.0.1:8079: the connection broke off")
        await settle(pilot)
        text = screen_text(app)
        assert "✗ not connected" in text
        assert "! figures are old; trying again: ws://127.0.0.1:8079: the connection" in text
        assert "kimi" in text
        source.listener.connected()
        await settle(pilot)
        assert "not connected" not in screen_text(app)
        assert "connected again" in last_line(app)
        assert app.pane == "providers"


async def test_a_broker_without_a_pane_leads_to_the_overview() -> None:
    app = console()
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("8")
        await settle(pilot)
        source = source_of(app)
        tables = source.greeting["tables"]
        source.greeting["tables"] = {name: tables[name] for name in ("broker", "providers")}
        source.listener.connected()
        await settle(pilot)
        assert app.pane == "overview"
        assert "gates" not in screen_text(app)


async def test_a_refused_token_ends_the_console_with_its_error() -> None:
    source = ScriptedSource()
    source.ends_with = Unauthorized(ErrorBody(ErrorCode.UNAUTHORIZED, "needs a token"))
    app = console(source)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
    assert app.return_value is source.ends_with


async def test_the_waits_on_the_overview_are_read_less_often_than_what_costs_little() -> None:
    app = console()
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        watched = source_of(app).watched
        assert watched["requests"].every_s > watched["broker"].every_s


async def test_the_interval_can_be_changed() -> None:
    app = console()
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("3", "plus")
        await settle(pilot)
        assert source_of(app).watched["actors"].every_s == 2.0
        await pilot.press("minus", "minus")
        assert source_of(app).watched["actors"].every_s == 0.5


async def test_columns_that_do_not_fit_can_be_reached() -> None:
    app = console()
    async with app.run_test(size=(40, 24)) as pilot:
        await pilot.press("4")
        await settle(pilot)
        assert "Completed" not in screen_text(app)
        assert "more columns" in last_line(app)
        for _ in range(12):
            await pilot.press("full_stop")
            await settle(pilot)
        assert "Completed" in screen_text(app)
        assert "kimi" in screen_text(app)


async def test_tables_with_other_columns_are_shown_as_far_as_they_go() -> None:
    tables = {
        name: columns("name text", "new_figure count")
        for name in ("broker", "providers", "tenants", "requests", "events", "alarms", "tree")
    }
    rows = {name: {"a": ["first", 7]} for name in tables}
    app = console(ScriptedSource(rows, tables=tables))
    async with app.run_test(size=(160, 50)) as pilot:
        await settle(pilot)
        assert "first" in screen_text(app)
        for pane in ("tree", "providers", "requests"):
            app.show_pane(pane)
            await settle(pilot)
            assert "first" in first_row(app)


async def test_columns_that_do_not_fit_are_counted_for_the_table_on_the_screen() -> None:
    app = console()
    source_of(app).rows["events"] = {}
    async with app.run_test(size=(60, 24)) as pilot:
        app.show_pane("providers")
        await settle(pilot)
        assert "more columns" in last_line(app)
        app.show_pane("events")
        await settle(pilot)
        assert "no rows" in screen_text(app)
        assert "more columns" not in last_line(app)
