"""The table of scripted replies in the how-to says what a client gets."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from exai_actors.client import BrokerError
from exai_actors.testing import scripted_replies
from exai_actors.testing.broker import running_broker
from exai_actors.testing.config import provider_at
from exai_actors.testing.scripted_upstream import ScriptedUpstream

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "test-against-a-broker.md"
ROWS = re.findall(r"^\| `(\w+\(.*\))` \| (.+?) \| (\d) \|$", PAGE.read_text("utf-8"), re.MULTILINE)


def test_the_table_has_its_rows() -> None:
    assert len(ROWS) >= 15


@pytest.mark.parametrize(("reply", "gets", "attempts"), ROWS, ids=[row[0] for row in ROWS])
async def test_a_client_gets_what_the_page_says(reply: str, gets: str, attempts: str) -> None:
    scripted = eval(reply, vars(scripted_replies))
    async with (
        ScriptedUpstream(scripted) as upstream,
        running_broker({"provider": [provider_at(upstream.base_url)]}) as broker,
        broker.connect() as client,
    ):
        try:
            got = repr((await client.call("chat", prompt="hi")).text)
        except BrokerError as error:
            got = f"{type(error).__name__} {(error.body.details or {})['kind']}"
    first, *others = re.findall(r"`([^`]+)`", gets)
    if first.startswith('"'):
        assert got == repr(ast.literal_eval(first))
    else:
        assert got == f"{first} {others[0]}"
    assert upstream.started == int(attempts)
