"""Who may talk to the broker: one shared token, compared exactly and in constant time."""

from __future__ import annotations

import hmac

MIN_TOKEN_CHARACTERS = 16


class Access:
    """The token in force; an empty one means that everybody may."""

    __slots__ = ("_token",)

    def __init__(self, token: str) -> None:
        self._token = token

    @property
    def required(self) -> bool:
        return bool(self._token)

    def allows(self, token: str | None) -> bool:
        """Whether a client that names this token, or None, may come in."""
        return not self._token or _same(token or "", self._token)

    def rotate(self, old: str, new: str) -> str | None:
        """Replace the token; gives the protocol's word for why not, or None when it is done.

        ``weak_token`` is ours: a token shorter than 16 characters is refused, never ignored.
        """
        if not old or not new:
            return "missing_params"
        if not self._token or not _same(old, self._token):
            return "unauthorized"
        if len(new) < MIN_TOKEN_CHARACTERS:
            return "weak_token"
        self._token = new
        return None


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(_bytes(given), _bytes(wanted))


def _bytes(token: str) -> bytes:
    # Without surrogatepass a lone surrogate, which a client can send, would raise.
    return token.encode("utf-8", "surrogatepass")
