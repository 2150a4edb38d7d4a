"""Take pictures of the web console before a broker under load: ``python tools/picture_console.py``.

Without arguments it writes those of the documentation to docs/img: the overview, dark and light,
and the reason why a request waits. ``--all FOLDER`` writes
every pane instead, dark and light, wide and narrow, under load and idle. The broker, its clients
and the browser run on this machine; everything stops by itself. Needs Chromium and Pillow, which
the extra "bench" brings.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, Page, async_playwright
from playwright.async_api import TimeoutError as TooLate

from exai_actors.client import connect
from exai_actors.errors import BrokerError

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that the other tools can be imported

from tools.real_parts import CHROMIUM_MISSING, chromium  # noqa: E402

IMAGES = ROOT / "docs" / "img"
MAX_BYTES = 200_000
ATTEMPTS = 10
FLAGS = [
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
OPERATOR_TOKEN = "an-operators-token-for-pictures"
TENANTS: dict[str, tuple[float, dict[str, int]]] = {
    "research": (2, {"kimi-k3": 5, "glm-5": 3, "small": 2}),
    "support": (1, {"kimi-k3": 3, "small": 3}),
    "nightly": (0.5, {"kimi-k3": 8, "glm-5": 4, "small": 4}),
}
"""The weight of each tenant, and how many clients it has for each model."""
CONFIG = """\
[server]
port = 0

[logging]
level = "error"

[[operator]]
name = "ada"
token_env = "EXAI_PICTURE_OPERATOR"
role = "admin"

[[provider]]
name = "kimi"
kind = "synthetic"
limit = 4
models = ["kimi-k3"]
tokens = 60
tokens_per_second = 80
requests_per_minute = 280

[[provider]]
name = "glm"
kind = "synthetic"
limit = 2
models = ["glm-5"]
tokens = 40
tokens_per_second = 40

[[provider]]
name = "local"
kind = "synthetic"
limit = 8
models = ["small"]
tokens = 20
tokens_per_second = 40
failure_rate = 0.05
"""


@asynccontextmanager
async def broker(config: str, environment: dict[str, str]) -> AsyncIterator[str]:
    """The WebSocket URL of a broker in a child process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "exai.toml"
        file.write_text(config)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "exai_actors", "serve", "--config", str(file)),
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | environment,
        )
        try:
            assert process.stdout is not None
            while line := (await process.stdout.readline()).decode():
                if found := re.match(r"ready (ws://\S+)", line):
                    yield found[1]
                    break
            else:
                raise SystemExit("the broker did not start")
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


@asynccontextmanager
async def load(url: str) -> AsyncIterator[None]:
    """Clients of several tenants that keep the providers busy."""
    tasks = [
        asyncio.create_task(_client(url, tenant, f"{tenant}-{model}-{number}", model))
        for tenant, (_, clients) in TENANTS.items()
        for model, count in clients.items()
        for number in range(1, count + 1)
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _client(url: str, tenant: str, session: str, model: str) -> None:
    async with connect(url, token=f"token-of-{tenant}-clients", session_id=session) as client:
        for turn in range(10_000):
            with contextlib.suppress(BrokerError):
                await client.call("chat", prompt=f"Question {turn} of {session}", model=model)
            await asyncio.sleep(random.uniform(0, 0.5))


def tenant_tables() -> str:
    """The configuration of the tenants."""
    return "".join(
        f'\n[[access]]\nname = "{name}"\ntoken_env = "EXAI_PICTURE_{name.upper()}"\n'
        f"weight = {weight}\n"
        for name, (weight, _) in TENANTS.items()
    )


def environment() -> dict[str, str]:
    """The tokens of operator and tenants."""
    tokens = {f"EXAI_PICTURE_{name.upper()}": f"token-of-{name}-clients" for name in TENANTS}
    return {"EXAI_PICTURE_OPERATOR": OPERATOR_TOKEN, **tokens}


async def log_in(page: Page, address: str) -> None:
    """Open the console as the operator."""
    await page.goto(address)
    await page.fill("#token", OPERATOR_TOKEN)
    await page.click("button[type=submit]")
    await page.wait_for_selector(".status.live")


async def _documentation(browser: Browser, address: str) -> None:
    await asyncio.sleep(70)  # so that the plots have something to show
    for scheme in ("dark", "light"):
        page = await _open(browser, scheme)
        await log_in(page, address)
        await asyncio.sleep(3)
        _pack(await page.screenshot(), f"console-{scheme}.webp")
    _pack(await _why(page, address), "console-why.webp")


async def _why(page: Page, address: str) -> bytes:
    """A request that waits for some seconds more, with the reason and the requests ahead of it."""
    for _ in range(ATTEMPTS):
        # Those that start last: they still wait when their answers are on the page.
        await page.goto(f"{address}/requests?filter=state:queued&sort=-starts_in_s")
        await page.wait_for_selector(".status.live")
        await page.wait_for_selector("tbody tr[aria-rowindex]")
        await asyncio.sleep(1.5)  # the header has rates from its second frame on
        await page.keyboard.press("j")
        await page.keyboard.press("Enter")
        with contextlib.suppress(TooLate):
            for part in (".why", ".ahead li", ".timeline li"):
                await page.wait_for_selector(f"#detail {part}", timeout=5_000)
            picture = await page.screenshot()
            if not await page.locator("#detail .stale").count():
                return picture
    raise SystemExit("no request waited long enough for a picture")


async def _open(browser: Browser, scheme: Literal["dark", "light"]) -> Page:
    return await browser.new_page(
        viewport={"width": 1280, "height": 800}, color_scheme=scheme, device_scale_factor=1.5
    )


def _pack(picture: bytes, name: str) -> None:
    from PIL import Image

    image, file = Image.open(BytesIO(picture)), IMAGES / name
    for quality in (90, 80, 70, 60, 50):
        image.save(file, quality=quality, method=6)
        if file.stat().st_size <= MAX_BYTES:
            break
    print(f"wrote {file.relative_to(ROOT)}, {file.stat().st_size:,} bytes")


async def _all_panes(browser: Browser, address: str, folder: Path, name: str) -> None:
    for width, height in ((1280, 800), (400, 800)):
        for scheme in ("dark", "light"):
            page = await browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
            )
            await log_in(page, address)
            panes = await page.locator("#panes a").evaluate_all(
                "links => links.map(link => link.dataset.pane)"
            )
            for pane in panes:
                await page.click(f"#panes a[data-pane={pane}]")
                await asyncio.sleep(1.3)
                await page.screenshot(path=folder / f"{name}-{pane}-{scheme}-{width}.png")
            await page.close()


async def _main(folder: Path | None, program: str) -> None:
    async with (
        broker(CONFIG + tenant_tables(), environment()) as url,
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        address = url.replace("ws://", "http://") + "/console"
        try:
            if folder is not None:
                await _all_panes(browser, address, folder, "idle")
            async with load(url):
                if folder is None:
                    await _documentation(browser, address)
                else:
                    await _all_panes(browser, address, folder, "load")
        finally:
            await browser.close()


def main() -> None:
    """Parse the arguments and take the pictures."""
    parser = argparse.ArgumentParser(description="Take pictures of the web console.")
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="every pane, into this folder")
    folder = parser.parse_args().all
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    program = chromium()
    if program is None:
        sys.exit(f"tools/picture_console.py: {CHROMIUM_MISSING}")
    asyncio.run(_main(folder, program))


if __name__ == "__main__":
    main()
