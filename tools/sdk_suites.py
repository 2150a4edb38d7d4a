"""Run the SDKs' own tests through the broker: ``.venv/bin/python tools/sdk_suites.py``.

Fetches the sources of the SDKs of OpenAI and Anthropic for Python, in the versions that ``.venv``
has, into ``.real/sdk-suites``, with an environment of its own for their tests. They check each
answer strictly against the SDK's types. The packages of the SDKs for Node have no tests: name
checkouts of their repositories with ``--node DIRECTORY`` to run those, against the packages of the
checkouts' versions.

All run in a network namespace with nothing but loopback and with an empty home, first with a
service that answers everything as it should, then with the broker before it. Exits with 1 if a test
passes with the service alone and not through the broker. Needs Linux.
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
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import real_clients, real_parts  # noqa: E402
from tools.http_service import HttpExchange, HttpService  # noqa: E402

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
NODE_TOOLS = ("jest@30.5.2", "@swc/core@1.16.22", "@swc/jest@0.2.39")


class Suite(Protocol):
    """The tests of one SDK that concern what the broker serves."""

    @property
    def name(self) -> str:
        """The package and its version."""

    @property
    def base(self) -> str:
        """The end of its base URL."""

    def run(self, url: str, work: Path) -> tuple[dict[str, str], str]:
        """The outcome of each test, which is passed, failed or skipped, and the output."""


@dataclass(frozen=True)
class PythonSuite:
    """``chosen`` is an expression of pytest: the other tests need paths that the broker does not
    have, or send a request without a model, which the broker refuses.
    """

    package: str
    base: str
    files: tuple[str, ...]
    chosen: str
    plugins: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.package} {version(self.package)}"

    @property
    def source(self) -> Path:
        return FOLDER / f"{self.package}-{version(self.package)}"

    def run(self, url: str, work: Path) -> tuple[dict[str, str], str]:
        report = work / "report.xml"
        report.unlink(missing_ok=True)
        words = ("-q", "-o", "addopts=", "-k", self.chosen, f"--junit-xml={report}", "-n", "2")
        plugins = (f"-p{plugin}" for plugin in self.plugins)
        files = (f"tests/api_resources/{file}.py" for file in self.files)
        output = _output((PYTHON, "-m", "pytest", *words, *plugins, *files), self.source, url, work)
        if not report.exists():
            sys.exit(f"tools/sdk_suites.py: pytest failed:\n{output[-4000:]}")
        outcomes = {}
        for case in ET.parse(report).iter("testcase"):
            kinds = {child.tag for child in case}
            outcome = "failed" if kinds & {"failure", "error"} else "passed"
            outcomes[f"{case.get('classname')}.{case.get('name')}"] = (
                "skipped" if "skipped" in kinds else outcome
            )
        return outcomes, output


@dataclass(frozen=True)
class NodeSuite:
    """``chosen`` are the beginnings of names: the others as above."""

    package: str
    base: str
    files: tuple[str, ...]
    chosen: str
    checkout: Path

    @property
    def version(self) -> str:
        return str(json.loads((self.checkout / "package.json").read_text())["version"])

    @property
    def name(self) -> str:
        return f"{self.package} {self.version}"

    @property
    def place(self) -> Path:
        """The SDK as its users install it, the programs of its tests, and these."""
        return FOLDER / f"node-{self.package.replace('/', '-')}-{self.version}"

    def fetch(self) -> None:
        """Raises SystemExit if npm cannot install the packages."""
        shutil.rmtree(self.place, ignore_errors=True)
        for file in self.files:
            test = f"tests/api-resources/{file}.test.ts"
            (self.place / test).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.checkout / test, self.place / test)
        # Its own configuration maps the package's name to its sources.
        transform = {"^.+\\.ts$": ["@swc/jest", {"jsc": {"parser": {"syntax": "typescript"}}}]}
        config = {"testEnvironment": "node", "transform": transform}
        (self.place / "jest.config.json").write_text(json.dumps(config))
        words = ("install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", self.place)
        packages = (*NODE_TOOLS, f"{self.package}@{self.version}")
        if subprocess.run(
            (*real_parts.NODE_NPM, *words, *packages), env=_with_node(), check=False
        ).returncode:
            sys.exit("tools/sdk_suites.py: npm could not install the packages; see above")

    def run(self, url: str, work: Path) -> tuple[dict[str, str], str]:
        report = work / "report.json"
        report.unlink(missing_ok=True)
        jest = self.place / "node_modules" / "jest" / "bin" / "jest.js"
        words = (f"--testNamePattern={self.chosen}", "--json", f"--outputFile={report}")
        command = (real_parts.NODE_PROGRAM, jest, "--runInBand", "--no-watchman", *words)
        output = _output(command, self.place, url, work)
        if not report.exists():
            sys.exit(f"tools/sdk_suites.py: jest failed:\n{output[-4000:]}")
        outcomes: dict[str, str] = {}
        for file in json.loads(report.read_text())["testResults"]:
            for at, case in enumerate(file["assertionResults"]):
                # Some tests of a file have the same name.
                name = f"{Path(file['name']).relative_to(self.place)}: {case['fullName']} ({at})"
                if case["status"] != "pending":
                    outcomes[name] = case["status"]
        return outcomes, output


def _output(command: Sequence[str | Path], folder: Path, url: str, work: Path) -> str:
    return subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**_with_node(), "TEST_API_BASE_URL": url, "PYTHONPATH": "", "HOME": str(work)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    ).stdout


def _with_node() -> dict[str, str]:
    path = os.pathsep.join((str(real_parts.NODE_PROGRAM.parent), os.environ["PATH"]))
    return {**os.environ, "PATH": path}


PYTHON_SUITES = (
    PythonSuite(
        "openai",
        "/v1",
        ("chat/test_completions", "test_responses", "test_embeddings", "test_models"),
        "(create or Models and (list or retrieve)) and not (Responses and create_overload)",
    ),
    PythonSuite(
        "anthropic",
        "",
        ("test_messages", "test_models", "beta/test_messages", "beta/test_models"),
        "create or count_tokens or list or retrieve",
        plugins=("tests._alias_httpx",),
    ),
)


def node_suite(checkout: Path) -> NodeSuite:
    """Raises SystemExit for a folder that holds neither SDK."""
    about = checkout / "package.json"
    package = json.loads(about.read_text())["name"] if about.is_file() else "no package"
    match package:
        case "openai":
            return NodeSuite(
                package,
                "/v1",
                ("chat/completions/completions", "embeddings", "models"),
                "^resource (completions create|embeddings create|models (list|retrieve))",
                checkout,
            )
        case "@anthropic-ai/sdk":
            return NodeSuite(
                package,
                "",
                ("messages/messages", "models", "beta/messages/messages", "beta/models"),
                "",
                checkout,
            )
    sys.exit(f"tools/sdk_suites.py: --node {checkout}: neither SDK, but {package}")


class Service(HttpService):
    """Answers every API, and keeps the names of the models that it was asked for."""

    def __init__(self) -> None:
        self.models: set[str] = set()
        super().__init__()
        self.url = f"http://{self.address}/v1"

    def serve(self, exchange: HttpExchange, body: bytes) -> None:
        path = exchange.resource
        if not path.startswith("/v1/"):
            exchange.send_json({"error": {"message": "not found"}}, 404)
            return
        if exchange.command != "POST":
            *_, name = path.split("/")
            if name == "models":
                exchange.send_json(listed())
            else:
                self.models.add(name)
                exchange.send_json(model(name))
            return
        asked = json.loads(body)
        self.models.update(filter(None, [asked.get("model")]))
        if path.endswith("/count_tokens"):
            exchange.send_json({"input_tokens": 3, "context_management": None})
        elif path.endswith("/embeddings"):
            exchange.send_json(VECTORS)
        else:
            whole, events = real_clients.answer(path)
            if asked.get("stream"):
                exchange.send_stream(real_clients.encoded(events))
            else:
                exchange.send_json(whole)


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
    pins = [*TOOLS, *(f"{suite.package}=={version(suite.package)}" for suite in PYTHON_SUITES)]
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
    for suite in PYTHON_SUITES:
        with tarfile.open(f"{suite.source}.tar.gz") as archive:
            archive.extractall(FOLDER, filter="data")
    stamp.write_text("\n".join(pins))


def inside(suites: Sequence[Suite]) -> int:
    """In the namespace: run every suite twice and compare."""
    real_clients.loopback_up()
    service, code = Service(), 0
    with tempfile.TemporaryDirectory(prefix="exai-suites-") as place:
        work = Path(place)
        for suite in suites:
            direct, output = suite.run(service.url.removesuffix("/v1") + suite.base, work)
            if failed := [name for name, outcome in direct.items() if outcome == "failed"]:
                print(output[-6000:])
                print("\n".join(failed))
            toml = real_clients.configuration(service.url, token="", models=service.models, limit=4)
            with real_clients.broker(toml, work) as url:
                through, output = suite.run(url.replace("ws://", "http://") + suite.base, work)
            lost = [
                name
                for name, outcome in direct.items()
                if outcome == "passed" and through.get(name) != "passed"
            ]
            for title, outcomes in (("service alone", direct), ("through the broker", through)):
                counts = [list(outcomes.values()).count(each) for each in ("passed", "failed")]
                print(
                    f"{suite.name:<26} {title:<19} {counts[0]} passed, {counts[1]} failed, "
                    f"of {len(outcomes)}",
                    flush=True,
                )
            if lost:
                code = 1
                print(output[-8000:])
                print("passed only with the service alone:", *lost, sep="\n  ")
    return code


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--node",
        action="append",
        default=[],
        type=Path,
        metavar="DIRECTORY",
        help="a checkout of an SDK for Node (repeatable)",
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    node_suites = [node_suite(folder.absolute()) for folder in options.node]
    if options.inside:
        return inside((*PYTHON_SUITES, *node_suites))
    fetch()
    if node_suites and not real_parts.NODE.is_there() and not real_parts.NODE.fetch():
        return 1
    for suite in node_suites:
        suite.fetch()
    again = [sys.executable, str(Path(__file__).resolve()), "--inside"]
    again += [f"--node={suite.checkout}" for suite in node_suites]
    return real_clients.in_namespace(again)


if __name__ == "__main__":
    sys.exit(main())
