"""Run the SDKs' own tests through the broker: ``.venv/bin/python tools/sdk_suites.py``.

Fetches the sources of the SDKs of OpenAI and Anthropic for Python, in the versions that ``.venv``
has, into ``.real/sdk-suites``, with an environment of its own for their tests. They check each
answer strictly against the SDK's types. They run in a network namespace with nothing but loopback,
first with a service that answers everything as it should, then with the broker before it. Exits
with 1 if a test passes with the service alone and not through the broker. Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import real_clients, real_parts  # noqa: E402

FOLDER = real_parts.REAL / "sdk-suites"
PYTHON = FOLDER / "venv" / "bin" / "python"
TOOLS = (
    "dirty-equals==0.11",
    "http-snapshot[httpx]==0.1.9",
    "httpx-aiohttp==0.2.0",
    "inline-snapshot==0.33.0",
    "pytest==9.1.0",
    "pytest-asyncio==1.4.0",
    "pytest-xdist==3.8.0",
    "respx==0.23.1",
    "rich==14.3.1",
    "time-machine==3.2.0",
)


@dataclass(frozen=True)
class Suite:
    """The tests of one SDK that concern what the broker serves."""

    package: str
    base: str
    """The end of its base URL."""
    files: tuple[str, ...]
    chosen: str
    """An expression of pytest: the other tests need paths that the broker does not have, or send
    a request without a model, which the broker refuses.
    """

    @property
    def source(self) -> Path:
        return FOLDER / f"{self.package}-{version(self.package)}"


SUITES = (
    Suite(
        "openai",
        "/v1",
        ("chat/test_completions", "test_responses", "test_embeddings", "test_models"),
        "(create or Models and (list or retrieve)) and not (Responses and create_overload)",
    ),
    Suite(
        "anthropic",
        "",
        ("test_messages", "test_models", "beta/test_messages", "beta/test_models"),
        "create or count_tokens or list or retrieve",
    ),
)


class Service:
    """Answers every API, and keeps the names of the models that it was asked for."""

    def __init__(self) -> None:
        self.models: set[str] = set()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                *_, name = self.path.partition("?")[0].split("/")
                self._send(listed() if name == "models" else self._model(name))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                path = self.path.partition("?")[0]
                service.models.update(filter(None, [body.get("model")]))
                if path.endswith("/count_tokens"):
                    self._send({"input_tokens": 3, "context_management": None})
                elif path.endswith("/embeddings"):
                    self._send(VECTORS)
                else:
                    whole, events = real_clients.answer(path)
                    if body.get("stream"):
                        self._send_events(events)
                    else:
                        self._send(whole)

            def _model(self, name: str) -> dict[str, Any]:
                service.models.add(name)
                return model(name)

            def _send(self, value: dict[str, Any]) -> None:
                data = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def _send_events(self, events: list[dict[str, Any]]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(real_clients.encoded(events))
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


VECTORS = {
    "object": "list",
    "model": "m",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 1.5]}],
    "usage": {"prompt_tokens": 2, "total_tokens": 2},
}


def model(name: str) -> dict[str, Any]:
    """One model, in the forms of both SDKs."""
    words = {"id": name, "object": "model", "type": "model", "display_name": name}
    words |= {"lifecycle": "active"}
    return {**words, "created": 1, "created_at": "2026-01-01T00:00:00Z", "owned_by": "x"}


def listed() -> dict[str, Any]:
    more = {"has_more": False, "first_id": "m", "last_id": "m"}
    return {"object": "list", "data": [model("m")], **more}


def fetch() -> None:
    """Fetch the sources and make the environment, unless they are there."""
    pins = [*TOOLS, *(f"{suite.package}=={version(suite.package)}" for suite in SUITES)]
    stamp = FOLDER / "fetched"
    if stamp.is_file() and stamp.read_text() == "\n".join(pins):
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    subprocess.run((sys.executable, "-m", "venv", FOLDER / "venv"), check=True)
    pip = (PYTHON, "-m", "pip", "--disable-pip-version-check", "-q")
    subprocess.run((*pip, "install", *pins), check=True)
    source = ("download", "--no-deps", "--no-binary=:all:", "-d", FOLDER)
    subprocess.run((*pip, *source, *pins[len(TOOLS) :]), check=True)
    for suite in SUITES:
        with tarfile.open(f"{suite.source}.tar.gz") as archive:
            archive.extractall(FOLDER, filter="data")
    stamp.write_text("\n".join(pins))


def run(suite: Suite, url: str, work: Path) -> dict[str, str]:
    """The outcome of each test: passed, failed or skipped."""
    report = work / "report.xml"
    report.unlink(missing_ok=True)
    words = ("-q", "-o", "addopts=", "-k", suite.chosen, f"--junit-xml={report}", "-n", "2")
    more = ("-p", "tests._alias_httpx") if suite.package == "anthropic" else ()
    done = subprocess.run(
        (
            PYTHON,
            "-m",
            "pytest",
            *words,
            *more,
            *(f"tests/api_resources/{f}.py" for f in suite.files),
        ),
        cwd=suite.source,
        env={**os.environ, "TEST_API_BASE_URL": url + suite.base, "PYTHONPATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if not report.exists():
        sys.exit(f"tools/sdk_suites.py: pytest failed:\n{done.stdout[-4000:]}")
    outcomes = {}
    for case in ET.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "passed"
        outcomes[f"{case.get('classname')}.{case.get('name')}"] = (
            "skipped" if "skipped" in kinds else outcome
        )
    (work / f"{suite.package}.log").write_text(done.stdout)
    return outcomes


def inside() -> int:
    """In the namespace: run every suite twice and compare."""
    real_clients.loopback_up()
    service, code = Service(), 0
    with tempfile.TemporaryDirectory(prefix="exai-suites-") as place:
        work = Path(place)
        for suite in SUITES:
            direct = run(suite, service.url.removesuffix("/v1"), work)
            if failed := [name for name, outcome in direct.items() if outcome == "failed"]:
                print((work / f"{suite.package}.log").read_text()[-6000:])
                print("\n".join(failed))
            toml = real_clients.configuration(service.url, token="", models=service.models, limit=4)
            with real_clients.broker(toml, work) as url:
                through = run(suite, url.replace("ws://", "http://"), work)
            lost = [
                name
                for name, outcome in direct.items()
                if outcome == "passed" and through.get(name) != "passed"
            ]
            for title, outcomes in (("service alone", direct), ("through the broker", through)):
                counts = [list(outcomes.values()).count(each) for each in ("passed", "failed")]
                name = f"{suite.package} {version(suite.package)}"
                print(f"{name:<18} {title:<19} {counts[0]} passed, {counts[1]} failed", flush=True)
            if lost:
                code = 1
                print((work / f"{suite.package}.log").read_text()[-8000:])
                print("passed only with the service alone:", *lost, sep="\n  ")
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    if parser.parse_args().inside:
        return inside()
    fetch()
    return real_clients.in_namespace([sys.executable, str(Path(__file__).resolve()), "--inside"])


if __name__ == "__main__":
    sys.exit(main())
