"""Draining, snapshots, and the configuration in force, at a broker that serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from exai_actors.client import connect
from exai_actors.client.console import ConsoleClient, open_console
from exai_actors.client.errors import Unauthorized
from exai_actors.daemon.config.load import load
from exai_actors.daemon.wiring import Broker, open_broker
from exai_actors.testing.scripted_replies import Gate, answer
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from tests.daemon.processes import exai, provider_at, start

CONFIG = """[server]
port = 0
recordings = "recordings"

[[operator]]
name = "ada"
token_file = "ada"
role = "admin"

[[operator]]
name = "eve"
token_file = "eve"

[[access]]
name = "desk"
token_file = "desk"
weight = 2.0  # of three

[[provider]]
kind = "synthetic"
name = "kimi"
limit = 4  # calls in flight
"""


def written(folder: Path) -> Path:
    for name in ("ada", "eve", "desk"):
        (folder / name).write_text(f"token-of-{name}-123456")
        (folder / name).chmod(0o600)
    file = folder / "exai.toml"
    file.write_text(CONFIG)
    return file


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Broker, ConsoleClient]]:
    config = load(str(written(folder)), {}, {}).config
    async with (
        open_broker(config) as broker,
        open_console(broker.url, "token-of-ada-123456") as console,
    ):
        yield broker, console


async def rows(broker: Broker, table: str, filter_: str = "") -> list[list[Any]]:
    async with open_console(broker.url, "token-of-eve-123456") as console:
        async for watched in console.watch(table, filter=filter_):
            return list(watched.rows.values())
    raise AssertionError


async def test_every_setting_is_shown_with_its_origin_and_no_secret(tmp_path: Path) -> None:
    async with serving(tmp_path) as (broker, console):
        file = tmp_path / "exai.toml"
        assert await rows(broker, "config", "kimi limit") == [
            ["[[provider]] kimi limit", "4", f"{file}:22"],
            ["[[provider]] kimi model_limits", "{}", "default"],
        ]
        await console.act("provider.limit", ["kimi"], arguments={"limit": 2}, reason="429s")
        await console.act("tenant.weight", ["desk"], arguments={"weight": 3})
        (limit, _) = await rows(broker, "config", "kimi limit")
        assert limit[1:] == ["2", f"live change by ada: 429s (was 4, {file}:22)"]
        (weight,) = await rows(broker, "config", "desk weight")
        assert weight[1:] == ["3", f"live change by ada (was 2, {file}:17)"]
        everything = str(await rows(broker, "config"))
    assert "123456" not in everything


async def test_live_changes_are_saved_after_a_look_at_the_difference(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, console):
        await console.act("provider.limit", ["kimi"], arguments={"limit": 2})
        gate = {"gate": "requests_per_minute", "limit": 30}
        await console.act("provider.gate", ["kimi"], arguments=gate)
        await console.act("tenant.weight", ["desk"], arguments={"weight": 3})
        preview = await console.act("config.save", preview=True)
        assert (tmp_path / "exai.toml").read_text() == CONFIG
        done = await console.act("config.save")
        (again,) = (await console.act("config.save"))["effects"]
    (effect,) = done["effects"]
    assert effect == preview["effects"][0]
    for line in ("-limit = 4  # calls in flight", "+limit = 2  # calls in flight"):
        assert line in effect["text"]
    assert (tmp_path / "exai.toml").read_text() == (
        CONFIG.replace("limit = 4 ", "limit = 2 ").replace("weight = 2.0", "weight = 3")
        + "requests_per_minute = 30\n"
    )
    assert (again["ok"], again["text"]) == (False, "there are no live changes to save")


async def test_a_file_that_cannot_be_changed_is_a_refusal(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, console):
        await console.act("provider.limit", ["kimi"], arguments={"limit": 2})
        (tmp_path / "exai.toml").unlink()
        effect = await console.act("config.save")
    assert effect["failed"] == 1
    assert "cannot be read" in effect["effects"][0]["text"]


async def test_a_snapshot_is_a_recording_of_the_last_minutes(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, console):
        effect = await console.act("broker.snapshot", reason="look at this")
        assert effect["effects"][0]["text"] == "the last minutes are saved to recordings"
        # Its answer comes once the file is complete.
        (recording,) = (tmp_path / "recordings").iterdir()
        lines = recording.read_bytes().splitlines()
    assert b"ada: look at this" in lines[0]
    assert len(lines) > 1


async def test_a_snapshot_that_cannot_be_written_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "recordings").write_text("a file where the folder should be")
    async with serving(tmp_path) as (_, console):
        effect = await console.act("broker.snapshot")
    assert effect["failed"] == 1
    assert "cannot be written" in effect["effects"][0]["text"]


@pytest.mark.parametrize("action", ["broker.drain", "broker.snapshot", "config.save"])
async def test_a_viewer_can_do_none_of_it(action: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as (broker, _):
        async with open_console(broker.url, "token-of-eve-123456") as console:
            with pytest.raises(Unauthorized, match=f"{action} needs the role"):
                await console.act(action)
        assert not broker.statistics().draining
    assert not (tmp_path / "recordings").exists() or not list((tmp_path / "recordings").iterdir())


def posted(url: str) -> int:
    """The status of a chat over HTTP."""
    body = b'{"model": "scripted-model", "messages": [{"role": "user", "content": "hello"}]}'
    fields = {"Content-Type": "application/json", "Authorization": "Bearer token-of-desk-123456"}
    address = f"http{url.removeprefix('ws')}/v1/chat/completions"
    try:
        with urlopen(Request(address, body, fields), timeout=10.0) as response:
            status: int = response.status
    except HTTPError as error:
        status = error.code
    return status


async def test_probes_and_consoles_see_a_broker_drain(tmp_path: Path) -> None:
    gate = Gate()
    async with ScriptedUpstream(answer(gate, "done")) as upstream:
        file = written(tmp_path)
        toml = CONFIG.partition("[[provider]]")[0].replace("recordings", "# recordings")
        file.write_text(toml + provider_at(upstream))
        config = load(str(file), {}, {}).config
        async with open_broker(config) as broker:
            url = broker.url
            async with connect(url, token="token-of-desk-123456") as client:
                call = asyncio.create_task(client.call("chat", prompt="hello"))
                await gate.reached()
                draining = asyncio.create_task(broker.drain(30))
                ready = await exai("health", "--ready", "--url", url)
                asked = await exai("ask", "hello", "--url", url)
                assert await asyncio.to_thread(posted, url) == 503
                assert await rows(broker, "requests", "running")
                ((health, *_),) = await rows(broker, "broker")
                gate.open()
                assert (await call).text == "done"
                assert await draining
    assert (ready.code, ready.out) == (8, "not ready: the broker is draining\n")
    text = "it answers 503 (The broker is shutting down and takes no new connections)"
    assert (asked.code, asked.err) == (
        8,
        f"exai: cannot connect to {url}: {text}. Try again later\n",
    )
    assert health == "draining"
    assert (await exai("health", "--ready", "--url", url)).code == 5


async def test_a_drained_broker_finishes_its_requests_and_the_process_ends(tmp_path: Path) -> None:
    process = await start("serve", "--config", str(written(tmp_path)))
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().split()[1]
    token = {"EXAI_OPERATOR_TOKEN": "token-of-ada-123456"}
    preview = await exai("drain", "--preview", "--url", url, env=token)
    drained = await exai("drain", "--yes", "--reason", "update", "--url", url, env=token)
    async with asyncio.timeout(20):
        _, err = await process.communicate()
    text = (
        "broker: new requests are refused, 0 calls in flight and 0 queued requests are finished, "
        "and the process ends\n"
    )
    assert (preview.out, drained.out, drained.code) == (text, text, 0)
    assert process.returncode == 0
    assert b"ada: update" in err
