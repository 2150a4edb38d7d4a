"""The tables about metrics, alarms, traces and the access log."""

from __future__ import annotations

from pathlib import Path

import pytest

from exai_actors.core.alarm_readings import Thresholds
from exai_actors.daemon.settings import thresholds
from tests.daemon.configs import FILE, config_of, errors, reading

TOKEN = "t" * 16


def test_thresholds_have_defaults_and_keys() -> None:
    assert thresholds(config_of()) == Thresholds()
    config = config_of("[alarms]\nwait_s = 5\nrestarts = 9\nqueue_share = 0.5\n")
    assert thresholds(config) == Thresholds(wait_s=5.0, restarts=9, queue_share=0.5)


def test_tokens_come_from_variables_and_files(tmp_path: Path) -> None:
    text = '[metrics]\ntoken_env = "M"\n[alarms]\nwebhook_token_env = "W"\n'
    config = config_of(text, {"M": TOKEN, "W": "w" * 20})
    assert (config.metrics_token, config.webhook_token) == (TOKEN, "w" * 20)
    (tmp_path / "scraper.token").write_text(f"{TOKEN}\n")
    (tmp_path / "scraper.token").chmod(0o600)
    found = reading('[metrics]\ntoken_file = "scraper.token"\n', file=tmp_path / FILE).config
    assert found is not None
    assert found.metrics_token == TOKEN
    assert TOKEN not in repr(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '[metrics]\ntoken_env = "M"\ntoken_file = "f"\n',
            "[metrics] token_file: is set as well as token_env; keep one of the two",
        ),
        ('[metrics]\ntoken_env = "secret-token"\n', "[metrics] token_env: must be the name of an"),
        ('[metrics]\ntoken_file = "missing"\n', "missing cannot be read: No such file"),
        (
            '[alarms]\nwebhook_token_env = "a b"\n',
            "[alarms] webhook_token_env: must be the name of an environment variable",
        ),
        (
            '[alarms]\nwebhook_url = "hooks.example"\n',
            '[alarms] webhook_url: "hooks.example" must start with http:// or https:// and a host',
        ),
        ('[alarms]\nwebhook_url = "ftp://x/"\n', "must start with http:// or https:// and a host"),
        ('[alarms]\nignore = ["loop"]\n', "[alarms] ignore"),
        ("[alarms]\nqueue_share = 1.5\n", "[alarms] queue_share: must be a number above 0"),
        ('[tracing]\nendpoint = "http://"\n', "[tracing] endpoint"),
        ("[tracing]\nsample = 0\n", "[tracing] sample: must be a number above 0, at most 1"),
        ('[logging]\naccess = "yes"\n', "[logging] access"),
    ],
)
def test_an_error_is_reported_with_a_correction(text: str, expected: str) -> None:
    (error,) = errors(text)
    assert expected in error


def test_a_missing_variable_is_a_missing_key() -> None:
    found = reading('[metrics]\ntoken_env = "M"\n[alarms]\nwebhook_token_env = "W"\n')
    assert [str(problem).partition(";")[0] for problem in found.missing_keys] == [
        "exai.toml:2: [metrics] token_env: the environment variable M is not set",
        "exai.toml:4: [alarms] webhook_token_env: the environment variable W is not set",
    ]
