"""Responses whose head is sent while the request waits, and the responses that may follow.

A client, or a proxy before it, gives up after some time without a byte. So the head comes early:
200 and a content type, a promise that most answers keep and the others cannot take back.
"""

from __future__ import annotations

import msgspec

from exai_actors.core.families import Family

Fields = tuple[tuple[str, str], ...]

STREAM_TYPE = "text/event-stream"
UNBUFFERED: Fields = (("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no"))
"""Proxies pass on a response with these fields as it comes."""
_JSON_TYPE = "application/json"
_PING = b'event: ping\ndata: {"type": "ping"}\n\n'


class EarlyHead(msgspec.Struct, frozen=True):
    """A head with status 200. Errors may follow it only if it ``streams``: as events."""

    fields: Fields
    streams: bool

    def fits(self, status: int, fields: Fields) -> bool:
        """Whether a response with this head of its own can follow."""
        content_type = ""
        for name, value in fields:
            match name.lower():
                case "content-type":
                    content_type = value.partition(";")[0].strip().lower()
                case "content-encoding" if value.lower() != "identity":
                    # The head has not named it.
                    return False
        if not 200 <= status <= 299:
            return False
        if self.streams:
            return content_type == STREAM_TYPE
        return content_type == _JSON_TYPE or content_type.endswith("+json")

    def sign_of_life(self, family: Family, position: int | None, estimate_s: float | None) -> bytes:
        """Bytes that every client ignores, with the place in the queue if the request has one."""
        if not self.streams:
            # JSON may begin with white space.
            return b"\n"
        if family == "messages":
            return _PING
        if position is None:
            return b": exai waiting\n\n"
        estimate = "" if estimate_s is None else f" estimate_s={estimate_s:.0f}"
        return f": exai queued position={position}{estimate}\n\n".encode()


STREAM = EarlyHead((("Content-Type", f"{STREAM_TYPE}; charset=utf-8"), *UNBUFFERED), True)
WHOLE = EarlyHead((("Content-Type", _JSON_TYPE), *UNBUFFERED), False)
"""Of an answer in one piece. An error in its place would be taken for the answer."""
