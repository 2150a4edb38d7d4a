"""Draw the terminal console: ``python tools/record_console.py`` writes docs/img/console.svg.

The picture is that of `exai console` in front of a busy broker on this machine, after some seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from pathlib import Path

from exai_actors.terminal.app import ConsoleApp
from exai_actors.terminal.live import LiveSource
from tools.console_load import TOKEN, loaded_broker

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "img" / "console.svg"
SIZE = 100, 30
CLIENTS = 40
# The picture shows the fonts of its reader's machine instead of fetching one.
_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


async def picture(seconds: float, pane: str) -> str:
    """The pane as SVG, after the broker and the console have run for so long."""
    async with loaded_broker(CLIENTS) as url:
        app = ConsoleApp(LiveSource(url, TOKEN), "ws://127.0.0.1:8079")
        async with app.run_test(size=SIZE) as pilot:
            await asyncio.sleep(seconds)
            app.show_pane(pane)
            await pilot.pause(2.5)
            return _FONT.sub("", app.export_screenshot(title="exai console"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the terminal console as SVG.")
    parser.add_argument("--output", type=Path, default=PICTURE)
    parser.add_argument("--pane", default="overview")
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    svg = asyncio.run(picture(options.seconds, options.pane))
    options.output.write_text(svg, "utf-8")
    print(f"{options.output}: {options.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
