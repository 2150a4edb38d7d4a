"""`exai providers`: the values in force and their origins."""

from __future__ import annotations

import json
import re
from pathlib import Path

from exai_actors.daemon.cli.provider_text import preset_text, provider_rows, provider_text
from exai_actors.daemon.config.reading import read_config
from exai_actors.testing.broker import running_broker
from tests.daemon.processes import exai

TEXT = """
[[provider]]
preset = "kimi-tier-0"
limit = 2

[[access]]
name = "batch"
token_env = "BATCH"
weight = 0.5

[[route]]
model = "fast"
to = ["kimi/kimi-k2.6", "kimi/kimi-k2.5"]
"""


def test_each_value_is_shown_with_its_origin() -> None:
    config = read_config(TEXT, file=Path("exai.toml"), env={}, flags={}).config
    assert config is not None
    text = " ".join(provider_text(config).split())
    assert "limit 2 exai.toml:4" in text
    assert 'requests_per_minute 3 preset "kimi-tier-0"' in text
    assert "requests_per_day no limit default" in text
    assert 'batch weight 0.5 window 8 token of "batch", exai.toml:6' in text
    assert "fast kimi/kimi-k2.6 then kimi/kimi-k2.5 exai.toml:11" in text
    (row,) = provider_rows(config)
    assert row["capacity"]["limit"] == {"value": 2, "from": "exai.toml:4"}


def test_the_presets_are_listed_with_values_and_sources() -> None:
    text = preset_text()
    assert re.search(r"^kimi-tier-5 +1,000 at once,", text, re.MULTILINE)
    text = re.sub(" +", " ", text)
    assert "kimi-tier-1 50 at once, 200 requests/minute, 2,000,000 tokens/minute" in text
    assert "kimi-tier-5 1,000 at once, 10,000 requests/minute" in text
    assert "from https://platform.moonshot.ai/docs/pricing/limits" in text


async def test_the_values_of_the_running_broker_are_shown() -> None:
    table = {
        "kind": "synthetic",
        "name": "slow",
        "limit": 2,
        "requests_per_minute": 6,
        "model_limits": {"synthetic": 1},
    }
    async with running_broker({"provider": [table]}) as broker:
        await exai("ask", "hello", "--url", broker.url)
        result = await exai("providers", env={"EXAI_URL": broker.url})
        as_json = await exai("providers", "--url", broker.url, "--json")
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert lines[0] == "slow synthetic, serving"
    assert "in flight 0 of 3" in lines
    assert "queued 0 of 1000" in lines
    assert "completed 1" in lines
    assert "requests per minute 1 of 6 used" in lines
    assert "synthetic 0 of 1 in flight" in lines
    assert json.loads(as_json.out)[0]["gates"][0]["limit"] == 6


async def test_the_limits_of_the_file_are_shown_without_a_broker(tmp_path: Path) -> None:
    file = tmp_path / "exai.toml"
    file.write_text(TEXT)
    result = await exai("config", "show", "--limits", "--config", str(file))
    as_json = await exai("config", "show", "--limits", "--json", "--config", str(file))
    assert json.loads(as_json.out)[0]["capacity"]["limit"]["value"] == 2
    assert "kimi  openai, https://api.moonshot.ai/v1" in result.out
    assert "KIMI_API_KEY" in result.err
    assert "BATCH" in result.err
    listed = await exai("providers", "--presets", "--json")
    assert {each["name"] for each in json.loads(listed.out)} >= {"glm", "ollama", "kimi-tier-5"}
