from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from exai_actors.daemon.config.reading import read_config
from exai_actors.daemon.config.render import literal, reference, schema, show, show_json
from exai_actors.daemon.config.tables import FileConfig

TOKEN = "0123456789abcdef"
REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "config.md"


def test_show_prints_every_value_with_its_origin() -> None:
    text = '[server]\nport = 1\n[[provider]]\nkind = "synthetic"\nname = "s"\ndelay_ms = 2.5\n'
    config = read_config(
        text, file=Path("exai.toml"), env={"EXAI_WS_TOKEN": TOKEN}, flags={"--host": "::1"}
    ).config
    assert config is not None
    shown = show(config)
    assert TOKEN not in shown
    assert re.search(r'^host = "::1" +# --host$', shown, re.MULTILINE)
    assert re.search(r"^port = 1 +# exai\.toml:2$", shown, re.MULTILINE)
    assert re.search(r'^token = "\*{8}" +# EXAI_WS_TOKEN$', shown, re.MULTILINE)
    assert re.search(r"^delay_ms = 2\.5 +# exai\.toml:6$", shown, re.MULTILINE)
    assert re.search(r"^window = 8 +# default$", shown, re.MULTILINE)
    again = read_config(shown.replace("*" * 8, TOKEN), file=Path("x"), env={}, flags={}).config
    assert again is not None
    assert msgspec.structs.replace(again, source=config.source) == config

    rows = {row["key"]: row for row in json.loads(show_json(config))}
    assert rows["server.token"] == {
        "key": "server.token",
        "value": "********",
        "from": "EXAI_WS_TOKEN",
    }
    assert rows["provider.0.delay_ms"]["from"] == "exai.toml:6"


def test_the_schema_knows_every_table_and_forbids_others() -> None:
    found = schema()
    assert found["$schema"].startswith("https://json-schema.org/")
    tables = found["$defs"]["FileConfig"]
    assert set(tables["properties"]) == set(FileConfig.__struct_fields__)
    assert all(table["additionalProperties"] is False for table in found["$defs"].values())
    port = found["$defs"]["ServerConfig"]["properties"]["port"]
    assert port["maximum"] == 65535
    assert port["description"] == "The port to listen on; 0 picks a free one."


def test_the_reference_page_holds_every_key_as_the_code_has_it() -> None:
    assert reference() in REFERENCE.read_text()


def test_literals_are_toml() -> None:
    for text in ('a "b" \\ c', "line\nbreak\ttab", "\x7f\x01", "ü€😀", ""):
        assert tomllib.loads(f"x = {literal(text)}") == {"x": text}


@pytest.mark.parametrize(
    ("provider", "valid"),
    [
        ({"preset": "kimi-tier-1"}, True),
        ({"preset": "kimi-tier-1", "limit": 3}, True),
        ({"preset": "kimi"}, False),
        ({"kind": "openai", "name": "mine", "base_url": "http://127.0.0.1/v1"}, True),
        ({"kind": "openai", "name": "mine"}, False),
        ({"kind": "synthetic", "name": "s"}, True),
    ],
)
def test_the_schema_accepts_what_the_broker_accepts(provider: dict[str, Any], valid: bool) -> None:
    assert Draft202012Validator(schema()).is_valid({"provider": [provider]}) is valid
