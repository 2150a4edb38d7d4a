"""Starts the bridge as an MCP host would, and asks it for the broker's models."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Mapping
from typing import Any

import msgspec

TIMEOUT_S = 20.0
_VERSION = "2025-11-25"
_QUESTIONS: tuple[dict[str, Any], ...] = (
    {
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": _VERSION,
            "capabilities": {},
            "clientInfo": {"name": "exai connect --check", "version": "1"},
        },
    },
    {"method": "notifications/initialized"},
    {"id": 2, "method": "tools/list"},
    {"id": 3, "method": "tools/call", "params": {"name": "list_models", "arguments": {}}},
)
_LAST = 3


class BridgeChecked(msgspec.Struct, frozen=True):
    """``error`` is empty if the bridge works."""

    tools: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    error: str = ""


def check_bridge(command: list[str], env: Mapping[str, str]) -> BridgeChecked:
    """Ask for tools and models; the bridge has ended when this returns."""
    try:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
    except OSError as error:
        return BridgeChecked(error=f"{command[0]} cannot be started: {error.strerror}")
    # Its standard input stays open until the answers are there, as a host's does.
    with process, _Ended(process):
        assert process.stdin is not None
        assert process.stdout is not None
        lines = [json.dumps({"jsonrpc": "2.0", **each}) for each in _QUESTIONS]
        # If it has ended, its last words say why.
        with contextlib.suppress(OSError):
            process.stdin.write(("\n".join(lines) + "\n").encode())
        answers = _answers(process.stdout)
        process.kill()
        process.stdin.close()
        assert process.stderr is not None
        said = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
    return _result(answers, said[-1] if said else f"no answer within {TIMEOUT_S:g} s")


class _Ended:
    """Kills the process when its time is over."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._timer = threading.Timer(TIMEOUT_S, process.kill)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def _answers(lines: Any) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for line in lines:
        try:
            answer = json.loads(line)
        except ValueError:
            # Not of the protocol: its standard error probably says why.
            continue
        if isinstance(answer, dict) and "id" in answer:
            found[answer["id"]] = answer
        if _LAST in found:
            break
    return found


def _result(answers: dict[int, dict[str, Any]], said: str) -> BridgeChecked:
    try:
        tools = tuple(each["name"] for each in answers[2]["result"]["tools"])
        result = answers[_LAST]["result"]
        text = result["content"][0]["text"]
        if result.get("isError"):
            return BridgeChecked(tools, error=text)
        models = tuple(each["model"] for each in json.loads(text)["models"])
    except (KeyError, ValueError, IndexError, TypeError):
        error = answers.get(_LAST, {}).get("error", {})
        return BridgeChecked(error=str(error.get("message") or said))
    return BridgeChecked(tools, models)
