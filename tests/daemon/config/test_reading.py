from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.daemon.config.provider_tables import (
    PROVIDER_KINDS,
    OpenAIProvider,
    SyntheticProvider,
)
from exai_actors.daemon.config.reading import ENVIRONMENT
from exai_actors.daemon.config.wording import either
from exai_actors.daemon.settings import http_settings
from tests.daemon.configs import config_of, errors, reading

TOKEN = "0123456789abcdef"
KINDS = either(PROVIDER_KINDS)


KIMI = """\
[[provider]]
kind = "openai"
name = "kimi"
base_url = "https://api.example/v1"
"""


def test_without_a_file_there_is_one_synthetic_provider() -> None:
    config = config_of()
    assert config.provider == (SyntheticProvider(name="synthetic", models=("synthetic",)),)
    assert (config.server.host, config.server.port, config.server.token) == ("127.0.0.1", 8079, "")
    assert config.session.window == 8
    assert config.server.max_frame_bytes == 12_582_912
    assert config.source.file is None


def test_the_default_limit_is_1_or_4_for_a_synthetic_provider() -> None:
    config = config_of(KIMI + '[[provider]]\nkind = "synthetic"\nname = "s"\n')
    kimi, synthetic = config.provider
    assert isinstance(kimi, OpenAIProvider)
    assert isinstance(synthetic, SyntheticProvider)
    assert (kimi.limit, synthetic.limit) == (1, 4)
    assert (kimi.kind, synthetic.kind) == ("openai", "synthetic")


def test_flags_override_the_environment_which_overrides_the_file() -> None:
    text = "[server]\nport = 1\nhost = '127.0.0.2'\n[logging]\nlevel = 'error'\n"
    env = {"EXAI_WS_PORT": "2", "EXAI_WS_HOST": "127.0.0.3"}
    config = config_of(text, env, {"--port": 3, "--log-level": "debug"})
    assert (config.server.port, config.server.host) == (3, "127.0.0.3")
    assert config.logging.level == "debug"
    assert config.source.origins["server", "port"] == "--port"
    assert config.source.origins["server", "host"] == "EXAI_WS_HOST"
    assert config_of(text, env).server.port == 2
    assert config_of(text).server.port == 1
    assert config_of(text).source.origins["server", "port"] == "exai.toml:2"
    assert ("session", "window") not in config_of(text).source.origins


def test_an_empty_variable_counts_as_not_set() -> None:
    assert config_of("[server]\nport = 1", dict.fromkeys(ENVIRONMENT, " ")).server.port == 1


def test_a_token_from_the_environment_replaces_the_token_file() -> None:
    config = config_of("[server]\ntoken_file = 'secret'", {"EXAI_WS_TOKEN": TOKEN})
    assert (config.server.token, config.server.token_file) == (TOKEN, "")


