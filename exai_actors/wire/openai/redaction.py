"""Keeps a provider's API key, and the words of a request, out of messages and logs."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

REDACTED = "[secret]"
MAX_EXCERPT_CHARS = 300
MIN_SECRET_CHARS = 4
"""Shorter secrets are not searched for: they would match ordinary words."""
MIN_PIECE_CHARS = 8
"""Pieces of a secret are replaced from this length on."""

QUOTED = "[request]"
MIN_QUOTED_CHARS = 8
_WINDOW_CHARS = 24
_COMPARED_CHARS = 1 << 16

_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\x9f\s]+")


class Redactor(msgspec.Struct, frozen=True):
    """Removes ``secret``, the key sent to a provider, from text that came from that provider."""

    secret: str = ""

    def redact(self, text: str) -> str:
        """``text`` without the secret, and without a beginning of the secret at its own end."""
        secret = self.secret
        if len(secret) < MIN_SECRET_CHARS:
            return text
        text = text.replace(secret, REDACTED)
        for length in range(len(secret) - 1, MIN_SECRET_CHARS - 1, -1):
            if text.endswith(secret[:length]):
                return text[:-length] + REDACTED
        return text

    def redact_excerpt(self, text: str, limit: int = MAX_EXCERPT_CHARS) -> str:
        """At most ``limit`` characters of ``text`` on one line, without secret or pieces of it."""
        # Redact before shortening: a cut through the secret would leave a half that is not found.
        text = self.redact(text)
        text = self._without_pieces(text[: 4 * limit]).encode("utf-8", "replace").decode()
        text = _UNPRINTABLE.sub(" ", text).strip()
        return text if len(text) <= limit else text[: limit - 1] + "…"

    def _without_pieces(self, text: str) -> str:
        """``text`` without the pieces of the secret that a service or parser has quoted."""
        secret, size = self.secret, MIN_PIECE_CHARS
        start = 0
        while start + size <= len(secret):
            end = start + size
            if secret[start:end] not in text or secret[start:end] in REDACTED:
                start += 1
                continue
            while end < len(secret) and secret[start : end + 1] in text:
                end += 1
            text = text.replace(secret[start:end], REDACTED)
        return text


def without_quotations(message: str, texts: Iterable[str]) -> str:
    """``message``, an excerpt, without those parts of ``texts`` that it quotes.

    A short text is left out if all of it is quoted, and of a long one each quotation that is long
    enough not to be a chance. Only the beginning and the end of a very long text are compared.
    """
    for text in texts:
        ends = text if len(text) <= 2 * _COMPARED_CHARS else _both_ends(text)
        line = _UNPRINTABLE.sub(" ", ends).strip()
        if MIN_QUOTED_CHARS <= len(line) < 2 * _WINDOW_CHARS:
            message = message.replace(line, QUOTED)
        at = 0
        while at + _WINDOW_CHARS <= len(message):
            if message[at : at + _WINDOW_CHARS] not in line:
                at += _WINDOW_CHARS // 2
                continue
            start, end = at, at + _WINDOW_CHARS
            while start > 0 and message[start - 1 : end] in line:
                start -= 1
            while end < len(message) and message[start : end + 1] in line:
                end += 1
            message = message[:start] + QUOTED + message[end:]
            at = start + len(QUOTED)
    return message


def _both_ends(text: str) -> str:
    return f"{text[:_COMPARED_CHARS]}\n{text[-_COMPARED_CHARS:]}"


NO_SECRET = Redactor()
