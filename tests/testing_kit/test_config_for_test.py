"""A few keys become a complete configuration, checked like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exai_actors.daemon.config.provider_tables import SyntheticProvider
from exai_actors.errors import ConfigError
from exai_actors.testing.config import AnyConfig, config_for_test, provider_at, with_upstream


def test_the_default_is_a_synthetic_provider_on_a_free_port() -> None:
    config = config_for_test()
    assert config.server.port == 0
    assert [provider.kind for provider in config.provider] == ["synthetic"]


def test_a_given_port_is_kept() -> None:
    assert config_for_test("[server]\nport = 4242").server.port == 4242
    assert config_for_test({"server": {"port": 4242}}).server.port == 4242


def test_the_environment_supplies_api_keys_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAI_WS_PORT", "4242")
    monkeypatch.setenv("EXAI_WS_TOKEN", "a-token-of-somebody-else")
    monkeypatch.setenv("THE_KEY", "key-of-the-provider")
    provider = {**provider_at("http://127.0.0.1:1/v1"), "api_key_env": "THE_KEY"}
    config = config_for_test({"provider": [provider]})
    assert (config.server.port, config.server.token) == (0, "")
    assert list(config.api_keys.values()) == ["key-of-the-provider"]


def test_tables_and_text_are_equivalent() -> None:
    text = """
    [chat]
    system_prompt = "quotes \\" and \\\\ and ünïcode\\n"
    [session]
    window = 3
    [[provider]]
    name = "a"
    kind = "synthetic"
    failure_rate = 0.5
    models = ["x", "y"]
    """
    tables = {
        "chat": {"system_prompt": 'quotes " and \\ and ünïcode\n'},
        "session": {"window": 3},
        "provider": [{"name": "a", "kind": "synthetic", "failure_rate": 0.5, "models": ["x", "y"]}],
    }
    from_text, from_tables = config_for_test(text), config_for_test(tables)
    assert from_text.chat == from_tables.chat
    assert from_text.session == from_tables.session
    assert from_text.provider == from_tables.provider


@pytest.mark.parametrize(
    "config", [None, {}, '[[provider]]\nname = "a"\nkind = "synthetic"', {"session": {"window": 3}}]
)
def test_synthetic_providers_answer_immediately(config: AnyConfig) -> None:
    (provider,) = config_for_test(config).provider
    assert isinstance(provider, SyntheticProvider)
    assert provider.tokens_per_second == 0


def test_a_pace_that_the_test_sets_is_kept() -> None:
    paced = {"name": "a", "kind": "synthetic", "tokens_per_second": 20}
    instant = {"name": "b", "kind": "synthetic"}
    first, second = config_for_test({"provider": [paced, instant]}).provider
    assert isinstance(first, SyntheticProvider)
    assert isinstance(second, SyntheticProvider)
    assert (first.tokens_per_second, second.tokens_per_second) == (20, 0)


@pytest.mark.parametrize("wrong", ["[server", {"server": {"prot": 1}}])
def test_an_invalid_configuration_is_refused_with_the_reason(
    wrong: str | dict[str, object],
) -> None:
    with pytest.raises(
        ConfigError, match=r"the test's config(:1: is not TOML|.*prot: unknown key)"
    ):
        config_for_test(wrong)


def test_a_key_outside_any_table_is_reported() -> None:
    with pytest.raises(ConfigError, match=r"port: unknown key outside .* belongs in \[server\]"):
        config_for_test({"session": {"window": 3}, "port": 0})


def test_a_value_may_be_a_path(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("sixteen-characters-or-more")
    assert config_for_test({"server": {"token_file": file}}).server.token == file.read_text()


def test_other_types_than_text_and_tables_are_refused(tmp_path: Path) -> None:
    for wrong in (5, tmp_path, ["server"]):
        config: Any = wrong
        with pytest.raises(ConfigError, match="is not a configuration; give the text"):
            config_for_test(with_upstream(config, "http://127.0.0.1:1/v1"))


def test_a_missing_key_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    provider = {**provider_at("http://127.0.0.1:1/v1"), "api_key_env": "NO_SUCH_KEY"}
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        config_for_test({"provider": [provider]})


def test_a_scripted_upstream_becomes_the_provider_if_there_is_none() -> None:
    base_url = "http://127.0.0.1:1/v1"
    for config in (None, "[session]\nwindow = 3", {"session": {"window": 3}}):
        (provider,) = config_for_test(with_upstream(config, base_url)).provider
        assert provider == config_for_test({"provider": [provider_at(base_url)]}).provider[0]
    named = '[[provider]]\nname = "a"\nkind = "synthetic"'
    assert with_upstream(named, base_url) == named
    checked = config_for_test()
    assert with_upstream(checked, base_url) is checked
    assert with_upstream("[server", base_url) == "[server"
