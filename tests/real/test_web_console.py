"""The web console in a real browser: look, filter, act, lose the broker, and need no script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from exai_actors.console import consoles
from exai_actors.console.tables.actors import ACTORS
from exai_actors.testing.broker import BrokerInThread, broker_in_thread
from tests.real.conftest import need
from tools import real_parts

TOKENS = {role: f"token-of-the-{role}" for role in ("viewer", "operator", "admin")}
WITHIN_MS = 10_000
MANY = 5_000


def configuration(port: int = 0) -> dict[str, Any]:
    return {
        "server": {"port": port} if port else {},
        "operator": [
            {"name": f"a-{role}", "role": role, "token_env": f"EXAI_TEST_{role.upper()}"}
            for role in TOKENS
        ],
        "provider": [
            {"kind": "synthetic", "name": name, "models": [f"{name}-1"], "limit": limit}
            for name, limit in (("kimi", 4), ("glm", 3))
        ],
    }


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerInThread]:
    with pytest.MonkeyPatch.context() as patch:
        for role, token in TOKENS.items():
            patch.setenv(f"EXAI_TEST_{role.upper()}", token)
        with broker_in_thread(configuration()) as broker:
            yield broker


def console_of(broker: BrokerInThread) -> str:
    return f"http://127.0.0.1:{broker.port}/console"


OpenPage = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser) -> Iterator[OpenPage]:
    """Opens a page and logs in; errors that the page reports and broken policies fail the test."""
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def note(message: Any) -> None:
        # A page that asks for a token has the status 403, and a lost broker refuses connections.
        expected = ("403", "ERR_CONNECTION", "WebSocket connection")
        if message.type == "error" and not any(each in message.text for each in expected):
            problems.append(message.text)

    def open_page(address: str, role: str = "", **settings: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 720}, **settings})
        contexts.append(context)
        context.set_default_timeout(WITHIN_MS)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        if role:
            page.fill("#token", TOKENS[role])
            page.click("button[type=submit]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def is_live(page: Page) -> None:
    expect(page.locator(".status")).to_have_text("● live", timeout=WITHIN_MS)


def test_look_filter_and_sort(broker: BrokerInThread, opened: OpenPage) -> None:
    page = opened(console_of(broker), "viewer")
    is_live(page)
    expect(page.locator("article h3 a")).to_have_text(["kimi", "glm"])
    page.click("#panes a[data-pane=actors]")
    names = page.locator(".scroll.main td.name")
    expect(names.filter(has_text="/providers/kimi")).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("providers/ !kimi")
    expect(names).to_have_text(["/providers/glm"])
    page.click("th >> text=Class")
    expect(page.locator("th[aria-sort=ascending]")).to_contain_text("Class")
    assert page.url.endswith("/console/actors?filter=providers%2F+%21kimi&sort=class")
    page.reload()
    expect(names).to_have_text(["/providers/glm"])
    page.fill("#filter", "colour>3")
    expect(page.locator(".problem")).to_contain_text("there is no column 'colour'")
    page.go_back()
    page.wait_for_url("**/console/actors?*")


def test_a_long_name_leaves_a_third_of_a_telephone(
    broker: BrokerInThread, opened: OpenPage
) -> None:
    size = {"width": 400, "height": 800}
    page = opened(console_of(broker) + "/config", "viewer", viewport=size)
    is_live(page)
    names = page.locator(".scroll.main td.name")
    expect(names.first).to_be_visible()
    boxes = [each.bounding_box() for each in names.all()[:20]]
    assert max(box["width"] for box in boxes if box) < size["width"] * 2 / 3


def test_a_hidden_page_asks_for_nothing(broker: BrokerInThread, opened: OpenPage) -> None:
    page = opened(console_of(broker) + "/providers", "viewer")
    is_live(page)
    show = """hidden => {
        Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    sent: list[str] = []
    page.on(
        "websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(str(frame)))
    )
    page.reload()
    is_live(page)
    page.evaluate(show, True)
    expect(page.locator(".status")).to_have_text("‖ paused")
    watched = {frame for frame in sent if '"op":"watch"' in frame}
    stopped = {frame for frame in sent if '"op":"unwatch"' in frame}
    assert watched
    assert len(stopped) == len({frame.partition('"table":')[2].split('"')[1] for frame in watched})
    page.evaluate(show, False)
    is_live(page)


def test_act_with_a_preview_and_undo(broker: BrokerInThread, opened: OpenPage) -> None:
    page = opened(console_of(broker), "operator")
    is_live(page)
    page.click("#panes a[data-pane=providers]")
    kimi = page.locator(".scroll.main tr", has_text="kimi")
    expect(kimi).to_contain_text("serving")
    page.keyboard.press("j")
    page.keyboard.press("a")
    dialog = page.locator("dialog")
    dialog.locator(".menu button", has_text="Pause").first.click()
    expect(dialog).to_contain_text("This will happen")
    assert "serving" in kimi.inner_text()
    dialog.locator("input[name=reason]").fill("a test of the console")
    dialog.locator("text=Do it").click()
    expect(dialog).to_contain_text("This has happened")
    expect(kimi).to_contain_text("paused")
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    expect(dialog).to_contain_text("Undo: Pause")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("undone")
    page.keyboard.press("Escape")
    expect(kimi).to_contain_text("serving")


def test_undo_restores_targets_that_were_in_different_states(
    broker: BrokerInThread, opened: OpenPage
) -> None:
    page = opened(console_of(broker) + "/providers", "admin")
    is_live(page)
    rows = [page.locator(".scroll.main tr", has_text=name) for name in ("kimi", "glm")]
    limits = [f"{limit}" for limit in (4, 3)]
    at = page.locator(".scroll.main th").all_inner_texts().index("Limit")

    def shows(*expected: str) -> None:
        for row, limit in zip(rows, expected, strict=True):
            expect(row.locator("td").nth(at)).to_have_text(limit)

    shows(*limits)
    for row in rows:
        row.locator("input[type=checkbox]").check()
    page.keyboard.press("a")
    dialog = page.locator("dialog")
    dialog.locator(".menu button", has_text="Set limit").click()
    dialog.locator("input[name=limit]").fill("9")
    dialog.locator("text=Preview the effect").click()
    expect(dialog).to_contain_text("It can be undone.")
    dialog.locator("input[name=reason]").fill("a test of the console")
    dialog.locator("text=Do it").click()
    expect(dialog).to_contain_text("This has happened")
    shows("9", "9")
    dialog.locator("text=Undo").click()
    expect(dialog).to_contain_text("undone")
    shows(*limits)


def test_a_viewer_can_change_nothing(broker: BrokerInThread, opened: OpenPage) -> None:
    page = opened(console_of(broker) + "/providers", "viewer")
    is_live(page)
    page.keyboard.press("j")
    page.keyboard.press("a")
    buttons = page.locator("dialog .menu button")
    expect(buttons.first).to_contain_text("needs the role")
    expect(page.locator("dialog .menu button:not([disabled])")).to_have_count(0)


def test_it_loses_the_broker_and_finds_it_again(
    opened: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for role, token in TOKENS.items():
        monkeypatch.setenv(f"EXAI_TEST_{role.upper()}", token)
    with broker_in_thread(configuration()) as first:
        page = opened(console_of(first) + "/providers", "viewer")
        is_live(page)
        names = page.locator(".scroll.main td.name")
        expect(names).to_have_text(["kimi", "glm"])
    expect(page.locator(".status")).to_contain_text("no broker")
    expect(names).to_have_text(["kimi", "glm"])
    with broker_in_thread(configuration(first.port)):
        is_live(page)
        page.keyboard.press("2")
        is_live(page)


def test_a_page_without_scripts(broker: BrokerInThread, opened: OpenPage) -> None:
    page = opened(console_of(broker) + "/providers", "viewer", java_script_enabled=False)
    cells = page.locator("section").first.locator("tbody tr td:first-child")
    expect(cells).to_have_text(["kimi", "glm"])
    page.fill("#filter", "name:kimi")
    page.click("text=Apply")
    expect(cells).to_have_text(["kimi"])
    page.click("text=Log out")
    expect(page.locator("#token")).to_be_visible()


def test_many_rows_stay_out_of_the_document(
    broker: BrokerInThread, opened: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = (None,) * (len(ACTORS.columns) - 1)
    rows = [(f"/a/{number}#1", (f"/a/{number}", *rest)) for number in range(MANY)]
    monkeypatch.setattr(consoles, "ActorRows", lambda _: rows)
    page = opened(console_of(broker) + "/actors", "viewer")
    is_live(page)
    names = page.locator(".scroll.main td.name")
    expect(names.first).to_have_text("/a/0")
    page.keyboard.press("G")
    expect(page.locator("tr.current td.name")).to_have_text(f"/a/{MANY - 1}")
    page.keyboard.press("g")
    expect(page.locator("tr.current td.name")).to_have_text("/a/0")
    assert names.count() < 200


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_nothing_serious(broker: BrokerInThread, opened: OpenPage, scheme: str) -> None:
    need(real_parts.AXE)
    # The script is put into the page, whose own policy would refuse it.
    page = opened(console_of(broker), color_scheme=scheme, bypass_csp=True)
    found = serious(page, "log in")
    page.fill("#token", TOKENS["admin"])
    page.click("button[type=submit]")
    is_live(page)
    panes: list[str] = page.locator("#panes a").evaluate_all("all => all.map(a => a.dataset.pane)")
    for pane in panes:
        page.click(f"#panes a[data-pane={pane}]")
        expect(page.locator("h1")).to_be_visible()
        found += serious(page, pane)
    page.keyboard.press("?")
    found += serious(page, "help")
    assert found == []


def serious(page: Page, pane: str) -> list[str]:
    page.evaluate(real_parts.AXE_SCRIPT.read_text("utf-8"))
    result = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        f"{pane}: {each['id']}: {each['nodes'][0]['html'][:200]}"
        for each in result["violations"]
        if each["impact"] in {"serious", "critical"}
    ]