def test_seconds_may_be_whole_numbers() -> None:
    assert config_of("[server]\ndrain_s = 5").server.drain_s == 5.0


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            '[logging]\naccess_log = "json"',
            '2: [logging] access_log: unknown key; did you mean "access"?',
        ),
        ("[server]\nprot = 1", '2: [server] prot: unknown key; did you mean "port"?'),
        ("[server]\nzzz = 1", "2: [server] zzz: unknown key; choose from host, port, token"),
        ("[server]\nwindow = 1", "2: [server] window: unknown key; it belongs in [session]"),
        ("port = 1", "1: port: unknown key outside any table; it belongs in [server]"),
        ("\n[servers]\nport = 1", '2: servers: unknown table; did you mean "server"?'),
        ("server = 1", "1: server: must be a table that starts with [server], not 1"),
        (
            "[[server]]\nport = 1",
            "1: server: must be a table that starts with [server], not a list",
        ),
        (
            "[provider]\nname = 'x'",
            "1: provider: each provider must start with [[provider]]",
        ),
        (
            "[server]\nport = 70000",
            "2: [server] port: must be a whole number from 0 to 65535, not 70000",
        ),
        (
            "[server]\nport = '8079'",
            '2: [server] port: must be a whole number from 0 to 65535, not "8079"',
        ),
        (
            "[server]\nport = true",
            "2: [server] port: must be a whole number from 0 to 65535, not true",
        ),
        (
            "[server]\ndrain_s = nan",
            "2: [server] drain_s: must be a number from 0 to 604800, not nan",
        ),
        (
            "[server]\ndrain_s = 1979-05-27",
            "2: [server] drain_s: must be a number from 0 to 604800, not a date",
        ),
        (
            "[session]\nrequest_timeout_s = 0",
            "2: [session] request_timeout_s: must be a number above 0, at most 604800, not 0",
        ),
        (
            "[logging]\nlevel = 'loud'",
            '2: [logging] level: must be "debug", "info", "warning" or "error", not "loud"',
        ),
        ("[compat]\nhttp = 1", "2: [compat] http: must be true or false, not 1"),
        (
            "[server]\nallowed_origins = [\n 'https://a.example',\n 3]",
            "4: [server] allowed_origins entry 2: must be text of 1 to 4096 characters, in quotes",
        ),
        (
            "[server]\nallowed_origins = ['http://a.example/']",
            '2: [server] allowed_origins entry 1: "http://a.example/" is not an origin',
        ),
        (
            "[server]\nallowed_hosts = ['http://a.example']",
            '2: [server] allowed_hosts entry 1: "http://a.example" is not a host name',
        ),
        (
            "[chat]\ndefault_model = 'synthetc'",
            '2: [chat] default_model: no provider serves "synthetc"; did you mean "synthetic"?',
        ),
        (
            "[compat]\nhttp = true\nhttp_health_port = 8079",
            "3: [compat] http_health_port: 8079 is already used by [server] port; choose another",
        ),
    ],
)
def test_a_wrong_key_is_reported_with_its_line_and_a_correction(text: str, error: str) -> None:
    (found,) = errors(text)
    assert found.startswith(f"exai.toml:{error}")


@pytest.mark.parametrize(
    ("provider", "error"),
    [
        ("name = 'x'", f'1: [[provider]]: "kind" is missing; it must be {KINDS}'),
        (
            "kind = 'opnai'",
            f'2: [[provider]] kind: must be {KINDS}, not "opnai"; did you mean "openai"?',
        ),
        (
            "kind = 'synthetic'",
            '1: [[provider]]: "name" is missing; it must be 1 to 64 letters, digits',
        ),
        (
            "kind = 'anthropic'\nname = 'x'",
            (
                '2: [[provider]] kind: must be "openai" or "synthetic", not "anthropic"; '
                '"openai" stands for every service with an OpenAI-compatible API'
            ),
        ),
        (
            "kind = 'synthetic'\nname = 'a/b'",
            "3: [[provider]] name: must be 1 to 64 letters, digits",
        ),
        (
            "kind = 'synthetic'\nname = 'x'\nbase_url = 'http://x'",
            '4: [[provider]] base_url: belongs to kind "openai", not to "synthetic"; remove it',
        ),
        (
            "kind = 'synthetic'\nname = 'x'\nfailure_rate = 1.5",
            "4: [[provider]] failure_rate: must be a number from 0 to 1, not 1.5",
        ),
        (
            "kind = 'synthetic'\nname = 'x'\nmodels = []",
            "4: [[provider]] models: must be a list of texts, each text of 1 to",
        ),
        (
            "kind = 'synthetic'\nname = 'x'\nmodels = ['m', 'n',\n'm']",
            '5: [[provider]] models entry 3: "m" is listed twice; remove one',
        ),
        (
            "kind = 'synthetic'\nname = 'x'\nconcurrency = 2",
            '4: [[provider]] concurrency: unknown key; did you mean "limit"?',
        ),
    ],
)
def test_a_wrong_provider_is_reported_with_its_line(provider: str, error: str) -> None:
    (found,) = errors(f"[[provider]]\n{provider}")
    assert found.startswith(f"exai.toml:{error}")


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("api.example/v1", "must start with http:// or https:// and a host"),
        ("ftp://api.example", "must start with http:// or https://"),
        ("https://", "must start with http:// or https:// and a host"),
        ("https://u:p@api.example", "must not contain a user name or password; use api_key_env"),
        ("https://api.example/v1?key=1", "base_url: must not contain ? or #"),
        ("https://api.example/v1/chat/completions", "remove /chat/completions"),
        ("https://api.example/v1/messages/", "remove /v1/messages"),
        ("https://api.example/v1/responses", "remove /responses"),
        ("https://api.example/v1/embeddings", "remove /embeddings"),
        ("https://[api.example", "is not a URL"),
        ("https://api..example/v1", 'has an invalid host: "api..example"'),
        ("https://api example/v1", 'has an invalid host: "api example"'),
        (f"https://{'a' * 64}.example/v1", "has an invalid host"),
    ],
)
def test_an_invalid_base_url_is_refused(url: str, error: str) -> None:
    (found,) = errors(KIMI.replace("https://api.example/v1", url))
    assert found.startswith("exai.toml:4: [[provider]] base_url: ")
    assert error in found


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ("families = []", "families: must be a list"),
        ('families = ["chat", "completions"]', 'families entry 2: must be "chat", "messages",'),
        ('families = ["chat", "messages", "chat"]', 'families entry 3: "chat" is listed twice'),
        ('messages_base_url = "https://api.example"', 'unless families has "messages"; add it'),
        ('responses_base_url = "https://api.example"', 'unless families has "responses"; add it'),
        (
            'families = ["messages"]\nmessages_base_url = "https://api.example/v1/"',
            "messages_base_url: is the URL before /v1/messages; remove /v1",
        ),
        (
            'families = ["messages"]\nmessages_base_url = "api.example"',
            'messages_base_url: "api.example" must start with http',
        ),
        ('messages_api_key_header = "x key"', 'messages_api_key_header: "x key" is no header'),
        (
            'api_key_env = "A"\nmessages_api_key_header = "x-key"\nheaders = { "X-Key" = "k" }',
            'headers: "X-Key" holds the key',
        ),
        ('count_tokens = "free"', 'count_tokens: must be "estimate" or "relay"'),
    ],
)
def test_families_and_their_addresses_are_checked(keys: str, error: str) -> None:
    (found,) = errors(f"{KIMI}{keys}\n")
    assert error in found


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ("commit_after_s = -1", "commit_after_s: must be a number from 0 to 300, not -1"),
        ("keepalive_s = 0", "keepalive_s: must be a number from 1 to 300, not 0"),
        ("retry_grace_s = 6", "retry_grace_s: must be a number from 0 to 5, not 6"),
        ("retry = 6", "retry: unknown key"),
    ],
)
def test_the_waits_of_http_have_ranges(keys: str, error: str) -> None:
    (found,) = errors(f"[http]\n{keys}\n")
    assert f"[http] {error}" in found


