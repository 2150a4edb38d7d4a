"""Who may talk to the broker, and whose share they take: told by the token that they name.

Tokens are compared exactly, in constant time, and always with all that there are, so that how long
an answer takes tells nothing of any of them.
"""

from __future__ import annotations

import hmac

import msgspec

from exai_actors.ids import EVERYBODY, TenantName

MIN_TOKEN_CHARACTERS = 16


class Identity(msgspec.Struct, frozen=True):
    """What an access token opens: sessions of this tenant, with this window if it is not None."""

    tenant: TenantName = EVERYBODY
    window: int | None = None


OPEN = Identity()


class Authenticator:
    """The tokens in force. Where there are none, everybody may come in and shares as EVERYBODY.

    ``token`` is the shared one, empty if there is none; ``tokens`` are those that stand for a
    tenant, each with its grant. Raises ValueError if two are the same.
    """

    __slots__ = ("_grants",)

    def __init__(self, token: str, tokens: tuple[tuple[str, Identity], ...] = ()) -> None:
        self._grants: dict[str, Identity] = {token: OPEN} if token else {}
        for each, grant in tokens:
            if not each or each in self._grants:
                raise ValueError("each access token is given, and is unlike the others")
            self._grants[each] = grant

    @property
    def required(self) -> bool:
        return bool(self._grants)

    def identify(self, token: str | None) -> Identity | None:
        """What a client that names this token, or None, may open; None if it may not come in."""
        if not self._grants:
            return OPEN
        known = self._known(token or "")
        return None if known is None else self._grants[known]

    def rotate(self, old: str, new: str) -> str | None:
        """Replace the one token ``old``; gives the protocol's word for why not, or None if done.

        ``weak_token`` and ``token_in_use`` are ours: a token shorter than 16 characters, or one
        that opens something else already, is refused, never ignored.
        """
        if not old or not new:
            return "missing_params"
        known = self._known(old)
        if known is None:
            return "unauthorized"
        if len(new) < MIN_TOKEN_CHARACTERS:
            return "weak_token"
        taken = self._known(new)
        if taken is not None and taken != known:
            return "token_in_use"
        self._grants[new] = self._grants.pop(known)
        return None

    def _known(self, given: str) -> str | None:
        found = None
        for token in self._grants:
            if _same(given, token):
                found = token
        return found


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(_bytes(given), _bytes(wanted))


def _bytes(token: str) -> bytes:
    # Without surrogatepass a lone surrogate, which a client can send, would raise.
    return token.encode("utf-8", "surrogatepass")
