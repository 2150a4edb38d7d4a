"""Encodes JSON as this package writes it: compact UTF-8, whatever the text."""

from __future__ import annotations

import json
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


def to_json(value: Any) -> bytes:
    """``value`` as JSON. Lone surrogates, which UTF-8 cannot carry, become question marks."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        plain = msgspec.to_builtins(value)
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "replace"
        )
