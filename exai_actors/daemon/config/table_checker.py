"""Check the tables of a file against their Structs, key by key, to find all errors at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from exai_actors.daemon.config.presets import PRESETS
from exai_actors.daemon.config.problems import Origins, Problem
from exai_actors.daemon.config.provider_tables import PROVIDER_KINDS, ProviderConfig
from exai_actors.daemon.config.tables import AccessConfig, FileConfig, OperatorConfig, RouteConfig
from exai_actors.daemon.config.toml_lines import KeyPath
from exai_actors.daemon.config.wording import accepted, did_you_mean, either, shown, suggestion

T = TypeVar("T", bound=msgspec.Struct)

# Words that people write for a key but that are not similar to its name.
SYNONYMS = {
    "api_key": "api_key_env",
    "apikey": "api_key_env",
    "key": "api_key_env",
    "url": "base_url",
    "endpoint": "base_url",
    "type": "kind",
    "concurrency": "limit",
    "max_concurrency": "limit",
    "max_in_flight": "limit",
    "rpm": "requests_per_minute",
    "tpm": "tokens_per_minute",
    "rpd": "requests_per_day",
    "tpd": "tokens_per_day",
    "retries": "attempts",
    "fallback": "to",
    "fallbacks": "to",
    "bind": "host",
    "address": "host",
    "password": "token",
    "access_log": "access",
}
SECRET_KEYS = frozenset({"token", "token_env", "api_key_env"})
LISTS: dict[str, type[msgspec.Struct]] = {
    "access": AccessConfig,
    "operator": OperatorConfig,
    "route": RouteConfig,
}


class TableChecker:
    """Turns raw tables into Structs and collects ``problems``.

    ``from_presets`` maps the path of each value that a preset supplied to that preset.
    """

    def __init__(self, origins: Origins) -> None:
        self.problems: list[Problem] = []
        self.from_presets: dict[KeyPath, str] = {}
        self._origins = origins

    def file(self, raw: dict[str, Any]) -> FileConfig:
        """The whole file, with a default and a problem in place of each wrong value."""
        tables: dict[str, Any] = {}
        fields = {field.name: field for field in msgspec.structs.fields(FileConfig)}
        for name, value in raw.items():
            if name == "provider":
                tables[name] = self._list_of(self._provider, value, name)
            elif name in LISTS:
                tables[name] = self._list_of(partial(self._entry, name), value, name)
            elif name in fields:
                tables[name] = self._plain_table(fields[name].type, value, name)
            else:
                self._unknown_at_top(name, value)
        return FileConfig(**tables)

    def _plain_table(self, struct: type[T], value: Any, name: str) -> T:
        if not isinstance(value, dict):
            self._add((name,), f"must be a table that starts with [{name}], not {shown(value)}")
            return struct()
        table = self._table(struct, value, (name,))
        return table if table is not None else struct()

    def _list_of(
        self, read: Callable[[dict[str, Any], int], T | None], value: Any, name: str
    ) -> tuple[T, ...]:
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self._add((name,), f"each {name} must start with [[{name}]]")
            return ()
        entries = (read(raw, index) for index, raw in enumerate(value))
        return tuple(entry for entry in entries if entry is not None)

    def _entry(self, name: str, raw: dict[str, Any], index: int) -> msgspec.Struct | None:
        return self._table(LISTS[name], raw, (name, index))

    def _provider(self, raw: dict[str, Any], index: int) -> ProviderConfig | None:
        path: KeyPath = ("provider", index)
        preset = raw.get("preset")
        if preset not in (None, "") and raw.get("kind", "openai") == "openai":
            if not isinstance(preset, str) or preset not in PRESETS:
                hint = suggestion(str(preset), PRESETS)
                self._add((*path, "preset"), f"unknown preset {shown(preset)}{hint}")
                return None
            given = {key: value for key, value in PRESETS[preset].values.items() if key not in raw}
            self.from_presets.update({(*path, key): f'preset "{preset}"' for key in given})
            raw = given | raw
        kind = raw.get("kind")
        if kind is None:
            self._add(path, f'"kind" is missing; it must be {either(PROVIDER_KINDS)}')
            return None
        if not isinstance(kind, str) or kind not in PROVIDER_KINDS:
            hint = did_you_mean(kind, PROVIDER_KINDS) if isinstance(kind, str) else ""
            hint = hint or '; "openai" stands for every service with an OpenAI-compatible API'
            choice = either(PROVIDER_KINDS)
            self._add((*path, "kind"), f"must be {choice}, not {shown(kind)}{hint}")
            return None
        own = {key: value for key, value in raw.items() if key != "kind"}
        foreign = _keys_of_other_kinds(kind)
        for key in [key for key in own if key in foreign]:
            self._add(
                (*path, key),
                f'belongs to kind "{foreign[key]}", not to "{kind}"; remove it',
            )
            del own[key]
        return self._table(PROVIDER_KINDS[kind], own, path)

    def _table(self, struct: type[T], raw: dict[str, Any], path: KeyPath) -> T | None:
        fields = {field.name: field for field in msgspec.structs.fields(struct)}
        values: dict[str, Any] = {}
        complete = True
        for key, value in raw.items():
            if key not in fields:
                self._unknown(key, (*path, key), list(fields))
            elif (found := self.value(fields[key].type, value, (*path, key))) is not None:
                values[key] = found
            elif fields[key].required:
                complete = False
        for name, field in fields.items():
            if field.required and name not in raw:
                self._add(path, f'"{name}" is missing; it must be {accepted(field.type)}')
                complete = False
        return struct(**values) if complete else None

    def value(self, annotation: Any, value: Any, path: KeyPath, *, strict: bool = True) -> Any:
        """``value`` as the annotated type, or None after adding a problem.

        Without ``strict`` a text is read as the number it spells, as environment variables need.
        """
        try:
            return msgspec.convert(value, annotation, strict=strict)
        except msgspec.ValidationError:
            pass
        wrong_path, wrong, wrong_type = _innermost(annotation, value, path)
        found = "" if path[-1] in SECRET_KEYS else f", not {shown(wrong)}"
        self._add(wrong_path, f"must be {accepted(wrong_type)}{found}")
        return None

    def _unknown(self, key: str, path: KeyPath, known: list[str]) -> None:
        synonym = SYNONYMS.get(key.lower())
        if synonym == "api_key_env" and synonym in known:
            self._add(
                path,
                "an API key does not belong in this file; put it into an environment variable "
                'and name that: api_key_env = "MY_KEY"',
            )
            return
        hint = f'; did you mean "{synonym}"?' if synonym in known else did_you_mean(key, known)
        self._add(path, f"unknown key{hint or _home(key) or suggestion(key, known)}")

    def _unknown_at_top(self, name: str, value: Any) -> None:
        tables = [field.name for field in msgspec.structs.fields(FileConfig)]
        if isinstance(value, dict | list):
            self._add((name,), f"unknown table{suggestion(name, tables)}")
        else:
            self._add((name,), f"unknown key outside any table{_home(name)}")

    def _add(self, path: KeyPath, message: str) -> None:
        self.problems.append(self._origins.problem(path, message))


def _keys_of_other_kinds(kind: str) -> dict[str, str]:
    own = set(PROVIDER_KINDS[kind].__struct_fields__)
    return {
        key: other
        for other, struct in PROVIDER_KINDS.items()
        for key in struct.__struct_fields__
        if key not in own
    }


def _home(key: str) -> str:
    """``; it belongs in [server]``: the tables that have ``key``, or an empty string."""
    homes = [
        f"[{field.name}]"
        for field in msgspec.structs.fields(FileConfig)
        if key in getattr(field.type, "__struct_fields__", ())
    ]
    homes += [f"[[{name}]]" for name, struct in LISTS.items() if key in struct.__struct_fields__]
    if any(key in struct.__struct_fields__ for struct in PROVIDER_KINDS.values()):
        homes.append("[[provider]]")
    return f"; it belongs in {' or '.join(homes)}" if homes else ""


def _innermost(annotation: Any, value: Any, path: KeyPath) -> tuple[KeyPath, Any, Any]:
    """Path, value and type of the wrong entry of a list, otherwise of ``value`` itself."""
    inner = get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation
    if get_origin(inner) is tuple and isinstance(value, list):
        item = get_args(inner)[0]
        for index, entry in enumerate(value):
            try:
                msgspec.convert(entry, item)
            except msgspec.ValidationError:
                return (*path, index), entry, item
    return path, value, annotation
