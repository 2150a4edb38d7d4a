from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path

import pytest

from exai_actors.client import Progress, connect
from exai_actors.daemon.cli.exit_codes import ExitCode
from exai_actors.daemon.demo.broker_process import DemoFailed, broker_in_front_of
from exai_actors.testing.scripted_replies import Gate, answer
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from tests.daemon.processes import clean_environment, ended, exai, provider_at, serving, start


@pytest.fixture(autouse=True)
def hangup_is_not_ignored() -> Iterator[None]:
    """Under nohup, children would inherit that SIGHUP is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


async def test_serve_prints_its_addresses_when_ready_and_ends_in_order(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, serving(provider_at(upstream), tmp_path) as broker:
        assert re.fullmatch(r"ws://127\.0\.0\.1:\d+", broker.url)
        result = await broker.stop()
    root = broker.url.replace("ws://", "http://")
    addresses = [
        f"openai {root}/v1",
        f"anthropic {root}",
        f"mcp {root}/mcp",
        f"console {root}/console",
    ]
    assert (result.code, result.out.splitlines()) == (0, addresses)
    entries = [json.loads(line) for line in result.err.splitlines()]
    assert [entry["level"] for entry in entries if entry["level"] not in ("info", "debug")] == []


@pytest.mark.parametrize(
    "signals",
    [
        [signal.SIGTERM],
        [signal.SIGINT],
        [signal.SIGHUP],
        [signal.SIGQUIT],
        [signal.SIGHUP, signal.SIGHUP],
        [signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM],
    ],
)
async def test_a_signal_lets_requests_in_flight_finish(
    tmp_path: Path, signals: list[signal.Signals]
) -> None:
    gate = Gate()
    async with (
        ScriptedUpstream(answer("Hel", gate, "lo")) as upstream,
        serving(provider_at(upstream), tmp_path) as broker,
    ):
        process = await start("ask", "hello", "--url", broker.url)
        assert process.stdout is not None
        assert await process.stdout.readexactly(3) == b"Hel"
        for each in signals:
            broker.process.send_signal(each)
        assert broker.process.stderr is not None
        while b"broker.draining" not in await broker.process.stderr.readline():
            pass
        gate.open()
        result = await ended(process)
        assert (result.code, result.out) == (0, "lo\n")
        assert (await ended(broker.process)).code == 0


@pytest.mark.parametrize("waiting", [0, 1, 3])
async def test_the_log_has_the_requests_for_which_a_draining_broker_stays(
    tmp_path: Path, waiting: int
) -> None:
    gate = Gate()
    async with (
        ScriptedUpstream(answer(gate, "first")) as upstream,
        serving(provider_at(upstream, "limit = 1"), tmp_path) as broker,
        connect(broker.url) as client,
    ):
        calls = [asyncio.create_task(client.call("chat", prompt="first"))]
        await gate.reached()
        for number in range(waiting):
            queued = asyncio.Event()

            def note(progress: Progress, queued: asyncio.Event = queued) -> None:
                if progress.position is not None:
                    queued.set()

            call = client.call("chat", prompt=f"{number}", on_progress=note)
            calls.append(asyncio.create_task(call))
            await queued.wait()
        broker.process.send_signal(signal.SIGTERM)
        assert broker.process.stderr is not None
        while b"broker.draining" not in (line := await broker.process.stderr.readline()):
            pass
        gate.open()
        assert [(await call).text for call in calls][1:] == [f"echo: {n}" for n in range(waiting)]
        assert (await ended(broker.process)).code == 0
    entry = json.loads(line)
    assert (entry["in_flight"], entry["queued"]) == (1, waiting)


async def test_a_hangup_is_ignored_under_nohup(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        async with (
            ScriptedUpstream() as upstream,
            serving(provider_at(upstream), tmp_path) as broker,
        ):
            broker.process.send_signal(signal.SIGHUP)
            result = await exai("ask", "hello", "--url", broker.url)
            assert result.out == "echo: hello\n"
            stopped = await broker.stop()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert stopped.code == 0
    assert "SIGHUP" not in stopped.err


FAILING = """
from exai_actors.actors.broker import BrokerActor
from exai_actors.daemon.cli.main import main

receive = BrokerActor.on_receive

def on_receive(self, message):
    if type(message).__name__ == "Admit":
        raise RuntimeError("out of order")
    return receive(self, message)

