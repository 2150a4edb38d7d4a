"""Decodes a compressed body (RFC 9110, section 8.4.1) one portion at a time.

No coding is requested, but some gateways compress anyway, or name a coding and do not apply it. At
most one portion is decoded at a time, however much a few bytes expand to.
"""

from __future__ import annotations

import re
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
_PLAIN_START = re.compile(rb"\s*(?:data:|event:|id:|: \w|\{\s*\")")


class BadCoding(ExaiError):
    """The body cannot be decoded; the text is a noun phrase for the error message."""


def is_compressed(content_encoding: str) -> bool:
    """Whether a body with this Content-Encoding must be decoded.

    Other names do not count, such as the ``utf-8`` of services that mean a character set.
    """
    return any(name.strip().lower() in _COMPRESSIONS for name in content_encoding.split(","))


class Inflater:
    """Decodes one body in gzip or deflate. After each ``feed``, call ``take`` until it is empty."""

    def __init__(self, content_encoding: str) -> None:
        self._coding = content_encoding.strip().lower().removeprefix("x-")
        self._pending = b""
        self._decompressor: zlib._Decompress | None = None
        self._may_have_more = False
        self._members = 0
        self._is_plain: bool | None = None

    @property
    def truncated(self) -> bool:
        """Whether the data fed so far ends inside a compressed body."""
        return bool(self._pending) or self._decompressor is not None

    def feed(self, data: bytes) -> None:
        """Add ``data``. Everything fed before must have been taken."""
        self._pending = data

    def take(self) -> bytes:
        """The next portion; empty if it needs more data. Raises BadCoding."""
        if self._is_plain is None and self._pending:
            self._is_plain = _PLAIN_START.match(self._pending) is not None
        if self._is_plain:
            portion, self._pending = self._pending[:PORTION_BYTES], self._pending[PORTION_BYTES:]
            return portion
        while self._pending or self._may_have_more:
            if self._decompressor is None:
                if self._is_padding():
                    self._pending = b""
                    break
                self._decompressor = self._new_decompressor()
            try:
                portion = self._decompressor.decompress(self._pending, PORTION_BYTES)
            except zlib.error:
                raise BadCoding("a body whose compression is broken") from None
            self._pending = self._decompressor.unconsumed_tail
            self._may_have_more = len(portion) == PORTION_BYTES
            if self._decompressor.eof:
                self._pending = self._decompressor.unused_data
                self._decompressor = None
                self._may_have_more = False
                self._members += 1
            if portion:
                return portion
        return b""

    def _is_padding(self) -> bool:
        """Whether a complete body precedes the pending data, which is not another gzip member."""
        continues = self._coding == "gzip" and self._pending.startswith(_GZIP_START)
        return self._members > 0 and not continues

    def _new_decompressor(self) -> zlib._Decompress:
        match self._coding:
            case "gzip":
                return zlib.decompressobj(_GZIP)
            case "deflate":
                # RFC 9110 means zlib's format; some services send raw deflate.
                is_zlib = self._pending[0] & 0xF == zlib.DEFLATED
                return zlib.decompressobj(_ZLIB if is_zlib else _RAW_DEFLATE)
        raise BadCoding("a body in a compression that was not requested")
