"""Maps access tokens to tenants.

A token must match exactly. Each attempt is compared with every token in force, in constant time, so
that response times reveal nothing about any of them.
"""

from __future__ import annotations

import hmac

import msgspec

from exai_actors.ids import DEFAULT_TENANT, TenantName

MIN_TOKEN_CHARACTERS = 16


class Identity(msgspec.Struct, frozen=True):
    """The tenant whose sessions a token opens, and their window (None: the configured default)."""

    tenant: TenantName = DEFAULT_TENANT
    window: int | None = None


class Authenticator:
    """The access tokens in force. If there are none, every client is admitted.

    ``token`` is the shared one, empty for none; ``tokens`` belong to tenants. Raises ValueError if
    a tenant's token is empty or if two tokens are equal.
    """

    __slots__ = ("_identities",)

    def __init__(self, token: str, tokens: tuple[tuple[str, Identity], ...] = ()) -> None:
        self._identities: dict[str, Identity] = {token: Identity()} if token else {}
        for tenant_token, identity in tokens:
            if not tenant_token or tenant_token in self._identities:
                raise ValueError("an access token is empty or occurs twice")
            self._identities[tenant_token] = identity

    @property
    def required(self) -> bool:
        """Whether a client must present a token."""
        return bool(self._identities)

    def identify(self, token: str | None) -> Identity | None:
        """The identity of a client that presents ``token`` (None: no token); None to refuse it."""
        if not self._identities:
            return Identity()
        known = self._find(token or "")
        return None if known is None else self._identities[known]

    def rotate(self, old: str, new: str, own: str | None = None) -> str | None:
        """Replace the token ``old`` by ``new``; return None, or the protocol's word for a refusal.

        A client may replace its ``own`` token only (None: ``old`` is): any other answer would tell
        it whether it has guessed a token.

        ``weak_token`` (shorter than MIN_TOKEN_CHARACTERS) and ``token_in_use`` (``new`` is another
        token in force) are additions to the protocol.
        """
        if not old or not new:
            return "missing_params"
        known = self._find(old)
        is_own = own is None or hmac.compare_digest(_bytes(own), _bytes(old))
        if known is None or not is_own:
            return "unauthorized"
        if len(new) < MIN_TOKEN_CHARACTERS:
            return "weak_token"
        taken = self._find(new)
        if taken is not None and taken != known:
            return "token_in_use"
        self._identities[new] = self._identities.pop(known)
        return None

    def _find(self, presented: str) -> str | None:
        """The equal token in force. Compares with all of them, whatever the outcome."""
        presented_bytes = _bytes(presented)
        found = None
        for token in self._identities:
            if hmac.compare_digest(presented_bytes, _bytes(token)):
                found = token
        return found


def _bytes(token: str) -> bytes:
    # Without surrogatepass a lone surrogate, which a client can send, would raise.
    return token.encode("utf-8", "surrogatepass")
