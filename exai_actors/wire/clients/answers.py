"""The shapes that encoding needs of what it is given, so that the wire knows no broker behind it.

``core.calls.ToolResult`` and any tool description fulfil them as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from exai_actors.core.statistics import BrokerStatistics

Envelope = Literal["plain", "ex-ai"]
"""How an output text is wrapped: not at all, or as the JSON text of the old ``chat``."""


class TokenUsage(Protocol):
    """LLM tokens of one call."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def completion_tokens(self) -> int: ...


class ToolAnswer(Protocol):
    """What a tool gave back."""

    @property
    def outputs(self) -> Sequence[str]: ...

    @property
    def continuation_id(self) -> str | None: ...

    @property
    def model(self) -> str | None: ...

    @property
    def provider(self) -> str | None: ...

    @property
    def finish_reason(self) -> str | None: ...

    @property
    def usage(self) -> TokenUsage | None: ...

    @property
    def reasoning(self) -> str: ...


class DescribedTool(Protocol):
    """A tool as listed; ``input_schema`` is a JSON Schema object."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def input_schema(self) -> dict[str, Any]: ...


class HealthSummary(msgspec.Struct, frozen=True):
    """The figures of a health answer; times in seconds."""

    now_wall: float
    uptime_s: float
    sessions: int
    global_capacity: int
    global_inflight: int
    tool_count: int

    @classmethod
    def of(cls, statistics: BrokerStatistics, *, now_wall: float, tool_count: int) -> HealthSummary:
        return cls(
            now_wall,
            statistics.uptime_s,
            statistics.sessions,
            statistics.capacity,
            statistics.in_flight,
            tool_count,
        )
