"""Run other people's client programs through the broker: ``python tools/real_clients.py``.

Installs them from npm, and Aider and llm from PyPI, into a temporary folder (``--folder`` keeps
it), together 1 GB for the first three and 3 GB for ``--all``. Then it runs each one unmodified, in
a network namespace with nothing but loopback and with an empty home, against a broker with one
permit and a service that answers with one word: once by ``exai run``, and once as ``exai connect
--write`` configures it. A recorder between programs and broker compares the bodies of requests and
answers with those of the service. Prints a table with the versions and the requests that the
service saw; exits with 1 if a program did not get the word, or if a byte of a body was changed. Run
it with the Python of ``.venv``, on Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from exai_actors.daemon.programs.table import PROGRAMS  # noqa: E402
from tools import real_parts  # noqa: E402
from tools.http_service import HttpExchange, HttpService  # noqa: E402

WORD = "PONG-77"
PROMPT = f"Answer with the one word {WORD}."
MODEL = "one-word"
TOKEN = "the-token-of-real-clients"
TIMEOUT_S = 120
EXAI = (sys.executable, "-m", "exai_actors")
FIRST = ("claude", "codex", "opencode")
FRAMING = ("transfer-encoding", "content-length", "connection")


@dataclass(frozen=True)
class Setup:
    """The packages of a program, its arguments for one answer, and those of its configuration."""

    npm: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    asking: tuple[str, ...] = ()
    configured: tuple[str, ...] = ()
    """Arguments before the others, where its configuration has to be chosen."""


SETUPS = {
    "claude": Setup(("@anthropic-ai/claude-code",), asking=("-p", PROMPT)),
    "codex": Setup(("@openai/codex",), asking=("exec", "--skip-git-repo-check", PROMPT)),
    "opencode": Setup(("opencode-ai",), asking=("run", PROMPT)),
    "kilo": Setup(("@kilocode/cli", "@kilocode/cli-linux-x64"), asking=("run", PROMPT)),
    "cline": Setup(("cline",), asking=("--json", PROMPT)),
    "continue": Setup(
        ("@continuedev/cli",),
        asking=("-p", PROMPT),
        configured=("--config", "{home}/.continue/exai.yaml"),
    ),
    "qwen": Setup(("@qwen-code/qwen-code",), asking=("-p", PROMPT)),
    "pi": Setup(
        ("@earendil-works/pi-coding-agent",),
        asking=("-p", PROMPT),
        configured=("--provider", "exai", "--model", MODEL),
    ),
    "aider": Setup(
        pip=("aider-chat",),
        asking=(
            "--no-git",
            "--yes",
            "--no-check-update",
            "--analytics-disable",
            "--message",
            PROMPT,
        ),
        configured=("--openai-api-key", TOKEN),
    ),
    "llm": Setup(pip=("llm",), asking=(PROMPT,), configured=("-m", MODEL, "--key", TOKEN)),
}


@dataclass
class Result:
    program: str
    version: str
    run: str = ""
    configured: str = ""
    requests: dict[str, int] = field(default_factory=dict)
    agents: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        return "failed" in (self.run, self.configured)


class Seen(NamedTuple):
    """A request that has reached the service."""

    path: str
    agent: str
    body: bytes


class Service(HttpService):
    """Answers every API with one word while ``is_open`` is set, and keeps each request."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.answers: list[bytes] = []
        self.is_open = threading.Event()
        self.is_open.set()
        super().__init__()
        self.url = f"http://{self.address}/v1"

    def serve(self, exchange: HttpExchange, body: bytes) -> None:
        if exchange.command != "POST":
            exchange.send_json({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
            return
        path = exchange.resource
        self.requests.append(Seen(path, exchange.headers.get("User-Agent", ""), body))
        self.is_open.wait()
        whole, events = answer(path)
        if json.loads(body).get("stream"):
            data = encoded(events)
            self.answers.append(data)
            exchange.send_stream(data)
        else:
            self.answers.append(exchange.send_json(whole))


class Recorder(HttpService):
    """Between the programs and the broker: keeps the bodies of both, as they are on the wire."""

    def __init__(self, broker_url: str) -> None:
        self.requests: list[bytes] = []
        self.answers: list[bytes] = []
        self._port = int(broker_url.rpartition(":")[2])
        super().__init__()
        self.url = f"ws://{self.address}"

    def serve(self, exchange: HttpExchange, body: bytes) -> None:
        answered = self._pass_on(exchange, body)
        if exchange.command == "POST" and not exchange.resource.endswith("/count_tokens"):
            self.requests.append(body)
            self.answers.append(answered)

    def _pass_on(self, exchange: HttpExchange, body: bytes) -> bytes:
        connection = HTTPConnection("127.0.0.1", self._port)
        fields = {
            name: value for name, value in exchange.headers.items() if name.lower() not in FRAMING
        }
        connection.request(exchange.command, exchange.path, body or None, fields)
        response = connection.getresponse()
        data = response.read()
        exchange.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in FRAMING:
                exchange.send_header(name, value)
        exchange.send_header("Content-Length", str(len(data)))
        exchange.end_headers()
        exchange.wfile.write(data)
        connection.close()
        return data

    def changed(self, service: Service) -> int:
        """How many bodies are at one end and not at the other."""
        count = 0
        for here, there in (
            (self.requests, [seen.body for seen in service.requests]),
            (self.answers, service.answers),
        ):
            ours, theirs = Counter(here), Counter(there)
            count += ((ours - theirs) + (theirs - ours)).total()
        return count


def answer(path: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A whole answer of the path's API, and the same as events."""
    if path.endswith("/messages"):
        return _message()
    if path.endswith("/responses"):
        return _response()
    return _completion()


def encoded(events: list[dict[str, Any]]) -> bytes:
    """The events as bytes of a stream."""
    lines = []
    for event in events:
        name = f"event: {event['type']}\n" if "type" in event else ""
        lines.append(f"{name}data: {json.dumps(event)}\n\n")
    return "".join([*lines, "data: [DONE]\n\n" if "choices" in events[0] else ""]).encode()


def _completion() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    base = {"id": "c1", "created": 1, "model": MODEL}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    said = {"role": "assistant", "content": WORD}
    ended = {"index": 0, "finish_reason": "stop"}
    whole = base | {"object": "chat.completion", "choices": [ended | {"message": said}]}
    chunk = base | {"object": "chat.completion.chunk"}
    first = {"index": 0, "delta": said, "finish_reason": None}
    last = chunk | {"choices": [ended | {"delta": {}}], "usage": usage}
    return whole | {"usage": usage}, [chunk | {"choices": [first]}, last]


def _message() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    block = {"type": "text", "text": WORD}
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL}
    usage = {"input_tokens": 3, "output_tokens": 2}
    whole = message | {"content": [block], "usage": usage} | stop
    begun = whole | {"content": [], "stop_reason": None}
    return whole, [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": block | {"text": ""}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": WORD},
        },
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]


