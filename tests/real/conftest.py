"""The real parts as fixtures, which fail with the command to run if a part is missing."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import aiohttp
import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.real import processes
from tests.real.llmock import Llmock
from tests.real.programs.llama_server import MODEL
from tools import real_parts

CHROMIUM_FLAGS = [
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PROGRAMS = Path(__file__).parent / "programs"
TOKEN = "a-token-of-enough-characters"


class StartBroker(Protocol):
    """Start ``exai serve`` with this TOML, and with a token if one is given."""

    def __call__(self, toml: str, token: str = "") -> str: ...


@dataclass(frozen=True)
class Model:
    """An OpenAI-compatible server and its only model; ``url`` is without ``/v1``."""

    url: str
    name: str


@dataclass(frozen=True)
class WebSocketProgram:
    """The command of a third-party client; its arguments are the URL and possibly a token."""

    command: tuple[str | Path, ...]
    environment: dict[str, str]

    def to(self, url: str, token: str | None = None) -> list[str | Path]:
        """The command line that connects to ``url``."""
        return [*self.command, url, *([token] if token else [])]


def need(part: real_parts.Part) -> real_parts.Part:
    """The part; fails the test with the command to fetch it if it is missing."""
    if not part.is_there():
        pytest.fail(
            f"The real part {part.name!r} ({', '.join(part.pins)}) is missing or outdated in "
            f"{part.folder}. Fetch it with: {real_parts.INSTALL_COMMAND}",
            pytrace=False,
        )
    return part


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for the output of child processes."""
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of a module. It ends with them: its event loop would disturb
    others.
    """
    program = real_parts.chromium()
    if program is None:
        pytest.fail(real_parts.CHROMIUM_MISSING, pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=CHROMIUM_FLAGS, chromium_sandbox=False
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def llama_server(logs: Path) -> Iterator[Model]:
    """llama.cpp's own server with a real model and two slots."""
    part = need(real_parts.LLAMA)
    command: list[str | Path] = [sys.executable, PROGRAMS / "llama_server.py"]
    env = processes.environment(part.folder)
    log = logs / "llama.log"
    # The line may start with output of the server's log.
    with processes.running(command, ready=r"\bready (http://\S+)$", log=log, env=env) as url:
        yield Model(url, MODEL)


@pytest.fixture(scope="session")
def llmock_command() -> list[str | Path]:
    """The command ``llmock``, without a subcommand."""
    need(real_parts.LLMOCK)
    return [sys.executable, "-W", "ignore", "-m", "llmock.cli"]


@pytest.fixture(scope="session")
def llmock_environment() -> dict[str, str]:
    """The environment of ``llmock_command``."""
    return processes.environment(need(real_parts.LLMOCK).folder)


@pytest.fixture(scope="session")
def llmock_server(
    llmock_command: list[str | Path], llmock_environment: dict[str, str], logs: Path
) -> Iterator[str]:
    """The URL of a running llmock without ``/v1``; it pauses between chunks as models do."""
    command = [*llmock_command, "serve", "--port", "0", "--stream-chunk-delay-ms", "10"]
    ready = r"Uvicorn running on (http://[\d.:]+)"
    log = logs / "llmock.log"
    with processes.running(command, ready=ready, log=log, env=llmock_environment) as url:
        yield url


@pytest.fixture
async def llmock(llmock_server: str) -> AsyncIterator[Llmock]:
    """A running llmock without faults and records."""
    async with aiohttp.ClientSession() as http:
        llmock = Llmock(llmock_server, http)
        await llmock.reset()
        yield llmock


@pytest.fixture(scope="session")
def node() -> Path:
    """A Node version with a built-in WebSocket."""
    need(real_parts.NODE)
    return real_parts.NODE_PROGRAM


@pytest.fixture(scope="session")
def websocat() -> Path:
    """The program ``websocat``."""
    need(real_parts.WEBSOCAT)
    return real_parts.WEBSOCAT_PROGRAM


@pytest.fixture(scope="session")
def websocket_client() -> WebSocketProgram:
    """A client on the library websocket-client, with its default Origin."""
    part = need(real_parts.WEBSOCKET_CLIENT)
    command = (sys.executable, PROGRAMS / "pipe_websocket_client.py")
    return WebSocketProgram(command, processes.environment(part.folder))


@pytest.fixture(scope="session")
def websockets_client() -> Callable[[str, str], WebSocketProgram]:
    """A client with the given version of websockets, using the given one of its APIs."""

    def client(version: str, style: str) -> WebSocketProgram:
        part = need(real_parts.websockets_part(version))
        command = (sys.executable, PROGRAMS / "pipe_websockets.py", style)
        return WebSocketProgram(command, processes.environment(part.folder))

    return client


@pytest.fixture(scope="module")
def start_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartBroker]:
    """Start ``exai serve`` with this TOML on a free port; returns its ws:// URL."""
    with ExitStack() as stack:

        def start(toml: str, token: str = "") -> str:
            folder = tmp_path_factory.mktemp("broker")
            config = folder / "exai.toml"
            token_line = f"token = {json.dumps(token)}\n" if token else ""
            config.write_text(f'[server]\nhost = "127.0.0.1"\nport = 0\n{token_line}\n{toml}')
            command: list[str | Path] = [sys.executable, "-m", "exai_actors", "serve"]
            command += ["--config", config]
            return stack.enter_context(
                processes.running(
                    command,
                    ready=r"^ready (ws://\S+)$",
                    log=folder / "broker.log",
                    env=processes.environment(real_parts.ROOT),
                    cwd=folder,
                )
            )

        yield start
