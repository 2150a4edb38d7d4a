"""Wrong access tokens by address: guesses are slowed down and reported.

A right token is admitted however many wrong ones came from its address: a stranger on the same
machine must not keep a client out.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from exai_actors.core.strangers import network_of

FREE = 2
"""So many wrong tokens of an address are answered immediately and not reported."""
DELAY_S = 1.0
"""How long the answer to a further one takes."""
_FORGET_S = 60.0
_MAX_ADDRESSES = 1024


class WrongToken(msgspec.Struct, frozen=True):
    """``count`` wrong tokens came from the address; ``is_reported``: the log should say so."""

    count: int
    delay_s: float
    is_reported: bool


class _Guesser(msgspec.Struct):
    last: float
    count: int = 0
    reported_at: float = float("-inf")


class WrongTokens:
    """The addresses of the last wrong tokens. Times are in seconds.

    An address is forgotten a minute after its last wrong token, or earlier if there are many.
    """

    __slots__ = ("_by_network", "count")

    def __init__(self) -> None:
        self.count = 0
        self._by_network: OrderedDict[str, _Guesser] = OrderedDict()

    def note(self, address: str, now: float) -> WrongToken:
        """A wrong token came from ``address``."""
        self.count += 1
        self._forget(now)
        network = network_of(address)
        guesser = self._by_network.setdefault(network, _Guesser(now))
        self._by_network.move_to_end(network)
        if len(self._by_network) > _MAX_ADDRESSES:
            self._by_network.popitem(last=False)
        guesser.last = now
        guesser.count += 1
        guesses = guesser.count > FREE
        is_reported = guesses and now - guesser.reported_at >= _FORGET_S
        if is_reported:
            guesser.reported_at = now
        return WrongToken(guesser.count, DELAY_S if guesses else 0.0, is_reported)

    def _forget(self, now: float) -> None:
        while self._by_network:
            oldest = next(iter(self._by_network.values()))
            if now - oldest.last < _FORGET_S:
                return
            self._by_network.popitem(last=False)
