"""The limits, presets, tenants, tokens and routes that the log lists at start."""

from __future__ import annotations

import structlog

from exai_actors.daemon.logs.in_force import log_in_force
from tests.daemon.configs import config_of

KEY, EDITOR, BATCH = "sk-secret-of-kimi", "token-of-the-editor", "token-of-the-batch"
FILE = """
[server]
token = "the-shared-token-0"
[[provider]]
preset = "kimi-tier-1"
limit = 3
[[provider]]
kind = "synthetic"
name = "spare"
models = ["m"]
[[access]]
name = "desk"
tenant = "editor"
token_env = "EDITOR"
weight = 3
[[access]]
name = "laptop"
tenant = "editor"
token_env = "LAPTOP"
weight = 3
[[access]]
name = "batch"
token_env = "BATCH"
window = 2
[[route]]
model = "any"
to = ["kimi/k2", "spare/m"]
on = ["quota"]
also_on = ["busy"]
"""


def logged(text: str, **env: str) -> list[dict[str, object]]:
    with structlog.testing.capture_logs() as entries:
        log_in_force(config_of(text, env))
    return [{**entry} for entry in entries]


def test_everything_in_force_is_listed_and_no_secret() -> None:
    laptop = "token-of-the-laptop"
    entries = logged(FILE, KIMI_API_KEY=KEY, EDITOR=EDITOR, LAPTOP=laptop, BATCH=BATCH)
    assert {entry.pop("log_level") for entry in entries} == {"info"}
    assert entries == [
        {
            "event": "config.provider",
            "provider": "kimi",
            "limit": 3,
            "gates": "200 requests/minute, 2,000,000 tokens/minute",
            "preset": "kimi-tier-1",
        },
        {
            "event": "config.provider",
            "provider": "spare",
            "limit": 4,
            "gates": "none",
            "preset": None,
        },
        {
            "event": "config.tenant",
            "tenant": "editor",
            "weight": 3.0,
            "window": 8,
            "tokens": "desk, laptop",
        },
        {
            "event": "config.tenant",
            "tenant": "batch",
            "weight": 1.0,
            "window": 2,
            "tokens": "batch",
        },
        {
            "event": "config.tenant",
            "tenant": "default",
            "weight": 1.0,
            "window": 8,
            "tokens": "[server] token",
        },
        {"event": "config.route", "model": "any", "to": "kimi/k2, spare/m", "on": "quota, busy"},
    ]
    for secret in (KEY, EDITOR, laptop, BATCH, "the-shared-token-0"):
        assert secret not in str(entries)


def test_the_default_reasons_of_a_route_are_one_word() -> None:
    route = '[[route]]\nmodel = "any"\nto = ["spare/m"]\n'
    provider = '[[provider]]\nkind = "synthetic"\nname = "spare"\nmodels = ["m"]\n'
    assert logged(route + provider)[-1]["on"] == "default"
    assert logged(route + 'also_on = ["busy"]\n' + provider)[-1]["on"] == "default, busy"


def test_without_tokens_the_log_says_that_none_is_needed() -> None:
    (_, tenant) = logged("")
    assert (tenant["tenant"], tenant["tokens"]) == ("default", "none needed")


def test_with_tokens_of_tenants_alone_there_is_no_default_tenant() -> None:
    entries = logged('[[access]]\nname = "batch"\ntoken_env = "BATCH"\n', BATCH=BATCH)
    assert [entry["tenant"] for entry in entries if "tenant" in entry] == ["batch"]
