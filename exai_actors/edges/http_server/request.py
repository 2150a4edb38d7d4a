"""The head of a request, and the reasons to refuse one before anything handles it."""

from __future__ import annotations

from urllib.parse import unquote

import msgspec

_BODILESS = {b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"DELETE"}


class RequestHead(msgspec.Struct, frozen=True):
    """A request's head. ``target`` is its raw path and query; ``version`` is "1.0" or "1.1".

    ``fields`` keep the client's order and spelling. ``length`` is the size of the body in bytes,
    None if the body is chunked.
    """

    method: str
    target: str
    version: str
    fields: tuple[tuple[bytes, bytes], ...]
    length: int | None
    keeps_alive: bool

    @property
    def path(self) -> str:
        """The decoded path, without the query."""
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def field(self, name: str) -> str | None:
        """A field's value. Several of one name are joined, and so match no allowed value."""
        wanted = name.lower().encode()
        values = [value for key, value in self.fields if key.lower() == wanted]
        return b", ".join(values).decode("latin-1") if values else None

    @property
    def expects_continue(self) -> bool:
        return (self.field("Expect") or "").lower() == "100-continue"


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
    hosts = sum(key.lower() == b"host" for key, _ in head.fields)
    if hosts > 1 or (hosts == 0 and head.version == "1.1"):
        return Refusal(400, "A request needs exactly one Host field.")
    if head.version not in {"1.0", "1.1"}:
        return Refusal(505, "This server speaks HTTP/1.0 and HTTP/1.1.")
    if head.method == "CONNECT" or not head.target.startswith(("/", "*", "http://", "https://")):
        return Refusal(400, "This server is no proxy: the target of a request is a path.")
    coding = head.field("Transfer-Encoding")
    if coding is not None and (coding.lower() != "chunked" or head.version == "1.0"):
        return Refusal(501, "The only transfer coding here is chunked, in HTTP/1.1.")
    if head.field("Content-Encoding") not in {None, "identity"}:
        return Refusal(415, "Send the body without a Content-Encoding.")
    expect = head.field("Expect")
    if expect is not None and not head.expects_continue:
        return Refusal(417, "The only expectation that this server knows is 100-continue.")
    return None


def too_large(limit: int) -> Refusal:
    return Refusal(413, f"The body of this request is limited to {limit} bytes.")


def body_length(fields: tuple[tuple[bytes, bytes], ...]) -> int | None:
    """The length of a body by its fields, which the parser has checked; None if chunked."""
    length = 0
    for key, value in fields:
        match key.lower():
            case b"transfer-encoding":
                return None
            case b"content-length":
                length = int(value)
    return length
