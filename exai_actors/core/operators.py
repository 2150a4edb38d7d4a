"""Operators: the people and scripts at consoles, and the rights of each role."""

from __future__ import annotations

import hmac
from enum import StrEnum

import msgspec


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

    def identify(self, token: str | None) -> Operator | None:
        """The operator with this token (None: no token); None to refuse.

        Compares with every token in constant time, so that response times reveal nothing.
        """
        if not self._operators:
            return ANONYMOUS if self._on_loopback else None
        presented = (token or "").encode("utf-8", "surrogatepass")
        found = None
        for known, operator in self._operators.items():
            if hmac.compare_digest(presented, known.encode()):
                found = operator
        return found