@pytest.mark.parametrize(
    ("base_url", "keys", "addresses"),
    [
        ("https://a.example/v1", {}, {"chat": "https://a.example/v1"}),
        (
            "https://a.example/v1/",
            {"families": ("messages", "embeddings")},
            {"messages": "https://a.example", "embeddings": "https://a.example/v1"},
        ),
        ("https://a.example", {"families": ("messages",)}, {"messages": "https://a.example"}),
        (
            "https://a.example/paas/v4",
            {
                "families": ("chat", "messages", "responses"),
                "messages_base_url": "https://a.example/anthropic/",
                "responses_base_url": "https://a.example/api/v1/",
            },
            {
                "chat": "https://a.example/paas/v4",
                "messages": "https://a.example/anthropic",
                "responses": "https://a.example/api/v1",
            },
        ),
    ],
)
def test_each_family_has_an_address(
    base_url: str, keys: dict[str, Any], addresses: dict[str, str]
) -> None:
    assert OpenAIProvider(name="a", base_url=base_url, **keys).addresses() == addresses


@pytest.mark.parametrize("host", ["[::1]", "127.0.0.1:8079", "ws://127.0.0.1", " ", "a\\nb"])
def test_a_host_with_scheme_port_or_brackets_is_refused(host: str) -> None:
    (found,) = errors(f'[server]\nhost = "{host}"\ntoken = "0123456789abcdef"')
    assert found.startswith("exai.toml:2: [server] host: ")
    assert "is not an address to listen on; write it without" in found
    assert "\n" not in found


@pytest.mark.parametrize("host", ["::1", "::", "fe80::1%eth0", "localhost", "desk.example"])
def test_a_host_is_an_address_or_a_name(host: str) -> None:
    assert reading(f'[server]\nhost = "{host}"\ntoken = "0123456789abcdef"').problems == ()


@pytest.mark.parametrize(
    "host", ["api.example", "api.example.", "münchen.example", "[::1]:8000", "10.0.0.1", "my_box"]
)
def test_a_base_url_may_name_any_host(host: str) -> None:
    found = reading(KIMI.replace("https://api.example/v1", f"https://{host}/v1"))
    assert found.config is not None


