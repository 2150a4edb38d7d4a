"""``exai serve`` whose actors fail on command: ``python -m tools.failing_broker serve ...``.

Each line of input is the name of an actor class and a number: after so many further messages to
actors of that class, one of them fails. Then ``failed NAME PATH`` is printed. Failures may be as
frequent as they like: the budgets of restarts are lifted, the backoffs are as always.
"""

from __future__ import annotations

import random
import sys
from threading import Thread
from typing import Any

from exai_actors.actors import tree
from exai_actors.actors.nurseries import RestartSettings
from exai_actors.core.supervision.specs import Backoff, OwnBudget
from exai_actors.daemon.cli.main import main
from exai_actors.runtime import LoopActor
from tools.failure_injector import When, failing

_ENDLESS = OwnBudget(1_000_000, 1.0)
_LIFTED = RestartSettings(
    backoff=Backoff(min_s=0.1, max_s=0.8, jitter=0.2, reset_after_s=0.2, free=1),
    provider=_ENDLESS,
    session=_ENDLESS,
    root_intensity=1_000_000,
)


class Orders:
    """The failure that is ordered, if any."""

    def __init__(self) -> None:
        self._kind = ""
        self._left = 0

    def read(self) -> None:
        """Take orders until the input ends."""
        for line in sys.stdin:
            kind, number = line.split()
            self._left = int(number)
            self._kind = kind

    def choose(self, actor: LoopActor, _: Any) -> When | None:
        if type(actor).__name__ != self._kind:
            return None
        self._left -= 1
        if self._left > 0:
            return None
        self._kind = ""
        print(f"failed {type(actor).__name__} {actor.path}", flush=True)
        return random.choice(("before", "after"))


if __name__ == "__main__":
    setattr(tree, "RestartSettings", lambda: _LIFTED)  # noqa: B010
    orders = Orders()
    Thread(target=orders.read, daemon=True).start()
    with failing(orders.choose):
        main()
