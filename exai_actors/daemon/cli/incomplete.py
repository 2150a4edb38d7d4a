"""Answers that ended well at the service and yet do not answer the question."""

from __future__ import annotations

from typing import Any

_CUT = "the answer is cut off at its limit of tokens"
_WITHHELD = "the service withheld the answer, or the rest of it"
_TOOL = "the model wants to use a tool, which `exai ask` has none of"
_PROBLEMS = {
    "length": _CUT,
    "max_tokens": _CUT,
    "model_length": _CUT,
    "insufficient_system_resource": "the service broke the answer off for want of resources",
    "content_filter": _WITHHELD,
    "sensitive": _WITHHELD,
    "safety": _WITHHELD,
    "refusal": _WITHHELD,
    "tool_calls": _TOOL,
    "tool_use": _TOOL,
    "function_call": _TOOL,
}


def incompleteness(text: str, metadata: dict[str, Any]) -> str:
    """Why a script must not take an answer for a complete one; "" if it is one."""
    reason = str(metadata.get("finish_reason") or "")
    problem = _PROBLEMS.get(reason.lower(), "")
    if not problem and not text.strip():
        problem = "the answer is empty"
        if metadata.get("reasoning"):
            problem += "; the model only reasoned"
    return f"{problem} (finish reason: {reason})" if problem and reason else problem