def test_a_key_of_another_kind_of_provider_is_refused() -> None:
    (found,) = errors(f"{KIMI}delay_ms = 3")
    assert 'delay_ms: belongs to kind "synthetic"' in found


def test_provider_names_are_unique() -> None:
    (found,) = errors(KIMI + KIMI)
    assert found == (
        'exai.toml:7: [[provider]] name: provider 1 is named "kimi" as well; names must be unique'
    )


def test_all_errors_are_reported_in_the_order_of_their_lines() -> None:
    found = errors(
        "[server]\nport = -1\nhosts = 'x'\n[session]\nwindow = 0\n[[provider]]\nkind = 'synthetic'"
    )
    assert [error.split(":")[1] for error in found] == ["2", "3", "5", "6"]
    found = errors(f"{KIMI}{KIMI}[server]\nport = -1\n")
    assert [error.split(":")[1] for error in found] == ["7", "10"]


def test_a_variable_with_a_wrong_value_is_named() -> None:
    assert errors("", {"EXAI_WS_PORT": "http"}) == [
        'EXAI_WS_PORT: [server] port: must be a whole number from 0 to 65535, not "http"'
    ]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "desk.example"])
def test_a_reachable_address_needs_a_token(host: str) -> None:
    text = f"[server]\nhost = '{host}'\n"
    (found,) = errors(text)
    assert found.startswith(f'exai.toml:2: [server] host: "{host}" is reachable from other')
    assert config_of(text + f"token = '{TOKEN}'").server.host == host
    assert config_of(text, {"EXAI_WS_TOKEN": TOKEN}).server.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "desk.localhost"])
def test_a_loopback_address_needs_no_token(host: str) -> None:
    assert config_of(f"[server]\nhost = '{host}'").server.token == ""


def test_a_token_under_sixteen_characters_is_refused() -> None:
    (found,) = errors("[server]\ntoken = 'onlyfifteenchar'")
    assert found.startswith(
        "exai.toml:2: [server] token: the token has 15 characters but needs at least 16"
    )
    assert "onlyfifteenchar" not in found
    (found,) = errors("", {"EXAI_WS_TOKEN": "onlyfifteenchar"})
    assert found.startswith("EXAI_WS_TOKEN: [server] token: the token has 15 characters")


def test_a_token_that_is_a_number_is_refused_and_not_shown() -> None:
    assert errors("[server]\ntoken = 1234567890123456") == [
        "exai.toml:2: [server] token: must be text, in quotes"
    ]


def test_a_token_with_a_blank_is_refused() -> None:
    (found,) = errors("[server]\ntoken = 'sixteen or more characters'")
    assert "a token may contain only printable ASCII characters, no blanks" in found


def test_token_and_token_file_exclude_each_other() -> None:
    assert errors(f"[server]\ntoken = '{TOKEN}'\ntoken_file = 'x'") == [
        "exai.toml:3: [server] token_file: is set as well as token; keep one of the two"
    ]


def test_api_keys_come_from_the_environment() -> None:
    text = KIMI + "api_key_env = 'KIMI_KEY'"
    found = reading(text, {"KIMI_KEY": " sk-1 \n"})
    assert found.config is not None
    assert found.config.api_keys == {"kimi": "sk-1"}
    assert found.missing_keys == ()
    assert "sk-1" not in repr(found.config)


def test_a_missing_key_variable_is_reported() -> None:
    found = reading(KIMI + "api_key_env = 'KIMI_KEY'")
    assert found.config is not None
    (missing,) = found.missing_keys
    assert str(missing) == (
        "exai.toml:5: [[provider]] api_key_env: the environment variable KIMI_KEY for the key "
        'of "kimi" is not set; set it with: export KIMI_KEY=...'
    )


@pytest.mark.parametrize(
    "line", ["api_key = 'sk-secret'", "api_key_env = 'sk-secret'", "api_key_env = ['sk-secret']"]
)
def test_an_api_key_in_the_file_is_refused_and_not_shown(line: str) -> None:
    (found,) = errors(KIMI + line)
    assert "sk-secret" not in found
    assert found.startswith("exai.toml:5: [[provider]] api_key")


