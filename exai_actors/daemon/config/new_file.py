"""The file that `exai config init` writes: short and ready to run, or with every key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import msgspec

from exai_actors.daemon.config.presets import PRESETS
from exai_actors.daemon.config.provider_tables import PROVIDER_KINDS, ProviderConfig
from exai_actors.daemon.config.render import FIRST_TABLES, LAST_TABLES, default_of, descriptions
from exai_actors.daemon.config.render import literal as literal_of
from exai_actors.daemon.config.tables import AccessConfig, RouteConfig
from exai_actors.daemon.config.wording import suggestion
from exai_actors.errors import UsageError

_WIDTH = 90

_NO_SERVICE = """\
# The built-in provider invents its answers and needs no key. To use a service instead:
#   exai config init --force --preset NAME      (exai providers --presets lists the names)
"""

_FOOT = """\
# Every key with its default and meaning: exai config init --all
"""

_OPENING_OF_ALL = """\
# The keys that are commented out show their defaults.
"""

_ACCESS_EXAMPLE = """\
# An additional token, whose tenant has a weight of its own. Copy this block for each token.
#[[access]]
#name = "batch"
#token_env = "EXAI_BATCH_TOKEN"
"""

_ROUTE_EXAMPLE = """\
# A model name of your own for several models, tried in order.
#[[route]]
#model = "fast"
#to = ["{provider}/{model}", "synthetic"]
"""
_EXAMPLE_MODELS = {"kimi": "kimi-k2.6", "glm": "glm-4.7"}


def new_file(presets: Sequence[str] = (), *, all_keys: bool = False) -> str:
    """The text of a valid file with a provider for each preset, or the built-in one.

    ``all_keys`` adds every other key with its default, commented out, in the order of need. Raises
    UsageError for an unknown preset, and for two of one provider.
    """
    _check(presets)
    blocks = [_from_preset(name, all_keys) for name in presets] or [_built_in(all_keys)]
    if not all_keys:
        return "\n".join([*blocks, _FOOT])
    given = {PRESETS[name].values["kind"] for name in presets} or {"synthetic"}
    return "\n".join(
        [
            _OPENING_OF_ALL,
            *blocks,
            *(_example(kind) for name, kind in PROVIDER_KINDS.items() if name not in given),
            _route_example(presets) + _keys(RouteConfig, set()),
            _ACCESS_EXAMPLE + _keys(AccessConfig, {"token_env"}),
            *(f"[{name}]\n{_keys(table, set())}" for name, table in _PLAIN_TABLES),
        ]
    )


_PLAIN_TABLES = (
    *((name, LAST_TABLES[name]) for name in ("chat",)),
    *FIRST_TABLES.items(),
    *((name, table) for name, table in LAST_TABLES.items() if name != "chat"),
)


def key_variables(presets: Sequence[str]) -> list[str]:
    """The environment variables with the keys of these presets, each once."""
    names = [PRESETS[name].values.get("api_key_env", "") for name in presets]
    return list(dict.fromkeys(filter(None, names)))


def _check(presets: Sequence[str]) -> None:
    taken: dict[str, str] = {}
    for name in presets:
        if name not in PRESETS:
            raise UsageError(f'there is no preset "{name}"{suggestion(name, PRESETS)}')
        provider = PRESETS[name].values["name"]
        if provider in taken:
            raise UsageError(
                f'the presets "{taken[provider]}" and "{name}" both name their provider '
                f'"{provider}"; write one, and copy its block under another name'
            )
        taken[provider] = name


def _from_preset(name: str, all_keys: bool) -> str:
    preset = PRESETS[name]
    comment = f"{preset.about}. Limits as of {preset.source}."
    if preset.values.get("adaptive"):
        comment = (
            f"{preset.about}; see {preset.source}. The limit is only a start, and lowered when the "
            "service reports overload: write your account's."
        )
    return _live(comment, preset.values, all_keys)


def _built_in(all_keys: bool) -> str:
    given = {"kind": "synthetic", **PROVIDER_KINDS["synthetic"].example}
    return _NO_SERVICE + _block(given, all_keys)


def _live(comment: str, given: Mapping[str, Any], all_keys: bool) -> str:
    return f"{_comment(comment)}\n{_block(given, all_keys)}"


def _block(given: Mapping[str, Any], all_keys: bool) -> str:
    lines = [f"{key} = {literal_of(value)}" for key, value in given.items()]
    more = _keys(PROVIDER_KINDS[given["kind"]], set(given)) if all_keys else ""
    return "\n".join(["[[provider]]", *lines, more])


def _example(struct: type[ProviderConfig]) -> str:
    given = {"kind": struct.kind} | struct.example
    block = "\n".join(f"#{key} = {literal_of(value)}" for key, value in given.items())
    title = (struct.__doc__ or "").partition("\n")[0]
    return (
        f"# {title} Copy the block for each one.\n"
        f"#[[provider]]\n{block}\n{_keys(struct, set(given))}"
    )


def _route_example(presets: Sequence[str]) -> str:
    provider = PRESETS[presets[0]].values["name"] if presets else "kimi"
    return _ROUTE_EXAMPLE.format(provider=provider, model=_EXAMPLE_MODELS.get(provider, "a-model"))


def _keys(struct: type[msgspec.Struct], given: set[str]) -> str:
    lines: list[str] = []
    for field in msgspec.structs.fields(struct):
        if field.name not in given and not field.required:
            lines.append(_comment(descriptions(struct)[field.name]))
            lines.append(f"#{field.name} = {literal_of(default_of(field))}")
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    lines = wrap(
        text,
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)
