"""The head of a request, and the reasons to refuse one before anything handles it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

import msgspec

_BODILESS = {b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"DELETE"}


class RequestHead(msgspec.Struct, frozen=True):
    """A request's head. ``target`` is its raw path and query; ``version`` is "1.0" or "1.1".

    ``fields`` keep the client's order and spelling, ``named`` has their values by their names in
    small letters. ``length`` is the size of the body in bytes, None if the body is chunked.
    """

    method: str
    target: str
    version: str
    fields: tuple[tuple[bytes, bytes], ...]
    length: int | None
    keeps_alive: bool
    named: Mapping[str, str]

    @property
    def path(self) -> str:
        """The decoded path, without the query."""
        path = self.target.partition("?")[0]
        return unquote(path) if "%" in path else path

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def field(self, name: str) -> str | None:
        """A field's value. Several of one name are joined, and so match no allowed value."""
        return self.named.get(name.lower())

    @property
    def expects_continue(self) -> bool:
        expect = self.named.get("expect")
        return expect is not None and expect.lower() == "100-continue"


class Refusal(msgspec.Struct, frozen=True):
    """Answer with this status and sentence, and close the connection."""

    status: int
    text: str


def check_head(head: RequestHead) -> Refusal | None:
    """None if the request can be handled.

    A request must not be read in two ways: RFC 9112 requires one Host (section 3.2) and forbids
    transfer codings that a recipient does not know (section 6.1). The parser has refused the rest:
    two lengths, a length beside chunks, bare line feeds, folded fields, spaces before colons.
    """
    hosts = head.named.get("host", "").count(", ") + 1 if "host" in head.named else 0
    if hosts > 1 or (hosts == 0 and head.version == "1.1"):
        return Refusal(400, "A request needs exactly one Host field.")
    if head.version not in {"1.0", "1.1"}:
        return Refusal(505, "This server speaks HTTP/1.0 and HTTP/1.1.")
    if head.method == "CONNECT" or not head.target.startswith(("/", "*", "http://", "https://")):
        return Refusal(400, "This server is no proxy: the target of a request is a path.")
    coding = head.named.get("transfer-encoding")
    if coding is not None and (coding.lower() != "chunked" or head.version == "1.0"):
        return Refusal(501, "The only transfer coding here is chunked, in HTTP/1.1.")
    if head.named.get("content-encoding") not in {None, "identity"}:
        return Refusal(415, "Send the body without a Content-Encoding.")
    expect = head.named.get("expect")
    if expect is not None and not head.expects_continue:
        return Refusal(417, "The only expectation that this server knows is 100-continue.")
    return None


def too_large(limit: int) -> Refusal:
    return Refusal(413, f"The body of this request is limited to {limit} bytes.")


def by_name(fields: tuple[tuple[bytes, bytes], ...]) -> dict[str, str]:
    """The values of fields by their names in small letters; several of one name are joined."""
    named: dict[str, str] = {}
    for key, value in fields:
        name = _NAMES.get(key) or _small(key)
        text = value.decode("latin-1")
        named[name] = f"{named[name]}, {text}" if name in named else text
    return named


def body_length(named: Mapping[str, str]) -> int | None:
    """The length of a body by its fields, which the parser has checked; None if chunked."""
    if "transfer-encoding" in named:
        return None
    return int(named.get("content-length", 0))


_MAX_NAMES = 1_000
_NAMES: dict[bytes, str] = {}
"""The names that clients have used, with their form in small letters."""


def _small(key: bytes) -> str:
    name = key.decode("latin-1").lower()
    if len(_NAMES) < _MAX_NAMES and len(key) <= 64:
        _NAMES[key] = name
    return name
