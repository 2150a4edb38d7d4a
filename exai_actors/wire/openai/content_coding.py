"""Undoing a content coding (RFC 9110, section 8.4.1) a portion at a time.

No coding is ever asked for, but some gateways compress all the same. However much a few bytes come
to, no more of it is held at once than one portion.
"""

from __future__ import annotations

import zlib

from exai_actors.errors import ExaiError

PORTION_BYTES = 1 << 18

_COMPRESSIONS = frozenset(
    {"gzip", "x-gzip", "deflate", "br", "zstd", "dcb", "dcz", "compress", "x-compress"}
)
_GZIP = 31
_ZLIB = 15
_RAW_DEFLATE = -15
_GZIP_START = b"\x1f"


class BadCoding(ExaiError):
    """The body cannot be decoded; the text is what the service answered with."""


def is_coded(content_encoding: str) -> bool:
    """Whether a body with this Content-Encoding has to be decoded.

    What names no compression, such as the ``utf-8`` of services that mean a character set, does
    not count.
    """
    return any(name.strip().lower() in _COMPRESSIONS for name in content_encoding.split(","))


class Inflater:
    """Decodes one body in gzip or deflate, both as RFC 9110 names them and as services mean them.

    ``feed`` bytes as they come, then ``take`` until nothing more comes of them.
    """

    def __init__(self, content_encoding: str) -> None:
        self._coding = content_encoding.strip().lower().removeprefix("x-")
        self._pending = b""
        self._inflating: zlib._Decompress | None = None
        self._may_have_more = False
        self._members = 0

    @property
    def cut(self) -> bool:
        """Whether what was fed so far ends within a compressed body."""
        return bool(self._pending) or self._inflating is not None

    def feed(self, data: bytes) -> None:
        """More of the body. What was fed before must have been taken."""
        self._pending = data

    def take(self) -> bytes:
        """The next portion, empty if that takes more bytes. Raises BadCoding."""
        while self._pending or self._may_have_more:
            if self._inflating is None:
                if self._is_padding():
                    self._pending = b""
                    break
                self._inflating = self._begun()
            try:
                portion = self._inflating.decompress(self._pending, PORTION_BYTES)
            except zlib.error:
                raise BadCoding("a body whose compression is broken") from None
            self._pending = self._inflating.unconsumed_tail
            self._may_have_more = len(portion) == PORTION_BYTES
            if self._inflating.eof:
                self._pending = self._inflating.unused_data
                self._inflating = None
                self._may_have_more = False
                self._members += 1
            if portion:
                return portion
        return b""

    def _is_padding(self) -> bool:
        """Several gzip members in a row are one body; what else follows one is none of it."""
        continued = self._coding == "gzip" and self._pending.startswith(_GZIP_START)
        return self._members > 0 and not continued

    def _begun(self) -> zlib._Decompress:
        match self._coding:
            case "gzip":
                return zlib.decompressobj(_GZIP)
            case "deflate":
                # Meant is zlib's format; some send what is inside of it alone.
                in_zlib = self._pending[0] & 0xF == zlib.DEFLATED
                return zlib.decompressobj(_ZLIB if in_zlib else _RAW_DEFLATE)
        raise BadCoding("a body in a compression that was not asked for")