def _response() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    text = {"type": "output_text", "text": WORD, "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    whole: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": MODEL,
        "output": [item | {"content": [text]}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 3,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 2,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 5,
        },
    }
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    started = item | {"content": [], "status": "in_progress"}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": started},
        {"type": "response.content_part.added", **place, "part": text | {"text": ""}},
        {"type": "response.output_text.delta", **place, "delta": WORD},
        {"type": "response.output_text.done", **place, "text": WORD},
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": item | {"content": [text]},
        },
        {"type": "response.completed", "response": whole},
    ]
    return whole, [event | {"sequence_number": at} for at, event in enumerate(events)]


def install(folder: Path, names: list[str]) -> None:
    """Fetch Node, and the programs that are not in the folder yet."""
    if not real_parts.NODE.is_there():
        real_parts.REAL.mkdir(exist_ok=True)
        if not real_parts.NODE.fetch():
            sys.exit("tools/real_clients.py: could not fetch Node; pip's output is above")
    # npm of that Node: it takes the newest versions that its own Node can run.
    path = os.pathsep.join((str(real_parts.NODE_PROGRAM.parent), os.environ["PATH"]))
    env = {**os.environ, "PATH": path}
    for name in names:
        setup, stamp = SETUPS[name], folder / f"{name}.installed"
        if stamp.exists():
            continue
        print(f"  {name:<10} installing", file=sys.stderr, flush=True)
        if setup.npm:
            # A package whose scripts are for another platform, or ask for more than it needs.
            more = ("--ignore-scripts",) if name == "kilo" else ()
            words = ("install", "--no-fund", "--no-audit", "--silent", *more)
            command = (*real_parts.NODE_NPM, *words, "--prefix", str(folder / name), *setup.npm)
            subprocess.run(command, check=True, stdout=sys.stderr, env=env)
        if setup.pip:
            subprocess.run((sys.executable, "-m", "venv", str(folder / name)), check=True)
            pip = str(folder / name / "bin" / "pip")
            subprocess.run((pip, "install", "-q", *setup.pip), check=True, stdout=sys.stderr)
        stamp.touch()


