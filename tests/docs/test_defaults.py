"""The limits that the architecture page names are the defaults of the configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import pytest

from exai_actors.daemon.config.provider_tables import OpenAIProvider
from exai_actors.daemon.config.tables import FileConfig
from tests.docs.blocks import ROOT

PAGE = ROOT / "docs" / "explanation" / "architecture.md"
DEFAULTS = FileConfig()


def defaults_of(table: str) -> dict[str, object]:
    if table == "provider":
        fields = msgspec.structs.fields(OpenAIProvider)
        return {field.name: field.default for field in fields if not field.required}
    return msgspec.structs.asdict(getattr(DEFAULTS, table))


def rows() -> Iterator[tuple[str, str, object]]:
    """The limit as the page words it, the key beside it, and the default of that key."""
    text = PAGE.read_text("utf-8").partition("## Where everything is bounded")[2]
    for line in text.partition("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        table = re.search(r"`\[+(\w+)\]+ ", cells[2]) if len(cells) == 4 else None
        if table:
            defaults = defaults_of(table[1])
            for key in re.findall(r"(\w+)`", cells[2]):
                if key in defaults and key != "model_limits":
                    yield cells[1], key, defaults[key]


def worded(key: str, default: object) -> str:
    """A default as the page writes it."""
    match default:
        case 0:
            return "none"
        case str():
            return default
        case int() if key.endswith("_bytes"):
            return f"{default >> 20} MiB" if default >= 1 << 20 else f"{default >> 10} KiB"
        case int() | float():
            return f"{default:g} s" if key.endswith("_s") else f"{default}"
    raise AssertionError(f"no wording for {key} = {default!r}")


@pytest.mark.parametrize(("limit", "key", "default"), list(rows()))
def test_a_limit_of_the_architecture_is_the_default_of_its_key(
    limit: str, key: str, default: object
) -> None:
    assert re.search(rf"(?<![\d,.]){re.escape(worded(key, default))}\b", limit), limit


def test_the_table_names_most_keys() -> None:
    assert len(list(rows())) > 30