BrokerActor.on_receive = on_receive
start = BrokerActor.on_start

def on_start(self):
    if self.incarnation > 1:
        raise RuntimeError("secret words")
    start(self)

BrokerActor.on_start = on_start
main()
"""


async def test_a_guardian_that_fails_too_often_ends_the_process_with_exit_code_11() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", FAILING, "serve", "--port", "0"),
        stdout=PIPE,
        stderr=PIPE,
        env=clean_environment(),
        cwd="/",
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).split()[1].decode()
    assert (await exai("health", "--url", url)).code == ExitCode.NO_BROKER
    result = await ended(process)
    assert result.code == ExitCode.GAVE_UP
    report = result.err[result.err.index("exai: the broker gave up: /broker failed more than 5") :]
    assert report.count("s before: /broker failed with RuntimeError at") == 6
    assert report.count("\nexai:   ") == 6
    assert "consequence=" in result.err or '"consequence": ' in result.err
    assert "secret words" not in report


async def test_a_port_in_use_is_reported_with_a_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = await exai("serve", "--port", str(port))
    assert (result.code, result.out) == (ExitCode.CANNOT_LISTEN, "")
    line = result.err.splitlines()[-1]
    assert line.startswith("exai: ")
    assert str(port) in line
    assert "--port" in line


async def test_the_host_comes_from_its_variable(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        config = f"[server]\nhost = '127.0.0.1'\n{provider_at(upstream)}"
        async with serving(config, tmp_path, env={"EXAI_WS_HOST": "127.0.0.2"}) as broker:
            assert broker.url.startswith("ws://127.0.0.2:")
            result = await exai("ask", "hello", "--url", broker.url)
            assert result.out == "echo: hello\n"


async def test_an_invalid_variable_is_reported(tmp_path: Path) -> None:
    result = await exai("serve", env={"EXAI_WS_PORT": "http"})
    assert result.code == ExitCode.CONFIG
    assert result.err == (
        'exai: EXAI_WS_PORT: [server] port: must be a whole number from 0 to 65535, not "http"\n'
    )


async def test_without_configuration_the_built_in_provider_answers() -> None:
    process = await start("serve", "--port", "0")
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().split()[1]
        assert (await exai("models", "--url", url)).out == "synthetic\n"
        result = await exai("ask", "hello", "--url", url)
        assert result.code == 0
        assert result.out.strip()
        process.terminate()
    finally:
        result = await ended(process)
    assert result.code == 0
    assert "config.defaults_used" in result.err


async def test_the_demo_shows_both_acts_and_never_exceeds_the_limit() -> None:
    result = await exai("demo", "--seconds", "6")
    assert (result.code, result.err) == (0, "")
    lines, _, summary = result.out.partition("\n\n")
    assert re.match(r" 1\.\d s  one queue: served \d+ \(\d+\.\d/s\), \d of 4 in flight", lines)
    words = " ".join(summary.split())
    assert "never more than 4 calls at once (limit 4)" in words
    assert re.search(
        r"of the limit used, (no|one planned) 429\. The clients saw no errors\.", words
    )
    served = re.search(r"requests served +(\d+) +(\d+) +(\d+) +(\d+)", summary)
    assert served is not None
    assert all(int(number) > 0 for number in served.groups())
    if "A client vanished" in lines:
        assert re.search(r"aborted after \d+ ms and was full again after \d+ ms", lines)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_an_interrupted_demo_prints_its_summary(by: signal.Signals) -> None:
    process = await start("demo", "--seconds", "60")
    assert process.stdout is not None
    await process.stdout.readline()
    process.send_signal(by)
    result = await ended(process)
    assert (result.code, result.err) == (ExitCode.INTERRUPTED, "")
    assert "Counted by the service" in result.out


async def test_the_demos_broker_ends_with_the_demo() -> None:
    async with broker_in_front_of("http://127.0.0.1:9/v1", limit=4) as url:
        assert (await exai("models", "--url", url)).out == "scarce\n"
    assert (await exai("models", "--url", url)).code == ExitCode.NO_BROKER


async def test_a_demo_broker_that_does_not_start_is_reported_with_its_output() -> None:
    with pytest.raises(DemoFailed, match=r"did not start: .*base_url"):
        await broker_in_front_of("nowhere", limit=4).__aenter__()
