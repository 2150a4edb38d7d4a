"""The client programs that are known: how each gets the broker's address, its token and a model.

``start`` is for one run and changes no file of the user; ``lasting`` is the same in the program's
own configuration. A token is never written there: the file names the variable or the file with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import Any

import msgspec

from exai_actors.core.families import Family
from exai_actors.daemon.programs.address import BrokerAddress
from exai_actors.daemon.programs.edits import BlockEdit, Edit, JsonEdit

NO_TOKEN = "no-token"  # noqa: S105
"""In place of a token for a broker that needs none: most programs insist on one."""
VARIABLE = "EXAI_TOKEN"


class Token(msgspec.Struct, frozen=True):
    """The access token, and the file it is from; without a file it is from the variable."""

    value: str = ""
    file: str = ""

    @property
    def shown(self) -> str:
        """The token, or a word that stands for none."""
        return self.value or NO_TOKEN

    @property
    def command(self) -> str:
        """A shell command that prints it, if there is one."""
        return f"cat {quote(self.file)}" if self.file else f"printenv {VARIABLE}"

    @property
    def word(self) -> str:
        """A word of a shell command that stands for it."""
        return f'"$({self.command})"' if self.value else NO_TOKEN

    @property
    def braced(self) -> str:
        """A reference as opencode reads it."""
        if not self.value:
            return NO_TOKEN
        return f"{{file:{self.file}}}" if self.file else f"{{env:{VARIABLE}}}"

    def __repr__(self) -> str:
        return f"Token(file={self.file!r})"


class Target(msgspec.Struct, frozen=True):
    """The broker and the models that a program is to use; ``small`` is for its titles and hints."""

    address: BrokerAddress
    token: Token
    model: str
    small: str


class Start(msgspec.Struct, frozen=True):
    """How a program is started: ``arguments`` precede those of the user.

    ``files`` are written into a temporary folder; its path replaces ``{folder}`` in the values of
    ``environment`` and in ``arguments``.
    """

    environment: dict[str, str] = {}
    arguments: tuple[str, ...] = ()
    files: dict[str, str] = {}


class Lasting(msgspec.Struct, frozen=True):
    """A change of the program's configuration, and the steps that are left to its user.

    Without an ``edit`` the program keeps its configuration in a form that only it changes.
    """

    edit: Edit | None
    steps: tuple[str, ...] = ()


class Program(msgspec.Struct, frozen=True):
    """A client program; the first of ``commands`` on PATH is it."""

    name: str
    title: str
    commands: tuple[str, ...]
    install: str
    family: Family
    start: Callable[[Target], Start]
    lasting: Callable[[Target, Path], Lasting]


def _claude_environment(target: Target) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": target.address.root,
        "ANTHROPIC_MODEL": target.model,
        "ANTHROPIC_DEFAULT_OPUS_MODEL": target.model,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": target.model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": target.small,
        "CLAUDE_CODE_SUBAGENT_MODEL": target.model,
        # A request may wait in the queue for longer than the program would by itself.
        "API_TIMEOUT_MS": "3000000",
    }


def _start_claude(target: Target) -> Start:
    token = {"ANTHROPIC_AUTH_TOKEN": target.token.shown, "ANTHROPIC_API_KEY": ""}
    return Start(_claude_environment(target) | token)


def _lasting_claude(target: Target, home: Path) -> Lasting:
    members: dict[str, Any] = {"env": _claude_environment(target)}
    if target.token.value:
        members["apiKeyHelper"] = target.token.command
    else:
        members["env"]["ANTHROPIC_AUTH_TOKEN"] = NO_TOKEN
    return Lasting(JsonEdit(home / ".claude" / "settings.json", members))


def _codex_provider(target: Target) -> dict[str, str]:
    provider = {"name": "exai", "base_url": target.address.v1, "wire_api": "responses"}
    return provider | ({"env_key": VARIABLE} if target.token.value else {})


def _start_codex(target: Target) -> Start:
    keys = {"model": target.model, "model_provider": "exai"}
    keys |= {f"model_providers.exai.{key}": each for key, each in _codex_provider(target).items()}
    arguments = [word for key, each in keys.items() for word in ("-c", f"{key}={json.dumps(each)}")]
    token = {VARIABLE: target.token.value} if target.token.value else {}
    return Start(token, tuple(arguments))


def _lasting_codex(target: Target, home: Path) -> Lasting:
    provider = ", ".join(
        f"{key} = {json.dumps(each)}" for key, each in _codex_provider(target).items()
    )
    lines = (
        f"model = {json.dumps(target.model)}\n"
        'model_provider = "exai"\n'
        f"model_providers.exai = {{ {provider} }}\n"
    )
    edit = BlockEdit(home / ".codex" / "config.toml", lines, ("model ", "model=", "model_provider"))
    return Lasting(edit, _export(target))


def _export(target: Target) -> tuple[str, ...]:
    """The step that puts a token from a file into the variable."""
    return (f'export {VARIABLE}="$({target.token.command})"',) if target.token.file else ()


def _opencode_members(target: Target, token: str) -> dict[str, Any]:
    models: dict[str, Any] = {each: {} for each in (target.model, target.small)}
    return {
        "provider": {
            "exai": {
                "npm": "@ai-sdk/openai-compatible",
                "name": "exai",
                "options": {"baseURL": target.address.v1, "apiKey": token},
                "models": models,
            }
        },
        "model": f"exai/{target.model}",
        "small_model": f"exai/{target.small}",
    }


def _start_opencode(target: Target) -> Start:
    content = json.dumps(_opencode_members(target, target.token.shown))
    return Start({"OPENCODE_CONFIG_CONTENT": content})


def _lasting_opencode(target: Target, home: Path) -> Lasting:
    file = home / ".config" / "opencode" / "opencode.json"
    return Lasting(JsonEdit(file, _opencode_members(target, target.token.braced)))


def _start_kilo(target: Target) -> Start:
    content = json.dumps(_opencode_members(target, target.token.shown))
    return Start({"KILO_CONFIG_CONTENT": content})


def _lasting_kilo(target: Target, home: Path) -> Lasting:
    file = home / ".config" / "kilo" / "kilo.json"
    return Lasting(JsonEdit(file, _opencode_members(target, target.token.braced)))


def _start_cline(target: Target) -> Start:
    settings = {
        "provider": "openai-compatible",
        "apiKey": target.token.shown,
        "model": target.model,
        "baseUrl": target.address.v1,
    }
    store = {
        "version": 1,
        "lastUsedProvider": "openai-compatible",
        "modes": {},
        "providers": {
            "openai-compatible": {
                "settings": settings,
                "updatedAt": "2026-01-01T00:00:00.000Z",
                "tokenSource": "manual",
            }
        },
    }
    return Start(
        {"CLINE_PROVIDER_SETTINGS_PATH": "{folder}/providers.json"},
        files={"providers.json": json.dumps(store)},
    )


def _lasting_cline(target: Target, home: Path) -> Lasting:  # noqa: ARG001 - as the others
    words = ["cline auth openai-compatible", f"-k {target.token.word}"]
    words += [f"-m {quote(target.model)}", f"--baseurl {quote(target.address.v1)}"]
    return Lasting(None, (" ".join(words),))


def _continue_models(target: Target, token: str) -> str:
    return (
        "name: exai\nversion: 0.0.1\nschema: v1\nmodels:\n"
        f"  - name: {json.dumps(target.model)}\n"
        "    provider: openai\n"
        f"    model: {json.dumps(target.model)}\n"
        f"    apiBase: {target.address.v1}\n"
        f"    apiKey: {token}\n"
    )


_CONTINUE_SECRET = f"${{{{ secrets.{VARIABLE} }}}}"


def _start_continue(target: Target) -> Start:
    return Start(
        {VARIABLE: target.token.shown},
        ("--config", "{folder}/exai.yaml"),
        {"exai.yaml": _continue_models(target, _CONTINUE_SECRET)},
    )


def _lasting_continue(target: Target, home: Path) -> Lasting:
    file = home / ".continue" / "exai.yaml"
    token = _CONTINUE_SECRET if target.token.value else NO_TOKEN
    edit = BlockEdit(file, _continue_models(target, token), ("models:", "name:"))
    return Lasting(edit, (*_export(target), f"cn --config {quote(str(file))}"))


def _start_qwen(target: Target) -> Start:
    environment = {
        "OPENAI_API_KEY": target.token.shown,
        "OPENAI_BASE_URL": target.address.v1,
        "OPENAI_MODEL": target.model,
    }
    return Start(environment, ("--auth-type", "openai"))


def _lasting_qwen(target: Target, home: Path) -> Lasting:
    auth = {
        "selectedType": "openai",
        "apiKey": f"${VARIABLE}" if target.token.value else NO_TOKEN,
        "baseUrl": target.address.v1,
    }
    members = {"security": {"auth": auth}, "model": {"name": target.model}}
    return Lasting(JsonEdit(home / ".qwen" / "settings.json", members), _export(target))


def _start_pi(target: Target) -> Start:
    models = [
        {
            "id": target.model,
            "name": target.model,
            "reasoning": False,
            "input": ["text"],
            "cost": dict.fromkeys(("input", "output", "cacheRead", "cacheWrite"), 0),
            "contextWindow": 128_000,
            "maxTokens": 16_384,
        }
    ]
    provider = {
        "baseUrl": target.address.v1,
        "api": "openai-completions",
        # Old versions take the name of a variable here, and new ones a literal: both run this.
        "apiKey": f"!printenv {VARIABLE}",
        "models": models,
    }
    extension = (
        f"export default function (pi) {{ pi.registerProvider('exai', {json.dumps(provider)}); }}\n"
    )
    return Start(
        {VARIABLE: target.token.shown},
        ("-e", "{folder}/exai.ts", "--provider", "exai", "--model", target.model),
        {"exai.ts": extension},
    )


def _lasting_pi(target: Target, home: Path) -> Lasting:
    provider = {
        "baseUrl": target.address.v1,
        "api": "openai-completions",
        "apiKey": f"!{target.token.command}" if target.token.value else NO_TOKEN,
        "models": [{"id": target.model}],
    }
    edit = JsonEdit(home / ".pi" / "agent" / "models.json", {"providers": {"exai": provider}})
    return Lasting(edit, (f"pi --provider exai --model {quote(target.model)}",))


def _start_aider(target: Target) -> Start:
    return Start(
        {
            "OPENAI_API_BASE": target.address.v1,
            "OPENAI_API_KEY": target.token.shown,
            "AIDER_MODEL": f"openai/{target.model}",
            "AIDER_WEAK_MODEL": f"openai/{target.small}",
        }
    )


def _lasting_aider(target: Target, home: Path) -> Lasting:
    lines = (
        f"model: {json.dumps(f'openai/{target.model}')}\n"
        f"weak-model: {json.dumps(f'openai/{target.small}')}\n"
        f"openai-api-base: {target.address.v1}\n"
    )
    taken = ("model:", "weak-model:", "openai-api-base:")
    edit = BlockEdit(home / ".aider.conf.yml", lines, taken, at_end=True)
    return Lasting(edit, (f"export OPENAI_API_KEY={target.token.word}",))


def _llm_models(target: Target) -> str:
    return (
        f"- model_id: {json.dumps(target.model)}\n"
        f"  model_name: {json.dumps(target.model)}\n"
        f"  api_base: {target.address.v1}\n"
        "  api_key_name: exai\n"
    )


def _start_llm(target: Target) -> Start:
    return Start(
        {"LLM_USER_PATH": "{folder}", "LLM_MODEL": target.model},
        files={
            "extra-openai-models.yaml": _llm_models(target),
            "keys.json": json.dumps({"exai": target.token.shown}),
        },
    )


def _lasting_llm(target: Target, home: Path) -> Lasting:
    file = home / ".config" / "io.datasette.llm" / "extra-openai-models.yaml"
    edit = BlockEdit(file, _llm_models(target), (f"- model_id: {target.model}",), at_end=True)
    key = f"llm keys set exai --value {target.token.word}"
    return Lasting(edit, (key, f"llm -m {quote(target.model)}"))


PROGRAMS: dict[str, Program] = {
    program.name: program
    for program in (
        Program(
            "claude",
            "Claude Code",
            ("claude",),
            "npm install -g @anthropic-ai/claude-code",
            "messages",
            _start_claude,
            _lasting_claude,
        ),
        Program(
            "codex",
            "Codex",
            ("codex",),
            "npm install -g @openai/codex",
            "responses",
            _start_codex,
            _lasting_codex,
        ),
        Program(
            "opencode",
            "opencode",
            ("opencode",),
            "npm install -g opencode-ai",
            "chat",
            _start_opencode,
            _lasting_opencode,
        ),
        Program(
            "kilo",
            "Kilo Code",
            ("kilo", "kilocode"),
            "npm install -g @kilocode/cli",
            "chat",
            _start_kilo,
            _lasting_kilo,
        ),
        Program(
            "cline",
            "Cline",
            ("cline",),
            "npm install -g cline",
            "chat",
            _start_cline,
            _lasting_cline,
        ),
        Program(
            "continue",
            "Continue",
            ("cn",),
            "npm install -g @continuedev/cli",
            "chat",
            _start_continue,
            _lasting_continue,
        ),
        Program(
            "qwen",
            "Qwen Code",
            ("qwen",),
            "npm install -g @qwen-code/qwen-code",
            "chat",
            _start_qwen,
            _lasting_qwen,
        ),
        Program(
            "pi",
            "pi",
            ("pi",),
            "npm install -g @earendil-works/pi-coding-agent",
            "chat",
            _start_pi,
            _lasting_pi,
        ),
        Program(
            "aider",
            "Aider",
            ("aider",),
            "pip install aider-chat",
            "chat",
            _start_aider,
            _lasting_aider,
        ),
        Program("llm", "llm", ("llm",), "pip install llm", "chat", _start_llm, _lasting_llm),
    )
}
"""The programs by name, in the order of `exai connect`."""
