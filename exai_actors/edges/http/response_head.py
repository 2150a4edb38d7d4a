"""The head of a response, made such that llhttp accepts what browsers and curl accept."""

from __future__ import annotations

import re

SWITCHING_PROTOCOLS = 101
MAX_INTERIM_RESPONSES = 8
"""The number of 1xx responses that may precede a response."""

# The usual 8 KiB and 100 headers lose answers: gateways send policies and traces.
MAX_HEADER_BYTES = 1 << 16
MAX_HEADERS = 1000
# How much of a head that the parser rejects is kept until its end arrives.
MAX_HELD_HEAD_BYTES = 1 << 14

_HEAD_END = re.compile(rb"\n\r?\n")
_STATUS_LINE = re.compile(
    rb"HTTP/(?P<major>\d)(?:\.(?P<minor>\d))?[ \t]+(?P<rest>\d{3}(?!\d))", re.IGNORECASE
)


def begins_like_http(data: bytes) -> bool:
    """Whether this is, or may become, the head of a response."""
    return b"HTTP/".startswith(data[:5].upper())


def head_end(data: bytes | bytearray, searched: int = 0) -> int:
    """Where the head ends that ``data`` begins with, -1 if not within what follows ``searched``."""
    match = _HEAD_END.search(data, searched)
    return match.end() if match else -1


def is_interim(head: bytes) -> bool:
    """Whether another response follows; 101 is the last one of its connection."""
    return head[9:10] == b"1" and head[9:12] != b"101"


def normal_head(head: bytes) -> bytes:
    """The head with its status line and framing in their usual form.

    A length that is repeated is stated once, one beside a chunked coding is dropped (RFC 9112,
    6.3), and so is the coding ``identity``, which is none. What contradicts itself stays as it is.
    """
    lines = head.split(b"\n")
    if status := _STATUS_LINE.match(lines[0]):
        version = (
            b"HTTP/1.0 " if status["major"] + (status["minor"] or b"") == b"10" else b"HTTP/1.1 "
        )
        lines[0] = version + status["rest"] + lines[0][status.end() :]
    values: dict[bytes, list[bytes]] = {b"content-length": [], b"transfer-encoding": []}
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        if (named := values.get(name.strip().lower())) is not None:
            named += (each.strip().lower() for each in value.split(b","))
    lengths, codings = values.values()
    dropped: set[bytes] = set()
    stated = b""
    if codings and set(codings) <= {b"identity", b""}:
        dropped.add(b"transfer-encoding")
        codings = []
    if codings and lengths:
        dropped.add(b"content-length")
    elif len(lengths) > 1 and all(map(bytes.isdigit, lengths)) and len(set(map(int, lengths))) == 1:
        dropped.add(b"content-length")
        stated = b"Content-Length: %b\r" % lengths[0]
    kept = [line for line in lines if line.partition(b":")[0].strip().lower() not in dropped]
    if stated:
        kept.insert(1, stated)
    return b"\n".join(kept)
