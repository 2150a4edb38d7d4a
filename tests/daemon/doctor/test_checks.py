"""The checks of `exai doctor`: how each thing is, and the command that repairs it."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from exai_actors.daemon.config.tables import Config
from exai_actors.daemon.doctor import checks
from exai_actors.daemon.doctor.checks import Finding
from exai_actors.daemon.doctor.clock import is_synchronised
from exai_actors.daemon.doctor.port_owner import port_owner
from exai_actors.daemon.interpreter import Interpreter, interpreter
from tests.daemon.configs import config_of, reading
from tests.daemon.programs.scripted_broker import ScriptedBroker

KIMI = '[[provider]]\npreset = "kimi-tier-1"\n'


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    return finding


@pytest.mark.parametrize(
    ("build", "optimised"),
    [
        ({"CONFIG_ARGS": "'--prefix=/usr' '--enable-optimizations' '--with-lto'"}, True),
        ({"CONFIG_ARGS": "'--prefix=/usr'", "PY_CFLAGS_NODIST": "-O3 -fprofile-use"}, True),
        ({"CONFIG_ARGS": "'--prefix=/usr'", "PY_CORE_CFLAGS": "-O3"}, False),
        ({"CONFIG_ARGS": ""}, None),
        ({}, None),
    ],
)
def test_an_optimised_build_is_recognised(build: dict[str, Any], optimised: bool | None) -> None:
    assert interpreter(build).optimised == optimised


@pytest.mark.parametrize(
    ("optimised", "verdict", "text"),
    [
        (True, "ok", "CPython 3.11.7, optimised"),
        (None, "ok", "CPython 3.11.7"),
        (False, "warning", "built without optimisation"),
    ],
)
def test_python(
    optimised: bool | None, verdict: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Interpreter("CPython", "3.11.7", optimised)
    monkeypatch.setattr(checks, "interpreter", lambda: found)
    python, loop = checks.python()
    assert (python.verdict, bool(python.repair)) == (verdict, verdict != "ok")
    assert text in python.text
    assert loop.check == "loop"


def test_a_missing_uvloop_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(checks, "version_of", missing)
    _, loop = checks.python()
    assert (loop.verdict, loop.repair) == ("warning", "pip install uvloop")


def test_no_configuration_is_well() -> None:
    found = reading(None)
    assert "the built-in provider answers" in only(checks.configuration(found)).text
    assert only(checks.keys(found)).text == "none needed"


def test_each_problem_of_a_configuration_is_a_failure() -> None:
    found = reading("[server]\nprot = 1\nhost = 3\n")
    problems = list(checks.configuration(found))
    assert [each.verdict for each in problems] == ["failed", "failed"]
    assert 'did you mean "port"?' in problems[0].text
    assert problems[0].repair == "exai config check"
    assert list(checks.keys(found)) == []


def test_a_warning_of_a_configuration_stays_one() -> None:
    text = '[[provider]]\nkind = "openai"\nname = "a"\nbase_url = "http://a.example/v1"\n'
    warning, valid = checks.configuration(reading(f'{text}api_key_env = "A"\n', {"A": "key"}))
    assert (warning.verdict, valid.verdict) == ("warning", "ok")
    assert "unencrypted" in warning.text
    assert "exai.toml is valid; providers: a" in valid.text


def test_a_missing_key_says_how_to_set_it() -> None:
    missing = only(checks.keys(reading(KIMI)))
    assert (missing.verdict, missing.repair) == ("failed", "export KIMI_API_KEY=...")
    assert "KIMI_API_KEY" in missing.text
    assert only(checks.keys(reading(KIMI, {"KIMI_API_KEY": "k"}))).text == "1 found"


def listening_on(number: int, host: str = "127.0.0.1") -> Config:
    config = config_of()
    server = msgspec.structs.replace(config.server, port=number, host=host)
    return msgspec.structs.replace(config, server=server)


def test_a_free_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
    found = only(checks.port(listening_on(number)))
    assert (found.verdict, found.text.partition(";")[0]) == ("ok", f"127.0.0.1:{number} is free")
    assert "a free one is chosen" in only(checks.port(listening_on(0))).text


def test_a_port_of_another_program_is_a_failure() -> None:
    with ScriptedBroker() as other:
        number = int(other.url.rpartition(":")[2])
        found = only(checks.port(listening_on(number)))
    assert (found.verdict, found.repair) == ("failed", f"exai serve --port {number + 1}")
    assert found.text.startswith(f"127.0.0.1:{number} is used")


@pytest.mark.parametrize(
    ("body", "verdict", "text"),
    [
        (b'{"ready": true, "reasons": []}', "ok", "is served by a broker, exai (process 7)"),
        (
            b'{"ready": false, "reasons": ["no provider"]}',
            "warning",
            ", exai (process 7) is not ready: no provider",
        ),
    ],
)
def test_a_port_of_a_broker_is_well(
    body: bytes, verdict: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "port_owner", lambda _: "exai (process 7)")
    with ScriptedBroker() as broker:
        broker.bodies["/readyz"] = (200, body)
        found = only(checks.port(listening_on(int(broker.url.rpartition(":")[2]))))
    assert found.verdict == verdict
    assert text in found.text
    # A broker that drains takes no client, but consoles.
    assert found.repair == ("" if verdict == "ok" else "exai top --once")


def test_an_address_of_another_machine_is_a_failure() -> None:
    found = only(checks.port(listening_on(8079, "192.0.2.1")))
    assert (found.verdict, found.repair) == ("failed", "exai serve --host 127.0.0.1")


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F8F 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7001
   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7002
   2: 0100007F:1F8F 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 7003
"""


