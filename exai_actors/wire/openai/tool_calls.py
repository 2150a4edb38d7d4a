"""The tool calls in an answer: whole in a message, or in parts over the deltas of a stream."""

from __future__ import annotations

from typing import Any

import msgspec

from exai_actors.wire.openai.fields import Malformed, repair_surrogates

MAX_CALLS = 1_000

_encode = msgspec.json.Encoder().encode


class ToolCalls:
    """Puts the tool calls of one answer together; members that are not known are kept.

    A part belongs to the call of its ``index``, or without one to that of its ``id``, or else to
    the latest. Texts in ``function`` are joined, as are the names of services that cut them.
    """

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: dict[object, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def add_parts(self, parts: Any) -> int:
        """Add the parts of a delta; returns how many characters they have. Raises Malformed."""
        return sum(self._add(part) for part in _objects(parts))

    def take_whole(self, calls: Any) -> int:
        """Take the calls of a whole message, in place of those so far."""
        self._calls.clear()
        return sum(
            self._add({**call, "index": index}) for index, call in enumerate(_objects(calls))
        )

    def encoded(self) -> bytes:
        """A JSON array; empty if there are no calls."""
        return _encode(list(self._calls.values())) if self._calls else b""

    def _add(self, part: dict[str, Any]) -> int:
        key: object = part.get("index")
        if not isinstance(key, int):
            key = part.get("id") or next(reversed(self._calls), 0)
        call = self._calls.get(key)
        if call is None:
            if len(self._calls) == MAX_CALLS:
                raise Malformed(f"more than {MAX_CALLS} tool calls")
            call = self._calls[key] = {"id": "", "type": "function"}
        function = part.get("function")
        characters = 0
        for name, value in part.items():
            if name not in ("index", "function") and value not in (None, ""):
                call[name] = repair_surrogates(value) if isinstance(value, str) else value
        if isinstance(function, dict):
            known = call.setdefault("function", {"name": "", "arguments": ""})
            for name, value in function.items():
                # Some services send the arguments as an object.
                text = _encode(value).decode() if isinstance(value, dict) else value
                if isinstance(text, str):
                    known[name] = repair_surrogates(known.get(name, "") + text)
                    characters += len(text)
        return characters


def _objects(calls: Any) -> list[dict[str, Any]]:
    if calls is None:
        return []
    if isinstance(calls, dict):
        calls = [calls]
    if not isinstance(calls, list) or not all(isinstance(each, dict) for each in calls):
        raise Malformed("tool calls that are no list of objects")
    return calls
