"""The pytest plugin in separate projects that have the package installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

INI = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
addopts = --strict-markers -p no:cacheprovider
"""

GOOD = '''
import asyncio

import pytest
from exai_actors.client import ConnectError
from exai_actors.testing.broker import broker_in_thread, running_broker
from exai_actors.testing.config import provider_at
from exai_actors.testing.scripted_replies import Gate, answer
from exai_actors.testing.scripted_upstream import ScriptedUpstream

pytestmark = pytest.mark.usefixtures("leak_check")

opened = []
TABLES = {"provider": [{"name": "kimi", "kind": "synthetic", "limit": 7}]}
TEXT = """
[server]
token = "a-token-of-the-test"
"""

def test_client(exai_client, exai_broker):
    assert exai_client.call("chat", prompt="hi").text
    assert exai_broker.statistics().providers[0].kind == "synthetic"

def test_scripted(scripted_upstream, exai_broker, exai_client):
    gate = Gate()
    scripted_upstream.then(answer("one", gate, "two"))
    for piece in exai_client.stream("chat", prompt="hi"):
        assert piece == "one"
        scripted_upstream.reached(gate)
        assert exai_broker.statistics().in_flight == 1
        break
    scripted_upstream.wait_for_disconnect()
    assert exai_broker.settled().in_flight == 0
    assert exai_client.call("chat", prompt="next").text == "echo: next"
    assert [seen.prompt for seen in scripted_upstream.requests] == ["hi", "next"]

def test_an_open_gate(scripted_upstream, exai_client):
    gate = Gate()
    scripted_upstream.then(answer("one", gate, "two"))
    scripted_upstream.open(gate)
    assert exai_client.call("chat", prompt="hi").text == "onetwo"

def test_a_broker_that_the_test_stops(exai_broker):
    exai_broker.stop()
    with pytest.raises(ConnectError):
        exai_broker.connect_sync().__enter__()

async def test_async_beside(exai_broker):
    async with exai_broker.connect() as client:
        assert (await client.call("chat", prompt="hi")).text

@pytest.mark.asyncio(loop_scope="module")
async def test_a_loop_that_goes_on_keeps_its_threads():
    assert await asyncio.to_thread(int, "5") == 5

async def test_async_on_its_own_loop():
    async with (
        ScriptedUpstream() as upstream,
        running_broker({"provider": [provider_at(upstream.base_url)]}) as broker,
        broker.connect() as client,
    ):
        assert (await client.call("chat", prompt="hi")).text == "echo: hi"

@pytest.mark.exai(config=TABLES)
def test_marker_with_tables(exai_broker):
    provider, = exai_broker.statistics().providers
    assert (provider.name, provider.limit) == ("kimi", 7)

@pytest.mark.exai(config=TEXT)
def test_marker_with_text(exai_broker, exai_client):
    assert exai_broker.token == "a-token-of-the-test"
    exai_client.ping()

def test_factory(exai_broker_factory):
    first, second = exai_broker_factory(TABLES), exai_broker_factory()
    assert first.port != second.port

@pytest.fixture(scope="module")
def shared():
    with broker_in_thread({"session": {"resume_s": 60}}) as broker:
        yield broker

@pytest.fixture
async def echo_server():
    serving = set()

    async def echo(reader, writer):
        serving.add(asyncio.current_task())
        while data := await reader.read(1):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for writer in opened:
            writer.close()
            await writer.wait_closed()
        await asyncio.wait(serving)

async def test_tasks_that_a_fixture_ends(echo_server):
    reader, writer = await asyncio.open_connection("127.0.0.1", echo_server)
    writer.write(b"x")
    assert await reader.read(1) == b"x"
    opened.append(writer)

@pytest.mark.parametrize("n", range(2))
def test_shared(shared, n):
    with shared.connect_sync() as client:
        client.call("chat", prompt="hi")
'''

