"""The scripts of the web console write durations and sizes as the broker does."""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from pathlib import Path

from tests.core.observe.test_written import DURATIONS, SIZES

CELLS = Path(__file__).parents[2] / "exai_actors" / "console" / "web" / "static" / "cells.js"
PROGRAM = """
import { duration, size } from "data:text/javascript;base64,CELLS";
const [durations, sizes] = JSON.parse(process.argv[1]);
console.log(JSON.stringify([durations.map(duration), sizes.map(size)]));
"""


def test_the_scripts_write_figures_as_the_broker_does(node: Path) -> None:
    program = PROGRAM.replace("CELLS", b64encode(CELLS.read_bytes()).decode())
    figures = [[figure for figure, _ in DURATIONS], [figure for figure, _ in SIZES]]
    command = [str(node), "--input-type=module", "-e", program, json.dumps(figures)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert json.loads(done.stdout) == [[text for _, text in DURATIONS], [text for _, text in SIZES]]