def test_the_process_on_a_port_is_named(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(TCP)
    for process, name, inode in (("40", "other", 7002), ("41", "nginx", 7001)):
        (tmp_path / process / "fd").mkdir(parents=True)
        (tmp_path / process / "comm").write_text(f"{name}\n")
        (tmp_path / process / "fd" / "3").symlink_to(f"socket:[{inode}]")
    (tmp_path / "42").mkdir()
    assert port_owner(0x1F8F, tmp_path) == "nginx (process 41)"
    assert port_owner(0x1F91, tmp_path) == ""
    assert port_owner(0x1F8F, tmp_path / "missing") == ""


@pytest.mark.parametrize(
    ("state", "synchronised", "verdict"),
    [(0, True, "ok"), (5, False, "warning"), (-1, None, "ok")],
)
def test_the_clock(
    state: int, synchronised: bool | None, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Library:
        def adjtimex(self, _: object) -> int:
            return state

    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library())
    assert is_synchronised() == synchronised
    assert only(checks.clock()).verdict == verdict


def test_the_clock_of_another_system_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert is_synchronised() is None


class Usage(NamedTuple):
    free: int


@pytest.mark.parametrize(
    ("free", "writable", "verdict", "repair"),
    [
        (10**12, True, "ok", ""),
        (10**6, True, "warning", "df -h {folder}"),
        (10**12, False, "failed", "ls -ld {folder}"),
    ],
)
def test_the_disk_of_each_file_that_is_written(
    free: int,
    writable: bool,
    verdict: str,
    repair: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free))
    monkeypatch.setattr(os, "access", lambda *_: writable)
    audit = f'[audit]\nfile = "{tmp_path}/audit.log"\n'
    found = only(checks.disk(config_of(f'{audit}[server]\nrecordings = ""\n')))
    assert (found.verdict, found.repair) == (verdict, repair.format(folder=tmp_path))
    assert found.text.startswith("[audit] file")
    assert only(checks.disk(None)).text.startswith("nothing is written")


def test_a_missing_folder_is_a_warning(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    found = only(checks.disk(config_of(f'[server]\nrecordings = "{folder}"\n')))
    assert (found.verdict, found.repair) == ("warning", f"mkdir -p {folder}")


@pytest.mark.parametrize(
    ("limited", "verdict"),
    [(None, "ok"), ("This process may open 9 files. Raise the limit now.", "warning")],
)
def test_open_files(limited: str | None, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "raise_fd_limit", lambda *_: limited)
    found = only(checks.open_files(config_of()))
    assert found.verdict == verdict
    assert found.repair == ("ulimit -n 1256" if limited else "")


def test_the_programs_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "none of claude, codex" in only(checks.programs()).text
    for name in ("codex", "cn"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    assert only(checks.programs()).text.startswith("codex, continue (`exai run codex`")