def programs_of(folder: Path, name: str) -> Path:
    """The folder with the commands of a program."""
    return folder / name / ("node_modules/.bin" if SETUPS[name].npm else "bin")


def inside(folder: Path, names: list[str], *, as_json: bool) -> int:
    """In the namespace: start service and broker, run the programs and report."""
    loopback_up()
    service = Service()
    with tempfile.TemporaryDirectory(prefix="exai-clients-") as place:
        work = Path(place)
        with broker(configuration(service.url), work) as url:
            recorder = Recorder(url)
            results = [_try(name, recorder.url, folder, work, service) for name in names]
            changed = recorder.changed(service)
    if as_json:
        print(json.dumps([asdict(each) for each in results], indent=2))
    else:
        _print_table(results)
        sizes = [len(body) for body in recorder.requests]
        print(
            f"\nbodies of requests: {len(sizes)} with {sum(sizes)} bytes, the longest "
            f"{max(sizes, default=0)}; of answers: {len(recorder.answers)}; changed: {changed}"
        )
    return 1 if changed or any(each.failed for each in results) else 0


def configuration(
    service_url: str, *, token: str = TOKEN, models: Iterable[str] = (MODEL,), limit: int = 1
) -> str:
    """A broker before one service; more keys of that provider may follow."""
    return (
        f"[server]\nport = 0\n{f'token = {json.dumps(token)}' if token else ''}\n"
        '[[provider]]\nkind = "openai"\nname = "one"\n'
        f'base_url = "{service_url}"\nlimit = {limit}\nmodels = {json.dumps(sorted(models))}\n'
        'families = ["chat", "messages", "responses", "embeddings"]\n'
    )


