"""The MCP hosts that are known: each starts `exai mcp` and talks to it over stdio."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from exai_actors.client.settings import DEFAULT_URL
from exai_actors.daemon.programs.address import BrokerAddress
from exai_actors.daemon.programs.edits import BlockEdit, Edit, JsonEdit


class McpHost(msgspec.Struct, frozen=True):
    """``edit`` has the change of its configuration, for a command and a home folder."""

    name: str
    title: str
    commands: tuple[str, ...]
    edit: Callable[[list[str], Path], Edit]


def bridge_command(address: BrokerAddress, token_file: str) -> list[str]:
    """The command of the bridge; absolute, since desktop programs have another PATH.

    It is the `exai` beside this Python: the first on PATH may be of another installation.
    """
    exai = Path(sys.executable).with_name("exai")
    command = [str(exai), "mcp"] if exai.exists() else [sys.executable, "-m", "exai_actors", "mcp"]
    if address.websocket != DEFAULT_URL:
        command += ["--url", address.websocket]
    return command + (["--token-file", str(Path(token_file).absolute())] if token_file else [])


def _server(command: list[str]) -> dict[str, Any]:
    return {"command": command[0], "args": command[1:]}


def _application_folder(home: Path) -> Path:
    if sys.platform == "darwin":
        return home / "Library" / "Application Support"
    return home / ".config"


def _claude(command: list[str], home: Path) -> Edit:
    members = {"mcpServers": {"exai": {"type": "stdio", **_server(command)}}}
    return JsonEdit(home / ".claude.json", members)


def _claude_desktop(command: list[str], home: Path) -> Edit:
    file = _application_folder(home) / "Claude" / "claude_desktop_config.json"
    return JsonEdit(file, {"mcpServers": {"exai": _server(command)}})


def _cursor(command: list[str], home: Path) -> Edit:
    return JsonEdit(home / ".cursor" / "mcp.json", {"mcpServers": {"exai": _server(command)}})


def _vscode(command: list[str], home: Path) -> Edit:
    file = _application_folder(home) / "Code" / "User" / "mcp.json"
    return JsonEdit(file, {"servers": {"exai": {"type": "stdio", **_server(command)}}})


def _codex(command: list[str], home: Path) -> Edit:
    lines = (
        "[mcp_servers.exai]\n"
        f"command = {json.dumps(command[0])}\n"
        f"args = {json.dumps(command[1:])}\n"
    )
    return BlockEdit(home / ".codex" / "config.toml", lines, ("[mcp_servers.exai]",), at_end=True)


def _opencode(command: list[str], home: Path) -> Edit:
    file = home / ".config" / "opencode" / "opencode.json"
    server = {"type": "local", "command": command, "enabled": True}
    return JsonEdit(file, {"mcp": {"exai": server}})


MCP_HOSTS: dict[str, McpHost] = {
    host.name: host
    for host in (
        McpHost("claude", "Claude Code", ("claude",), _claude),
        McpHost("claude-desktop", "Claude Desktop", ("claude-desktop",), _claude_desktop),
        McpHost("cursor", "Cursor", ("cursor", "cursor-agent"), _cursor),
        McpHost("vscode", "VS Code", ("code",), _vscode),
        McpHost("codex", "Codex", ("codex",), _codex),
        McpHost("opencode", "opencode", ("opencode",), _opencode),
    )
}
"""The hosts by name, in the order of `exai connect --mcp`."""
