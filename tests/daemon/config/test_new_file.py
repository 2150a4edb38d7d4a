"""`exai config init` writes a file that runs, and with --all one that has every key."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from exai_actors.daemon.config.new_file import key_variables, new_file
from exai_actors.daemon.config.presets import PRESETS
from exai_actors.daemon.config.provider_tables import ProviderConfig
from exai_actors.daemon.config.reading import read_config
from exai_actors.daemon.config.tables import Config, FileConfig
from exai_actors.errors import UsageError


def config_in(text: str) -> Config:
    keys = dict.fromkeys(key_variables(list(PRESETS)), "a-key")
    found = read_config(text, file=Path("exai.toml"), env=keys, flags={})
    assert found.problems == found.missing_keys == ()
    assert found.config is not None
    return found.config


def provider_of(preset: str) -> ProviderConfig:
    (provider,) = config_in(f'[[provider]]\npreset = "{preset}"\n').provider
    return msgspec.structs.replace(provider, preset="")


def live_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def uncommented(text: str) -> str:
    return re.sub(r"^#(?=\S)", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("all_keys", [False, True])
def test_without_a_preset_the_file_changes_nothing(all_keys: bool) -> None:
    nothing = config_in("")
    found = config_in(new_file(all_keys=all_keys))
    assert msgspec.structs.replace(found, source=nothing.source) == nothing


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_gives_a_short_file_with_its_values(preset: str) -> None:
    text = new_file([preset])
    assert config_in(text).provider == (provider_of(preset),)
    assert 5 <= len(live_lines(text)) <= 12
    assert PRESETS[preset].source.split()[0] in text
    assert config_in(new_file([preset], all_keys=True)).provider == (provider_of(preset),)


def test_several_presets_give_a_provider_each() -> None:
    names = ["kimi-tier-0", "ollama", "anthropic"]
    assert config_in(new_file(names)).provider == tuple(map(provider_of, names))
    assert key_variables(names) == ["KIMI_API_KEY", "ANTHROPIC_API_KEY"]


def test_an_unknown_preset_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match='no preset "kimi-tier1"; did you mean "kimi-tier-1"'):
        new_file(["kimi-tier1"])


@pytest.mark.parametrize("pair", [("glm", "glm-coding"), ("kimi-tier-0", "kimi-tier-0")])
def test_two_presets_of_one_provider_are_an_error(pair: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="both name their provider"):
        new_file(pair)


@pytest.mark.parametrize("preset", [None, "kimi-tier-1", "glm"])
def test_all_keys_are_in_the_file_with_their_defaults(preset: str | None) -> None:
    text = uncommented(new_file([preset] if preset else [], all_keys=True))
    found = config_in(text)
    raw = tomllib.loads(text)
    defaults = FileConfig()
    for table in ("server", "session", "compat", "chat", "logging", "audit"):
        assert getattr(found, table) == getattr(defaults, table)
        assert set(raw[table]) == set(getattr(defaults, table).__struct_fields__)
    assert {each.kind for each in found.provider} == {"openai", "synthetic"}
    for table, provider in zip(raw["provider"], found.provider, strict=True):
        assert set(table) == {"kind", *provider.__struct_fields__}
    assert found.route
    assert found.access


def test_providers_come_first_among_all_keys() -> None:
    text = uncommented(new_file(["groq"], all_keys=True))
    order = ["[[provider]]", "[[route]]", "[[access]]", "[chat]", "[server]", "[session]"]
    places = [text.splitlines().index(header) for header in order]
    assert places == sorted(places)


def test_figures_of_a_service_that_publishes_none_are_marked_as_a_start() -> None:
    for name, preset in PRESETS.items():
        text = " ".join(new_file([name]).replace("\n#", "").split())
        assert ("only a start" in text) == preset.values.get("adaptive", False)
