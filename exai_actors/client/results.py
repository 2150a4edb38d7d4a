"""What the client hands to its caller."""

from __future__ import annotations

from typing import Any

import msgspec


class CallResult(msgspec.Struct, frozen=True):
    """The whole answer to one call.

    ``outputs`` are the tool's text blocks, ``text`` all of them as one. ``continuation_id`` given
    back as an argument continues the conversation. ``metadata`` tells how the answer came to be
    (model, provider, finish reason, usage), as far as the broker said.
    """

    text: str
    outputs: tuple[str, ...]
    continuation_id: str | None
    metadata: dict[str, Any]
    request_id: str


class Progress(msgspec.Struct, frozen=True):
    """Word that a call is alive. ``position`` counts from 1 while it waits, else it is None.

    ``estimate_s`` is the broker's guess of the seconds left to wait, None when it has none.
    """

    request_id: str
    position: int | None = None
    estimate_s: float | None = None
    note: str | None = None


class Tool(msgspec.Struct, frozen=True):
    """One tool of the broker; ``input_schema`` is the JSON Schema of its arguments."""

    name: str
    description: str
    input_schema: dict[str, Any]
