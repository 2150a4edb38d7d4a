"""The servers of the benchmark of streams, and its service and clients, which are in C.

The service and the clients must never be what is measured, so each is one thread around one
epoll: together they write and read 100,000 pieces a second with less than a core.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.bench_processes import ROOT, Process, running, running_program, signals_wait

HERE = Path(__file__).resolve().parent
COMPILERS = ("cc", "gcc", "clang")
NO_COMPILER = (
    "No C compiler: the service and the clients of this benchmark are in C. "
    f"Looked for {', '.join(COMPILERS)}. On Debian or Ubuntu: apt-get install gcc libc6-dev"
)
PEERS = {"HAProxy": ("haproxy", "haproxy"), "nginx": ("nginx", "nginx-light")}

DIRECT, RELAY = "the service itself", "aiohttp relay"
BROKER, BROKER_RPC, BROKER_HTTP = "broker", "broker, JSON-RPC", "broker, HTTP"
CHAT_FRAMES, CHAT_FRAME = "broker, call_tool", "broker, tool_call"
STREAM_DIALECTS = {BROKER: "call_tool", BROKER_RPC: "jsonrpc", BROKER_HTTP: "http"}
CHAT_DIALECTS = {CHAT_FRAMES: "call_tool", CHAT_FRAME: "tool_call", BROKER_HTTP: "http"}

# The order of "ask_for_stream" makes the service answer a chat to all servers in the same form.
_BROKER = """
[server]
port = 0
max_connections = 12000
max_strangers = 12000
[[provider]]
name = "service"
kind = "openai"
base_url = "{url}/v1"
models = ["bench"]
limit = 10000
queue = 100000
ask_for_stream = "when_asked"
"""

_HAPROXY = """
global
  maxconn 9000
  nbthread 1
defaults
  mode http
  option http-no-delay
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout queue 60s
listen service
  bind 127.0.0.1:{port}
  server service {address} maxconn 9000