BAD = """
import asyncio
import threading

import pykka
import pytest
from exai_actors.testing import broker, leaks
from exai_actors.testing.scripted_replies import Gate, answer

leaks.GRACE_S = 0.1
pytestmark = pytest.mark.usefixtures("leak_check")
over = threading.Event()
kept = []

class Forgotten(pykka.ThreadingActor):
    use_daemon_thread = True

async def forever():
    await asyncio.Event().wait()

def test_actor():
    Forgotten.start()

def test_clean_after_actor():
    pykka.ActorRegistry.stop_all()

def test_thread():
    threading.Thread(target=over.wait, name="a forgotten thread").start()

def test_clean_after_thread():
    over.set()

def test_loop():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(loop.run_in_executor(None, int))
    kept.append(loop)

def test_clean_after_loop():
    kept.pop().close()

async def test_task():
    kept.append(asyncio.create_task(forever(), name="a forgotten task"))

def test_call(scripted_upstream, exai_broker, monkeypatch):
    monkeypatch.setattr(broker, "SETTLE_S", 0.1)
    scripted_upstream.then(answer("one", Gate()))
    client = exai_broker.connect_sync().__enter__()
    pieces = iter(client.stream("chat", prompt="hi"))
    kept.extend([client, pieces])
    assert next(pieces) == "one"

@pytest.mark.exai(config={"server": {"prot": 1}})
def test_unknown_key(exai_broker):
    pass

@pytest.mark.exai(port=1)
def test_unknown_keyword(exai_broker):
    pass
"""


HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "test-against-a-broker.md"


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The output of pytest for a suite with many faults."""
    return _run(tmp_path_factory.mktemp("bad"), BAD)


def _run(project: Path, tests: str, *options: str, ini: str = INI) -> str:
    (project / "pytest.ini").write_text(ini)
    (project / "test_project.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-q", *options]
    return subprocess.run(
        command, cwd=project, capture_output=True, text=True, check=False, timeout=50
    ).stdout


def test_sync_and_async_tests_get_real_brokers_and_leave_nothing_behind(tmp_path: Path) -> None:
    output = _run(tmp_path, GOOD)
    assert "13 passed in " in output, output


def test_the_examples_of_the_how_to_pass_and_leave_nothing_behind(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", HOW_TO.read_text(), re.DOTALL | re.MULTILINE)
    for number, block in enumerate(blocks):
        (tmp_path / f"test_block_{number}.py").write_text(block)
    output = _run(tmp_path, "", ini=f"{INI}\nusefixtures = leak_check\n")
    tests = sum(block.count("def test_") for block in blocks)
    assert f"{tests} passed in " in output, output


def test_a_test_that_leaves_an_actor_fails_and_names_it(bad: str) -> None:
    assert "test_actor left behind:\nactor still running: Forgotten (" in bad


def test_a_test_that_leaves_a_thread_fails_and_names_it(bad: str) -> None:
    assert "test_thread left behind:\nthread still running: a forgotten thread\n" in bad


def test_a_test_that_leaves_a_loop_open_fails_and_names_its_thread(bad: str) -> None:
    assert "test_loop left behind:\nthread still running: asyncio_0\n" in bad


def test_a_test_that_leaves_a_task_fails_and_names_it(bad: str) -> None:
    output = "test_task left behind:\nasyncio task still running: a forgotten task (forever)\n"
    assert output in bad


def test_a_test_that_leaves_a_call_in_flight_fails_and_names_provider_and_client(bad: str) -> None:
    assert (
        "test_call left behind:\nprovider scripted: 1 in flight, 0 queued\n"
        "thread still running: exai-client\n"
    ) in bad


def test_the_test_after_one_that_leaked_is_not_blamed(bad: str) -> None:
    assert "_after_" not in bad


def test_an_invalid_configuration_is_reported_by_key_without_traceback(bad: str) -> None:
    assert "the exai_broker of test_project.py::test_unknown_key: " in bad
    assert '[server] prot: unknown key; did you mean "port"?' in bad
    assert "@pytest.mark.exai takes config=... and nothing else" in bad
    assert "plugin.py" not in bad


def test_the_plugin_needs_no_other_plugin(tmp_path: Path) -> None:
    tests = "def test_call(exai_client, leak_check): assert exai_client.ping() is None"
    ini = "[pytest]\nfilterwarnings = error\n"
    output = _run(tmp_path, tests, "-p", "no:asyncio", "-p", "no:timeout", ini=ini)
    assert "1 passed in " in output, output


def test_the_plugin_can_be_switched_off(tmp_path: Path) -> None:
    output = _run(tmp_path, "def test_call(exai_client): pass", "-p", "no:exai_actors")
    assert "fixture 'exai_client' not found" in output


def test_the_unused_plugin_imports_no_heavy_library() -> None:
    loaded = (
        "import sys, pytest, exai_actors.testing.plugin;"
        "print([name for name in sys.modules if name.split('.')[0] in"
        " ('pykka', 'websockets', 'aiohttp', 'msgspec', 'asyncio')])"
    )
    ran = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
