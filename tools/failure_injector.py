"""Makes actors fail at chosen messages, before or after they handled them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from exai_actors.actors.broker import BrokerActor
from exai_actors.actors.connection.actor import ConnectionActor
from exai_actors.actors.http_exchange.actor import HttpExchangeActor
from exai_actors.actors.provider.actor import ProviderActor
from exai_actors.actors.session.actor import SessionActor
from exai_actors.console.actor import ConsoleActor
from exai_actors.runtime import LoopActor, SupervisorActor

KINDS: tuple[type[LoopActor], ...] = (
    ConnectionActor,
    HttpExchangeActor,
    SessionActor,
    ProviderActor,
    BrokerActor,
    SupervisorActor,
    ConsoleActor,
)
When = Literal["before", "after"]
Choose = Callable[[LoopActor, Any], When | None]


class InjectedFailure(Exception):
    """A failure that was made on purpose."""


@contextmanager
def failing(choose: Choose, kinds: Iterable[type[LoopActor]] = KINDS) -> Iterator[Counter[str]]:
    """While the block runs, ``choose`` decides at each message of these actors whether it fails.

    Gives the number of failures by the class of the actor.
    """
    failures: Counter[str] = Counter()
    originals = {kind: kind.on_receive for kind in kinds}
    for kind, original in originals.items():
        setattr(kind, "on_receive", _failing(original, choose, failures))  # noqa: B010
    try:
        yield failures
    finally:
        for kind, original in originals.items():
            setattr(kind, "on_receive", original)  # noqa: B010


def _failing(
    original: Callable[[Any, Any], Any], choose: Choose, failures: Counter[str]
) -> Callable[[Any, Any], Any]:
    def on_receive(actor: LoopActor, message: Any) -> Any:
        when = choose(actor, message)
        if when == "before":
            _fail(actor, message, failures)
        result = original(actor, message)
        if when == "after":
            _fail(actor, message, failures)
        return result

    return on_receive


def _fail(actor: LoopActor, message: Any, failures: Counter[str]) -> None:
    failures[type(actor).__name__] += 1
    raise InjectedFailure(f"at {type(message).__name__}")