@contextlib.contextmanager
def broker(toml: str, work: Path) -> Iterator[str]:
    """Run a broker with this configuration in a folder; yields its URL."""
    config = work / "exai.toml"
    config.write_text(toml)
    with (work / "broker.log").open("w") as log:
        process = subprocess.Popen(
            (*EXAI, "serve", "--config", str(config)),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        ready = process.stdout.readline().split()
        if not ready:
            sys.exit((work / "broker.log").read_text())
        yield ready[1]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def environment(name: str, url: str, folder: Path, home: Path) -> dict[str, str]:
    """All variables that a program gets: those of a new desk, with the broker's address."""
    node = real_parts.NODE_PROGRAM.parent
    return {
        "HOME": str(home),
        "PATH": f"{programs_of(folder, name)}:{node}:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "TERM": "dumb",
        "EXAI_URL": url,
        "EXAI_TOKEN": TOKEN,
    }


def _try(name: str, url: str, folder: Path, work: Path, service: Service) -> Result:
    setup, home = SETUPS[name], work / name
    home.mkdir()
    env = environment(name, url, folder, home)
    program = programs_of(folder, name) / PROGRAMS[name].commands[0]
    began, seen = time.monotonic(), len(service.requests)
    version = output((str(program), "--version"), env, home).strip().splitlines()
    result = Result(name, version[-1] if version else "?")
    by_run = output((*EXAI, "run", name, "--", *setup.asking), env, home)
    result.run = "ok" if WORD in by_run else "failed"
    if result.run == "failed":
        print(f"--- {name}:\n{by_run[-2000:]}", file=sys.stderr)
    if name == "cline":
        result.configured = "by its own command"
    else:
        result.configured = _configured(name, program, env, home)
    for path, agent, _ in service.requests[seen:]:
        result.requests[path] = result.requests.get(path, 0) + 1
        if agent not in result.agents:
            result.agents.append(agent)
    result.seconds = time.monotonic() - began
    return result


def _configured(name: str, program: Path, env: dict[str, str], home: Path) -> str:
    """Write the lasting configuration, ask, and undo it."""
    wrote = output((*EXAI, "connect", name, "--write"), env, home)
    chosen = tuple(word.replace("{home}", str(home)) for word in SETUPS[name].configured)
    said = output((str(program), *chosen, *SETUPS[name].asking), env, home)
    undone = output((*EXAI, "connect", name, "--undo"), env, home)
    if WORD in said:
        return "ok"
    print(f"--- {name}:\n{wrote}\n{said[-2000:]}\n{undone}", file=sys.stderr)
    return "failed"


def output(
    command: tuple[str, ...], env: dict[str, str], home: Path, timeout_s: float = TIMEOUT_S
) -> str:
    """Both outputs of the command, which ends with all its children."""
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        process = subprocess.Popen(
            command,
            env=env,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            out.write(f"\n(no end within {timeout_s} s)\n")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        out.seek(0)
        return out.read()


def _print_table(results: list[Result]) -> None:
    print("program    version                        run     configured          requests")
    for each in results:
        requests = ", ".join(f"{count} {path}" for path, count in each.requests.items())
        print(
            f"{each.program:<10} {each.version[:30]:<30} {each.run:<7} {each.configured:<19} "
            f"{requests}"
        )
        for agent in each.agents:
            print(f"{'':<11}as {agent}")


def loopback_up() -> None:
    """Start the loopback of a new network namespace."""
    subprocess.run(("ip", "link", "set", "lo", "up"), check=True)


def in_namespace(command: list[str]) -> int:
    """Run the command where nothing but loopback can be reached; returns its exit code.

    Its end ends every process in it, also those that programs leave in the background.
    """
    namespace = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
    namespace += [] if os.geteuid() == 0 else ["--map-root-user"]
    return subprocess.run([*namespace, *command], check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SETUPS)}; else {', '.join(FIRST)}")
    parser.add_argument("--all", action="store_true", help="run all of them")
    parser.add_argument("--folder", type=Path, help="install them there, or use those there")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    names: list[str] = list(SETUPS) if chosen.all else chosen.names or list(FIRST)
    if unknown := set(names) - SETUPS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if chosen.inside:
        return inside(chosen.folder, names, as_json=chosen.json)
    with tempfile.TemporaryDirectory(prefix="exai-clients-") as temporary:
        folder = (chosen.folder or Path(temporary)).absolute()
        folder.mkdir(exist_ok=True)
        install(folder, names)
        again = [sys.executable, str(Path(__file__).resolve()), "--inside", "--folder", str(folder)]
        again += ["--json"] if chosen.json else []
        return in_namespace([*again, *names])


if __name__ == "__main__":
    sys.exit(main())
