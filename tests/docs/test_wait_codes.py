"""The page of the protocol lists every reason to wait."""

from __future__ import annotations

import re
from pathlib import Path

from exai_actors.core.wait_reasons import WaitCode

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "protocol.md"


def test_the_protocol_lists_exactly_the_codes_of_waits() -> None:
    table = (
        PAGE.read_text("utf-8").partition("| code | the request waits |")[2].partition("\n\n")[0]
    )
    listed = [
        code
        for row in re.findall(r"^\| (`[^|]*`) \|", table, re.MULTILINE)
        for code in re.findall(r"`(\w+)`", row)
    ]
    assert sorted(listed) == sorted(code.value for code in WaitCode)