"""

_NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 18000; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  tcp_nodelay on;
  keepalive_requests 1000000;
  upstream service {{ server {address}; keepalive 10000; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://service;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


class CannotMeasure(Exception):
    """Something that the benchmark needs is missing, or a server failed it; the message says it."""


@dataclass(frozen=True)
class Server:
    """A server, and the dialect in which its clients speak."""

    name: str
    process: Process
    dialect: str


@dataclass(frozen=True)
class Sample:
    """One run of the clients against one server. Times are in ms, infinite without a piece."""

    clients: int
    seconds: float
    cpu_s: float
    kib_each: float
    pieces: int
    ended: int
    offered: float
    refused: int
    lag_p50: float
    lag_p99: float
    wait_p50: float
    wait_p99: float

    @property
    def cpu_us(self) -> float:
        """CPU of the server for each piece; of a whole answer, that is for each chat."""
        return self.cpu_s / max(1, self.pieces) * 1e6

    @property
    def came(self) -> float:
        """The fraction of the pieces offered that came."""
        return self.pieces / self.offered if self.offered else 1.0


@dataclass(frozen=True)
class Programs:
    """The service and the clients."""

    service: Path
    load: Path


class Workshop:
    """Starts servers, and clients against them."""

    def __init__(self, programs: Programs, folder: Path, stack: ExitStack) -> None:
        self._programs = programs
        self._folder = folder
        self._stack = stack
        self._count = 0

    def _log(self) -> Path:
        self._count += 1
        return self._folder / f"{self._count}.log"

    def service(self) -> Server:
        command = [self._programs.service]
        return Server(
            DIRECT, self._stack.enter_context(running_program(command, self._log())), "http"
        )

    def relay(self, service: Server) -> Server:
        command = ["-m", "tools.streams.relay", _url(service)]
        return Server(RELAY, self._stack.enter_context(running(command, self._log())), "http")

    def broker(self, service: Server, tree: Path = ROOT) -> Process:
        config = self._folder / f"{self._count}.toml"
        config.write_text(_BROKER.format(url=_url(service)))
        command = ["-m", "exai_actors", "serve", "--config", str(config)]
        return self._stack.enter_context(running(command, self._log(), tree=tree))

    def haproxy(self, service: Server) -> Server:
        port, config = _free_port(), self._folder / "haproxy.cfg"
        config.write_text(_HAPROXY.format(port=port, address=_address(service)))
        program = running_program(["haproxy", "-db", "-f", config], self._log(), port=port)
        return Server("HAProxy", self._stack.enter_context(program), "http")

    def nginx(self, service: Server) -> Server:
        port, config = _free_port(), self._folder / "nginx.conf"
        config.write_text(_NGINX.format(port=port, address=_address(service), folder=self._folder))
        command: list[str | Path] = ["nginx", "-e", "stderr", "-p", self._folder, "-c", config]
        program = running_program(command, self._log(), port=port)
        return Server("nginx", self._stack.enter_context(program), "http")

    def sample(self, server: Server, clients: int, **options: int) -> Sample:
        """Run the clients against a server that is calm, and wait until it is calm again."""
        resident = server.process.resident_kib
        command = [
            str(self._programs.load),
            f"port={server.process.address[1]}",
            f"dialect={server.dialect}",
            f"clients={clients}",
            *(f"{name}={value}" for name, value in options.items()),
        ]
        cpu = {}
        load: subprocess.Popen[str] | None = None
        try:
            with signals_wait():
                load = subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
            assert load.stdout is not None
            assert load.stderr is not None
            last = ""
            for line in load.stdout:
                last = line.strip()
                if last in ("begin", "end"):
                    cpu[last] = server.process.cpu_seconds
                if last == "end":
                    resident = server.process.resident_kib - resident
            if load.wait() or not last.startswith("{"):
                raise CannotMeasure(f"{server.name}: {load.stderr.read().strip() or 'no result'}")
        finally:
            if load is not None:
                load.kill()
                load.communicate()
        server.process.becomes_calm()
        found = json.loads(last)
        if found["wrong"] or found["lost"]:
            raise CannotMeasure(
                f"{server.name}: {found['wrong']} answers were not as ordered, "
                f"{found['lost']} connections were closed: {found['complaint']}"
            )
        if found["refused"] + found["refused_before"] and not found["pieces"]:
            raise CannotMeasure(f"{server.name} refused all: {found['complaint']}")
        every_us = options.get("every_us", 20_000)
        return Sample(
            clients,
            found["seconds"],
            cpu["end"] - cpu["begin"],
            resident / clients,
            found["pieces"],
            found["ended"],
            clients * found["seconds"] * 1e6 / every_us if every_us else 0,
            found["refused"] + found["refused_before"],
            *(value / 1e3 if found["pieces"] else inf for value in found["lag_us"]),
            *(value / 1e3 if found["waits"] else inf for value in found["wait_us"]),
        )


@contextmanager
def compiled() -> Iterator[Programs]:
    """The programs in C, in a temporary folder. Raises CannotMeasure."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise CannotMeasure(NO_COMPILER)
    with TemporaryDirectory(prefix="exai-streams-") as folder:
        programs = Programs(Path(folder) / "service", Path(folder) / "load")
        for program in (programs.service, programs.load):
            source = HERE / f"{program.name}.c"
            command = [compiler, "-O2", "-o", str(program), str(source)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise CannotMeasure(f"{compiler} cannot compile {source.name}:\n{done.stderr}")
        yield programs


@contextmanager
def workshop(programs: Programs) -> Iterator[Workshop]:
    """Everything that is started in it ends with the block."""
    with TemporaryDirectory(prefix="exai-streams-") as folder, ExitStack() as stack:
        yield Workshop(programs, Path(folder), stack)


def check_peers() -> None:
    """Raises CannotMeasure if a peer is not installed."""
    missing = {
        peer: package for peer, (program, package) in PEERS.items() if not shutil.which(program)
    }
    if missing:
        raise CannotMeasure(
            f"{' and '.join(missing)} missing, which --peers measures, too. On Debian or Ubuntu: "
            f"apt-get install {' '.join(missing.values())}"
        )


def _url(server: Server) -> str:
    return f"http://{_address(server)}"


def _address(server: Server) -> str:
    host, port = server.process.address
    return f"{host}:{port}"


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
