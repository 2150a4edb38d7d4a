"""`exai config check --connect`: what is right, what is wrong, and the cure, without a call."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from exai_actors.daemon.service_check import Check, check_services
from exai_actors.testing.scripted_replies import failure
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from tests.daemon.configs import config_of
from tests.daemon.processes import exai

KEY = "right-key"


def provider(base_url: str, *lines: str, name: str = "kimi") -> str:
    table = ["[[provider]]", 'kind = "openai"', f'name = "{name}"', f'base_url = "{base_url}"']
    return "\n".join([*table, *lines, ""])


async def check(base_url: str, *lines: str, key: str = KEY) -> Check:
    (found,) = await check_services(config_of(provider(base_url, *lines), env={"KEY": key}))
    return found


@asynccontextmanager
async def service_at(path: str, *, status: int = 200) -> AsyncIterator[str]:
    """A service whose only page is a list of models at this path; yields its address."""

    async def models(_request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m-1"}, {"id": "m-2"}]}, status=status)

    app = web.Application()
    app.router.add_get(path, models)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_right_key_and_address_are_ok_and_no_call_is_made() -> None:
    async with ScriptedUpstream(api_key=KEY, models=("m-1", "m-2", "m-3", "m-4")) as service:
        found = await check(service.base_url, 'api_key_env = "KEY"')
        assert service.started == 0
    assert found.verdict == "ok"
    assert found.models == ("m-1", "m-2", "m-3", "m-4")
    assert found.text == f"4 models (m-1, m-2, m-3, ...) at {service.base_url}"


async def test_a_service_without_a_key_is_ok() -> None:
    async with ScriptedUpstream() as service:
        found = await check(service.base_url)
        assert service.model_requests == 1
    assert (found.verdict, found.text) == ("ok", f"1 model (scripted-model) at {service.base_url}")


async def test_a_wrong_key_has_failed_and_names_the_variable_not_the_key() -> None:
    async with ScriptedUpstream(api_key=KEY) as service:
        found = await check(service.base_url, 'api_key_env = "KEY"', key="wrong-key")
    assert found.verdict == "failed"
    assert "answered HTTP 401" in found.text
    assert "api_key_env" in found.text
    assert "wrong-key" not in found.text


async def test_a_missing_key_says_which_key_to_add() -> None:
    async with ScriptedUpstream(api_key=KEY) as service:
        found = await check(service.base_url)
    assert found.verdict == "failed"
    assert found.text.endswith("it needs a key: name its variable in api_key_env")


async def test_a_list_that_is_open_to_anyone_does_not_prove_the_key() -> None:
    async with ScriptedUpstream() as service:
        found = await check(service.base_url, 'api_key_env = "KEY"', key="any-key")
        assert service.model_requests == 2
    assert found.verdict == "warning"
    assert "only a call shows whether yours is right" in found.text


@pytest.mark.parametrize(
    ("real", "written", "cure"),
    [
        ("/v1/models", "", "/v1"),
        ("/v1/models", "/", "/v1"),
        ("/openai/v1/models", "/openai", "/openai/v1"),
        ("/v1/models", "/v1/v1", "/v1"),
    ],
)
async def test_a_missing_or_second_v1_is_found(real: str, written: str, cure: str) -> None:
    async with service_at(real) as address:
        found = await check(f"{address}{written}")
    assert found == Check(
        "kimi", "failed", f'has its API at another path; write: base_url = "{address}{cure}"'
    )


async def test_an_address_without_any_api_has_failed() -> None:
    async with service_at("/elsewhere") as address:
        found = await check(f"{address}/v1")
    assert found.verdict == "failed"
    assert "answered HTTP 404" in found.text
    assert "check base_url, which usually ends in /v1" in found.text


async def test_a_service_that_lists_no_models_is_a_warning_if_the_file_names_them() -> None:
    async with service_at("/elsewhere") as address:
        found = await check(f"{address}/v1", 'models = ["m-1"]')
    assert found.verdict == "warning"
    assert "only a call can show whether path and key are right" in found.text


async def test_a_model_that_the_service_does_not_list_is_a_warning() -> None:
    async with ScriptedUpstream(models=("kimi-k2.6", "kimi-k2.5")) as service:
        found = await check(service.base_url, 'models = ["kimi-k2.6", "kimi-k2-6"]')
    assert found.verdict == "warning"
    assert 'but not "kimi-k2-6"; did you mean "kimi-k2' in found.text
    assert "correct `models`" in found.text


async def test_an_empty_list_is_a_warning() -> None:
    async with ScriptedUpstream(models=()) as service:
        found = await check(service.base_url)
    assert found.verdict == "warning"
    assert "lists no models; load one there" in found.text


async def test_a_closed_port_has_failed() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        found = await check(f"http://127.0.0.1:{bound.getsockname()[1]}/v1")
    assert found.verdict == "failed"
    assert "cannot be reached" in found.text


async def test_https_to_a_plain_port_has_failed_with_the_cure() -> None:
    async with ScriptedUpstream() as service:
        found = await check(service.base_url.replace("http:", "https:"))
    assert found.verdict == "failed"
    assert "base_url must begin with http://" in found.text


async def test_an_exhausted_account_has_failed_with_the_words_of_the_service() -> None:
    async with ScriptedUpstream(models=failure(429, "account is suspended")) as service:
        found = await check(service.base_url)
    assert found.verdict == "failed"
    assert "account is suspended" in found.text


async def test_the_built_in_provider_is_ok() -> None:
    (found,) = await check_services(config_of('[[provider]]\nkind = "synthetic"\nname = "s"\n'))
    assert found.verdict == "ok"


async def test_the_command_prints_a_line_for_each_provider(tmp_path: Path) -> None:
    file = tmp_path / "exai.toml"
    async with ScriptedUpstream(api_key=KEY) as service:
        file.write_text(
            provider(service.base_url, 'api_key_env = "KEY"')
            + provider(service.base_url, 'api_key_env = "KEY_2"', name="second")
            + '[[provider]]\nkind = "synthetic"\nname = "s"\n'
        )
        command = ("config", "check", "--connect", "--config", str(file))
        good = await exai(*command, env={"KEY": KEY, "KEY_2": KEY})
        wrong = await exai(*command, env={"KEY": KEY, "KEY_2": "wrong-key"})
        missing = await exai(*command, env={"KEY": KEY})
    assert (good.code, good.err) == (0, "")
    assert [line.split()[:2] for line in good.out.splitlines()] == [
        ["ok", "kimi"],
        ["ok", "second"],
        ["ok", "s"],
    ]
    assert wrong.code == 10
    assert wrong.out.splitlines()[1].startswith("failed   second  answered HTTP 401")
    assert missing.code == 3
    assert missing.out.splitlines()[1].startswith("failed   second  the key is missing")
    assert "KEY_2" in missing.err


async def test_an_invalid_file_is_reported_before_anything_is_sent(tmp_path: Path) -> None:
    file = tmp_path / "exai.toml"
    file.write_text("[server]\nprot = 1\n")
    result = await exai("config", "check", "--connect", "--config", str(file))
    assert (result.code, result.out) == (3, "")
    assert 'did you mean "port"' in result.err
