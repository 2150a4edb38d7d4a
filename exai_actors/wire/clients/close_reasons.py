"""The codes and reasons with which the broker closes connections.

1008 and the 4xxx codes are those of the EX-AI daemon. Below this protocol, the edge answers faults
of the WebSocket framing (1002, 1007 for text that is not UTF-8, 1009 for a frame above the limit);
pages of foreign origins are refused before there is a WebSocket.
"""

from __future__ import annotations

from enum import Enum


class CloseReason(Enum):
    """``code`` and ``reason`` of a close frame; the reason has at most 123 bytes."""

    NORMAL = (1000, "")
    GOING_AWAY = (1001, "the broker is shutting down")
    OVERLOADED = (1008, "Server overloaded - global connection limit reached")
    TOO_MANY_FROM_ADDRESS = (1008, "Too many connections from your IP")
    NOT_ADMITTED = (1008, "not admitted")
    TOO_EAGER = (1008, "too many frames before hello was answered")
    SLOW_CONSUMER = (1008, "slow consumer: frames were not read in time")
    UNFINISHED = (1008, "message not complete in time")
    DISCONNECTED = (1008, "disconnected by an operator of the broker")
    OUT_OF_MEMORY = (1013, "the broker is short of memory, come back later")
    INTERNAL = (1011, "internal error")
    BROKER_FAILED = (1011, "the broker failed and has to be restarted")
    INVALID_HELLO = (4000, "invalid hello")
    MISSING_HELLO = (4001, "missing hello")
    HELLO_TIMEOUT = (4002, "hello timeout or disconnect")
    UNAUTHORIZED = (4003, "unauthorized")

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
