"""The place of a request in a distributed trace (W3C Trace Context)."""

from __future__ import annotations

import re

import msgspec

MAX_STATE_LENGTH = 512
"""The length of ``tracestate`` that the recommendation requires everyone to pass on."""

_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_STATE = re.compile(r"[\x20-\x7e]+")


class TraceContext(msgspec.Struct, frozen=True, gc=False):
    """The values of the headers ``traceparent`` and ``tracestate``; ``state`` may be empty."""

    parent: str
    state: str = ""


def trace_context(parent: object, state: object = None) -> TraceContext | None:
    """The context in these values; None if ``parent`` is not valid, whatever it is.

    As the recommendation asks, an invalid context is ignored and not an error. Fields that a later
    version appends are left out.
    """
    if type(parent) is not str or (match := _PARENT.match(parent)) is None:
        return None
    rest = parent[match.end() :]
    if rest and (parent.startswith("00") or not rest.startswith("-")):
        return None
    valid = type(state) is str and len(state) <= MAX_STATE_LENGTH and _STATE.fullmatch(state)
    return TraceContext(match[0], state if valid and type(state) is str else "")