def test_an_unencrypted_key_causes_a_warning() -> None:
    text = KIMI.replace("https", "http") + "api_key_env = 'K'"
    (warning,) = reading(text, {"K": "k"}).warnings
    assert "the key is sent unencrypted" in str(warning)
    for host in ("127.0.0.1", "localhost", "models.localhost"):
        assert reading(text.replace("api.example", host), {"K": "k"}).warnings == ()


def test_repr_hides_the_token() -> None:
    assert TOKEN not in repr(config_of(f"[server]\ntoken = '{TOKEN}'"))


def test_a_document_nested_too_deeply_is_an_error() -> None:
    (found,) = errors("a = " + "[" * 20_000)
    assert found == "exai.toml: is nested too deeply"


@given(st.text())
def test_no_text_makes_reading_raise(text: str) -> None:
    reading(text.replace("\x00", ""))


VALUES = st.recursive(
    st.booleans() | st.integers(-(2**40), 2**40) | st.text("ab/: ", max_size=20) | st.floats(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
KEYS = ["host", "token", "allowed_origins", "window", "kind", "models", "base_url", "level", "port"]


@given(
    st.sampled_from(["[server]", "[session]", "[[provider]]", "[logging]", "[chat]"]),
    st.dictionaries(st.sampled_from(KEYS), VALUES),
)
def test_no_value_makes_reading_raise(header: str, table: dict[str, object]) -> None:
    from exai_actors.daemon.config.render import literal

    lines = "\n".join(f"{key} = {literal(value)}" for key, value in table.items())
    found = reading(f"{header}\n{lines}")
    assert (found.config is None) == bool(found.problems)
    for problem in found.problems:
        assert str(problem).startswith("exai.toml:")


@pytest.mark.parametrize(
    "origin", ["file://", "file:///", "null", "app://desk", "tauri://localhost"]
)
def test_origins_of_desktop_programs_can_be_allowed(origin: str) -> None:
    found = reading(f"[server]\nallowed_origins = ['{origin}']")
    assert found.config is not None
    assert found.config.server.allowed_origins == (origin,)


@pytest.mark.parametrize("origin", ["file", "file:", "NULL", "null/", "nothing", "://x"])
def test_other_origins_without_a_host_are_refused(origin: str) -> None:
    (problem,) = errors(f"[server]\nallowed_origins = ['{origin}']")
    assert "is not an origin" in problem


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("headers = { Host = 'x' }", '"Host" is set by the broker'),
        ("headers = { content-length = '1' }", '"content-length" is set by the broker'),
        ("headers = { Authorization = 'Bearer x' }", "belongs in the variable"),
        ("headers = { api-key = 'x' }\napi_key_header = 'Api-Key'", "belongs in the variable"),
        ("headers = { 'a b' = 'x' }", "is not the name of a header"),
        ("headers = { X-A = '1', x-a = '2' }", "is there twice"),
        ("headers = { X-A = ' 1' }", "no header can hold"),
        ("headers = { X-A = 'ł' }", "no header can hold"),
        ('headers = { X-A = "a\\r\\nB: c" }', "no header can hold"),
        ("headers = { X-A = 1 }", "text"),
        ("api_key_header = 'a b'", "is no header for a key"),
        ("api_key_header = 'Content-Type'", "is no header for a key"),
        ("api_key_header = ''", "is no header for a key"),
        ("query = { api-version = 1 }", "text"),
        ("ask_for_stream = 'never'", "always"),
    ],
)
def test_a_header_or_query_that_cannot_be_sent_is_refused(line: str, said: str) -> None:
    problems = errors(KIMI + "api_key_env = 'KIMI_KEY'\n" + line, {"KIMI_KEY": "sk"})
    assert said in problems[0]


def test_headers_query_and_the_header_of_the_key_are_read() -> None:
    line = "api_key_header = 'api-key'\nheaders = { X-A = '1' }\nquery = { api-version = '2' }"
    found = reading(KIMI + "api_key_env = 'KIMI_KEY'\n" + line, {"KIMI_KEY": "sk"})
    assert found.config is not None
    (provider,) = found.config.provider
    settings = http_settings(provider)  # type: ignore[arg-type]
    assert (settings.api_key_header, settings.headers, settings.query) == (
        "api-key",
        {"X-A": "1"},
        {"api-version": "2"},
    )
