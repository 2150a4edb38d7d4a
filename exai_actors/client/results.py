"""The values that the client returns."""

from __future__ import annotations

from typing import Any

import msgspec


class CallResult(msgspec.Struct, frozen=True):
    """The whole answer to one call.

    ``outputs`` are the tool's text blocks, ``text`` all of them joined. ``continuation_id``, passed
    as an argument of the next call, continues the conversation, without its first ``dropped_turns``
    turns. ``metadata`` has model, provider, finish reason and usage where known.
    """

    text: str
    outputs: tuple[str, ...]
    continuation_id: str | None
    metadata: dict[str, Any]
    request_id: str
    dropped_turns: int = 0


class Progress(msgspec.Struct, frozen=True):
    """A sign that a call is alive.

    ``position`` in the provider's queue counts from 1 and is None unless the call waits.
    ``estimate_s`` is the expected wait in seconds, None if unknown. ``waits_for`` says why it
    waits, with a ``code``, figures and a ``text``; None if the broker gave no reason.
    """

    request_id: str
    position: int | None = None
    estimate_s: float | None = None
    note: str | None = None
    waits_for: dict[str, Any] | None = None


class Tool(msgspec.Struct, frozen=True):
    """One tool of the broker; ``input_schema`` is the JSON Schema of its arguments."""

    name: str
    description: str
    input_schema: dict[str, Any]
