"""Operators: the people and scripts at consoles, and the rights of each role."""

from __future__ import annotations

import hmac
from enum import StrEnum

import msgspec

from exai_actors.core.passes import LIFE_S, Use, end_of, make_pass


class Role(StrEnum):
    """Each role may do everything that the ones before it may."""

    VIEWER = "viewer"
    """Sees figures and states; no prompt, no answer, no content of messages."""
    OPERATOR = "operator"
    """Pauses, drains, disconnects, cancels, traces."""
    ADMIN = "admin"
    """Changes limits, weights and gates; restarts and stops; reads the state of actors."""

    def may(self, needed: Role) -> bool:
        """Whether this role includes ``needed``."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


class Operator(msgspec.Struct, frozen=True):
    """An operator as the audit log names it."""

    name: str
    role: Role


ANONYMOUS = Operator("anonymous", Role.VIEWER)


class Operators:
    """The operators' tokens. Without any, each console on loopback is an anonymous viewer.

    ``on_loopback``: the broker listens on loopback only. Raises ValueError for an empty token, and
    for one that occurs twice.
    """

    def __init__(self, tokens: tuple[tuple[str, Operator], ...], *, on_loopback: bool) -> None:
        self._operators: dict[str, Operator] = {}
        self._on_loopback = on_loopback
        for token, operator in tokens:
            if not token or token in self._operators:
                raise ValueError("an operator's token is empty or occurs twice")
            self._operators[token] = operator

    @property
    def anonymous(self) -> Operator | None:
        """The operator of a console without a token; None if consoles need one."""
        return ANONYMOUS if self._on_loopback and not self._operators else None

    @property
    def exist(self) -> bool:
        """Whether some token is an operator's."""
        return bool(self._operators)

    def identify(self, token: str | None) -> Operator | None:
        """The operator with this token (None: no token); None to refuse.

        Compares with every token in constant time, so that response times reveal nothing.
        """
        if not self._operators:
            return self.anonymous
        presented = (token or "").encode("utf-8", "surrogatepass")
        found = None
        for known, operator in self._operators.items():
            if hmac.compare_digest(presented, known.encode()):
                found = operator
        return found

    def new_pass(self, token: str, now: float) -> str | None:
        """A pass for the cookie of the operator with this token; None to refuse.

        ``now`` is wall time, here and in the other methods for passes.
        """
        if not self._operators:
            return None
        operator = self.identify(token)
        if operator is None:
            return None
        return make_pass(operator.name, token, Use.COOKIE, int(now) + LIFE_S)

    def identify_pass(self, shown: str, use: Use, now: float) -> Operator | None:
        """The operator of a pass; None to refuse.

        Compares with the pass of every operator in constant time.
        """
        found = self._signer(shown, use, now)
        return None if found is None else self._operators[found]

    def feed_pass(self, cookie: str, now: float) -> str | None:
        """The pass for the feed that belongs to the one in the cookie; None to refuse."""
        found = self._signer(cookie, Use.COOKIE, now)
        ends_at = end_of(cookie, Use.COOKIE)
        if found is None or ends_at is None:
            return None
        return make_pass(self._operators[found].name, found, Use.FEED, ends_at)

    def _signer(self, shown: str, use: Use, now: float) -> str | None:
        """The token that signed a pass."""
        ends_at = end_of(shown, use)
        if ends_at is None or ends_at <= now or ends_at > now + LIFE_S + 1:
            return None
        presented = shown.encode("utf-8", "surrogatepass")
        found = None
        for token, operator in self._operators.items():
            expected = make_pass(operator.name, token, use, ends_at)
            if hmac.compare_digest(presented, expected.encode()):
                found = token
        return found
