"""What consoles show of the configuration: no secret, no prompt, nothing unbounded."""

from __future__ import annotations

import pytest

from exai_actors.daemon.config.in_force import MAX_SHOWN, config_rows
from exai_actors.daemon.config.reading import read_config

FILE = f"""
[server]
token = "classified-1234567890"

[chat]
system_prompt = "a classified prompt"

[alarms]
webhook_url = "https://user:classified@hooks.example/classified?key=classified"

[tracing]
endpoint = "https://classified@traces.example:4318/classified"

[[provider]]
kind = "openai"
name = "kimi"
base_url = "https://api.example/v1"
limit = 1
models = [{", ".join(f'"model-{number}"' for number in range(200))}]
headers = {{ "X-Key" = "classified" }}
query = {{ "key" = "classified" }}
"""


def rows() -> dict[str, tuple[object, ...]]:
    config = read_config(FILE, env={}, flags={}).config
    assert config is not None
    return dict(config_rows(config, {}))


def test_no_secret_and_no_prompt_is_shown() -> None:
    assert "classified" not in str(rows())


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("server.token", '"********"'),
        ("chat.system_prompt", "(a text of 19 characters)"),
        ("alarms.webhook_url", '"https://hooks.example/********"'),
        ("tracing.endpoint", '"https://traces.example:4318/********"'),
        ("provider.0.base_url", '"https://api.example/v1"'),
        ("provider.0.headers", '{ "X-Key" = "********" }'),
        ("provider.0.query", '{ "key" = "********" }'),
        ("alarms.webhook_token_env", '""'),
    ],
)
def test_what_is_left_is_shown(key: str, shown: str) -> None:
    assert rows()[key][1] == shown


def test_no_value_is_longer_than_a_line_can_be() -> None:
    assert max(len(str(row[1])) for row in rows().values()) <= MAX_SHOWN + 3
