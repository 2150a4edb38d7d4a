"""Tenants, routes and presets in the configuration."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from exai_actors.core.authentication import Identity
from exai_actors.core.families import Family
from exai_actors.daemon.config.presets import PRESETS
from exai_actors.daemon.config.provider_tables import OpenAIProvider
from exai_actors.daemon.config.render import family_rows, origin
from exai_actors.daemon.config.tables import DEFAULT_REASONS
from exai_actors.daemon.settings import authenticator, capacity_settings, session_settings
from exai_actors.ids import DEFAULT_TENANT, TenantName
from tests.daemon.configs import config_of, errors, reading

TOKEN = "token of the desk"
SHARED = "shared-token-of-the-desk"
BATCH = "token-of-the-batch"
TENANT = '[[access]]\nname = "{0}"\ntoken_env = "{0}"\ntenant = "t"\n'
ASKED = '[[provider]]\npreset = "ollama"\n'
SERVED = """
    [[provider]]
    kind = "synthetic"
    name = "slow"
    models = ["small", "large"]
"""


def test_an_access_token_has_a_tenant_a_weight_and_a_window() -> None:
    config = config_of(
        """
        [[access]]
        name = "batch"
        token_env = "BATCH"
        tenant = "research"
        weight = 0.5
        window = 2
        """,
        {"BATCH": BATCH},
    )
    access = authenticator(config)
    assert access.identify(BATCH) == Identity(TenantName("research"), 2)
    assert access.identify(None) is None
    capacity = capacity_settings(config.provider[0], config)
    assert capacity.weights == ((TenantName("research"), 0.5),)
    session = session_settings(config, Identity(TenantName("research"), 2))
    assert (session.tenant, session.window) == ("research", 2)


def test_tenant_and_window_have_defaults() -> None:
    config = config_of('[[access]]\nname = "batch"\ntoken_env = "BATCH"\n', {"BATCH": BATCH})
    assert authenticator(config).identify(BATCH) == Identity(TenantName("batch"), None)
    assert session_settings(config, Identity(DEFAULT_TENANT)).window == config.session.window


def test_a_token_file_is_found_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "batch.token").write_text(f"{BATCH}\n")
    (tmp_path / "batch.token").chmod(0o600)
    text = '[[access]]\nname = "batch"\ntoken_file = "batch.token"\n'
    found = reading(text, file=tmp_path / "exai.toml")
    assert found.config is not None
    assert found.warnings == ()
    assert authenticator(found.config).identify(BATCH) == Identity(TenantName("batch"))


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ('name = "default"\n', "name"),
        ('name = "desk"\ntenant = "default"\n', "tenant"),
    ],
)
def test_no_tenant_has_the_name_of_that_of_the_shared_token(entry: str, key: str) -> None:
    text = f'[[access]]\n{entry}token_env = "BATCH"\n'
    assert config_of(text, {"BATCH": BATCH}).access[0].tenant_name == "default"
    for shared in ({"EXAI_WS_TOKEN": SHARED}, {}):
        server = "" if shared else f'[server]\ntoken = "{SHARED}"\n'
        (found,) = errors(server + text, {"BATCH": BATCH, **shared})
        assert f"[[access]] {key}: " in found
        assert '"default" is the tenant of all clients with the token of [server]' in found


def test_a_missing_token_variable_is_only_a_missing_key() -> None:
    found = reading('[[access]]\nname = "batch"\ntoken_env = "BATCH"\n')
    assert found.config is not None
    (missing,) = found.missing_keys
    assert str(missing).startswith("exai.toml:3: [[access]] token_env: the environment variable")
    assert "export BATCH=" in str(missing)


def test_a_clients_token_in_the_variable_of_the_broker_is_named() -> None:
    text = '[[access]]\nname = "editor"\ntoken_env = "EDITOR_TOKEN"\n'
    (found,) = errors(text, {"EDITOR_TOKEN": BATCH, "EXAI_WS_TOKEN": BATCH})
    assert found == (
        "exai.toml:1: [[access]]: has the same token as EXAI_WS_TOKEN, which is the broker's own; "
        "a client's token belongs into EXAI_TOKEN: unset EXAI_WS_TOKEN"
    )
    (found,) = errors(f'[server]\ntoken = "{BATCH}"\n{text}', {"EDITOR_TOKEN": BATCH})
    assert found.endswith("has the same token as [server]; generate a new one")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[[access]]\nname = "a"\n', "has no token; set token_env or token_file"),
        (
            '[[access]]\nname = "a"\ntoken_env = "A"\ntoken_file = "b"\n',
            "is set as well as token_env; keep one of the two",
        ),
        ('[[access]]\nname = "a"\ntoken_env = "not-a-name"\n', "not the token itself"),
        (
            '[[access]]\nname = "a"\ntoken_env = "A"\n[[access]]\nname = "a"\ntoken_env = "B"\n',
            "names must be unique",
        ),
        (
            TENANT.format("a") + TENANT.format("b") + "weight = 2\n",
            'exai.toml:9: [[access]] weight: tenant "t" already has weight 1 in entry "a"',
        ),
        (
            '[[access]]\nname = "a"\ntoken_env = "A"\nweight = 0\n',
            "[[access]] weight: must be a number from 0.001 to 1000, not 0",
        ),
        ('[[access]]\nname = "a"\ntoken_env = "SHORT"\n', "needs at least 16"),
        (
            '[[access]]\nname = "a"\ntoken_env = "A"\n[[access]]\nname = "b"\ntoken_env = "A"\n',
            'has the same token as the entry "a" of [[access]]; generate a new one',
        ),
        ('[[access]]\nname = "a"\ntoken_file = "nowhere"\n', "nowhere cannot be read"),
        ('[access]\nname = "a"\n', "each access must start with [[access]]"),
        ('[[route]]\nmodel = "fast"\nto = []\n', "at least 1, at most 16, not an empty list"),
        (
            '[[route]]\nmodel = "fast"\nto = ["small"]\non = ["tired"]\n' + SERVED,
            '[[route]] on entry 1: must be "rate_limited"',
        ),
        (
            '[[route]]\nmodel = "fast"\nto = ["smal"]\n' + SERVED,
            'no provider serves "smal"; did you mean "small"?',
        ),
        (
            '[[route]]\nmodel = "fast"\nto = ["slow/huge"]\n' + SERVED,
            'provider "slow" does not serve "huge"; choose from small, large',
        ),
        ('[[route]]\nmodel = "fast"\nto = ["small", "small"]\n' + SERVED, "is listed twice"),
        (
            '[[route]]\nmodel = "f"\nto = ["small"]\n[[route]]\nmodel = "f"\nto = ["large"]\n'
            + SERVED,
            'another route is named "f"; names must be unique',
        ),
        (
            '[[route]]\nmodel = "f"\nto = ["g"]\n[[route]]\nmodel = "g"\nto = ["x"]\n' + ASKED,
            '"g" is a route, and a route cannot lead to a route',
        ),
        ('[[route]]\nmodel = "f"\nto = ["f"]\n' + ASKED, "is a route"),
        (
            '[[route]]\nmodel = "f"\nto = ["ollama/x", "typo/foo", "slow/small"]\n'
            + ASKED
            + SERVED,
            'for a model of "ollama" whose name is "typo/foo" write "ollama/typo/foo"',
        ),
        (
            '[[route]]\nmodel = "f"\nto = ["olama/x"]\n' + ASKED,
            'no provider is named "olama"; did you mean "ollama"?',
        ),
        (
            '[[route]]\nmodel = "f"\nto = ["small", "slow/huge"]\n' + ASKED + SERVED,
            'provider "slow" does not serve "huge"',
        ),
        (
            '[chat]\ndefault_model = "kimi/k2"\n' + ASKED + SERVED,
            'no provider is named "kimi"; choose from ollama, slow',
        ),
        (
            '[[route]]\nmodel = "f"\nto = ["small"]\nalso_on = ["bussy"]\n' + SERVED,
            "[[route]] also_on entry 1: must be",
        ),
        ("[[provider]]\npreset = 5\n", "[[provider]] preset: unknown preset 5"),
        ('[[provider]]\npreset = "kimi-tier1"\n', 'did you mean "kimi-tier-1"?'),
        ('[[provider]]\npreset = "xyz"\n', 'unknown preset "xyz"; choose from kimi-tier-0'),
        (
            '[[provider]]\nkind = "synthetic"\nname = "s"\npreset = "glm"\n',
            'belongs to kind "openai"',
        ),
        (
            '[[provider]]\nkind = "synthetic"\nname = "s"\nmodel_limits = { a = 0 }\n',
            "[[provider]] model_limits",
        ),
        ('[[provider]]\npreset = "ollama"\nrpm = 3\n', 'did you mean "requests_per_minute"?'),
    ],
)
def test_an_error_is_reported_with_a_correction(text: str, expected: str) -> None:
    env = {"A": "a" * 16, "a": "c" * 16, "b": "b" * 16, "SHORT": "short"}
    (message,) = errors(text, env)
    assert expected in message
    assert "a" * 16 not in message
    assert message.startswith("exai.toml:")


def test_a_tenants_token_is_enough_for_a_reachable_address() -> None:
    text = '[server]\nhost = "0.0.0.0"\n[[access]]\nname = "a"\ntoken_env = "A"\n'
    assert config_of(text, {"A": BATCH}).server.token == ""


def test_repr_hides_access_tokens() -> None:
    config = config_of('[[access]]\nname = "a"\ntoken_env = "A"\n', {"A": BATCH})
    assert BATCH not in repr(config)


def test_a_preset_is_complete_and_named_as_the_origin() -> None:
    config = config_of('[[provider]]\npreset = "kimi-tier-1"\nlimit = 3\n', {"KIMI_API_KEY": "k"})
    (provider,) = config.provider
    assert isinstance(provider, OpenAIProvider)
    assert (provider.name, provider.limit, provider.requests_per_minute) == ("kimi", 3, 200)
    path = ("provider", 0, "requests_per_minute")
    assert origin(config, path) == 'preset "kimi-tier-1"'
    assert origin(config, ("provider", 0, "limit")) == "exai.toml:3"
    capacity = capacity_settings(provider, config)
    assert capacity.gates.requests_per_minute == 200
    assert capacity.gates.requests_per_day is None


@pytest.mark.parametrize(
    ("tier", "limit", "requests", "tokens"),
    [
        (0, 1, 3, 500_000),
        (1, 50, 200, 2_000_000),
        (2, 100, 500, 3_000_000),
        (3, 200, 5_000, 3_000_000),
        (4, 400, 5_000, 4_000_000),
        (5, 1_000, 10_000, 5_000_000),
    ],
)
def test_kimi_presets_match_its_published_tiers(
    tier: int, limit: int, requests: int, tokens: int
) -> None:
    values = PRESETS[f"kimi-tier-{tier}"].values
    figures = values["limit"], values["requests_per_minute"], values["tokens_per_minute"]
    assert figures == (limit, requests, tokens)


@pytest.mark.parametrize("name", ["glm", "glm-coding"])
def test_glm_presets_allow_one_call_per_model(name: str) -> None:
    limits = PRESETS[name].values["model_limits"]
    assert {"glm-4.6", "glm-4.7", "glm-5"} <= set(limits)
    assert set(limits.values()) == {1} == {PRESETS[name].values["limit"]}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_complete(name: str) -> None:
    env = {"KIMI_API_KEY": "k", "GLM_API_KEY": "k"}
    config = config_of(f'[[provider]]\npreset = "{name}"\n', env)
    capacity_settings(config.provider[0], config)


@pytest.mark.parametrize(
    ("name", "family", "address"),
    [
        ("kimi-tier-1", "messages", "https://api.moonshot.ai/anthropic"),
        ("kimi-coding", "chat", "https://api.kimi.com/coding/v1"),
        ("kimi-coding", "messages", "https://api.kimi.com/coding"),
        ("glm", "messages", "https://api.z.ai/api/anthropic"),
        ("glm-coding", "messages", "https://api.z.ai/api/anthropic"),
        ("glm-coding", "responses", "https://api.z.ai/api/v1"),
        ("openai", "messages", None),
        ("openai", "responses", "https://api.openai.com/v1"),
        ("anthropic", "messages", "https://api.anthropic.com"),
        ("openrouter", "messages", "https://openrouter.ai/api"),
        ("openrouter-free", "responses", "https://openrouter.ai/api/v1"),
        ("deepseek", "messages", "https://api.deepseek.com/anthropic"),
        ("deepseek", "responses", None),
        ("llama.cpp", "messages", "http://127.0.0.1:8080"),
        ("vllm", "responses", "http://127.0.0.1:8000/v1"),
        ("ollama", "embeddings", "http://127.0.0.1:11434/v1"),
    ],
)
def test_presets_know_where_each_family_is_served(
    name: str, family: Family, address: str | None
) -> None:
    (provider,) = config_of(f'[[provider]]\npreset = "{name}"\n').provider
    assert isinstance(provider, OpenAIProvider)
    assert provider.addresses().get(family) == address


def test_the_page_of_the_configuration_lists_the_families_of_each_preset() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "config.md").read_text()
    rows = family_rows()
    assert len(rows) > 10
    assert [row for row in rows if row not in page] == []


def test_the_default_model_may_be_a_route() -> None:
    text = (
        '[chat]\ndefault_model = "fast"\n[[route]]\nmodel = "fast"\nto = ["slow/small", "large"]\n'
    )
    assert config_of(text + dedent(SERVED)).route[0].to == ("slow/small", "large")


@pytest.mark.parametrize("target", ["ollama/x", "ollama/meta/llama-3", "x", "slow/small", "small"])
def test_a_target_that_may_exist_is_accepted(target: str) -> None:
    config_of(f'[[route]]\nmodel = "f"\nto = ["{target}"]\n{ASKED}{dedent(SERVED)}')


@pytest.mark.parametrize(
    ("keys", "reasons"),
    [
        ("", DEFAULT_REASONS),
        ('also_on = ["busy"]', (*DEFAULT_REASONS, "busy")),
        ('also_on = ["busy", "timeout", "quota"]', (*DEFAULT_REASONS, "busy", "timeout")),
        ('on = ["quota"]', ("quota",)),
        ('on = ["quota"]\nalso_on = ["busy"]', ("quota", "busy")),
        ("on = []", ()),
    ],
)
def test_reasons_are_added_to_the_default(keys: str, reasons: tuple[str, ...]) -> None:
    config = config_of(f'[[route]]\nmodel = "f"\nto = ["small"]\n{keys}\n{dedent(SERVED)}')
    assert config.route[0].reasons == reasons


def test_the_default_reasons_hide_neither_a_wrong_key_nor_a_wrong_address() -> None:
    assert "model_not_found" in DEFAULT_REASONS
    assert not {"unauthorized", "not_found", "timeout", "busy"} & set(DEFAULT_REASONS)
