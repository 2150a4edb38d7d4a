"""The head of a request, and the reasons to refuse one before anything handles it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar
from urllib.parse import unquote

import msgspec

_BODILESS = {b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"DELETE"}


class RequestHead(msgspec.Struct, frozen=True, eq=False):
    """A request's head, apart from the length of its body.

    ``target`` is its raw path and query; ``version`` is "1.0" or "1.1". ``fields`` keep the
    client's order and spelling, ``named`` has their values by their names in small letters.
    ``is_kept``: requests with the same head share this object, see ``Heads``.
    """

    method: str
    target: str
    version: str
    fields: tuple[tuple[bytes, bytes], ...]
    keeps_alive: bool
    named: Mapping[str, str]
    is_kept: bool = False

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


CONTENT_LENGTH = frozenset((b"Content-Length", b"content-length"))
"""The usual spellings of the one field that differs between most requests of a client."""


def body_length(head: RequestHead, field: bytes | None) -> int | None:
    """The length of a body in bytes, None if it is chunked.

    ``field`` is the Content-Length, which the parser has checked, if it is spelled as usual.
    """
    if field is not None:
        return int(field)
    if "transfer-encoding" in head.named:
        return None
    return int(head.named.get("content-length", 0))


MAX_HEADS = 512
MAX_KEPT_HEAD_BYTES = 2_048

HeadKey = tuple[bytes, str, bytes, tuple[tuple[bytes, bytes], ...]]
"""The method, version and target of a request, and its fields without the Content-Length."""


class Heads:
    """The heads of the requests that were accepted last: most clients repeat theirs.

    What depends on a head alone is found out once for all of its requests; see ``ByHead``.
    """

    def __init__(self) -> None:
        self._heads: dict[HeadKey, RequestHead] = {}
        self.find = self._heads.get
        """The head of an accepted request that had the same, or None."""

    def __len__(self) -> int:
        return len(self._heads)

    def keep(self, key: HeadKey, head: RequestHead) -> None:
        """Keep the head of an accepted request; ``head.is_kept``."""
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
        self._heads[key] = head


T = TypeVar("T")


class ByHead(Generic[T]):
    """What ``find_out`` returns for a head; computed once for the heads that requests share."""

    def __init__(self, find_out: Callable[[RequestHead], T]) -> None:
        self._find_out = find_out
        self._known: dict[RequestHead, T] = {}

    def __len__(self) -> int:
        return len(self._known)

    def of(self, head: RequestHead) -> T:
        """The same value as ``find_out(head)``."""
        known = self._known.get(head)
        if known is None:
            known = self._find_out(head)
            if head.is_kept:
                if len(self._known) >= MAX_HEADS:
                    self._known.clear()
                self._known[head] = known
        return known


_MAX_NAMES = 1_000
_NAMES: dict[bytes, str] = {}
"""The names that clients have used, with their form in small letters."""


def _small(key: bytes) -> str:
    name = key.decode("latin-1").lower()
    if len(_NAMES) < _MAX_NAMES and len(key) <= 64:
        _NAMES[key] = name
    return name
