"""Ask a provider of a running broker for a change, from outside of the actors."""

from __future__ import annotations

import asyncio

from exai_actors.core.capacity.changes import Change
from exai_actors.errors import UsageError
from exai_actors.messages.provider import ChangeProvider, ProviderChanged
from exai_actors.messages.recipient import Offer
from exai_actors.runtime import PathRef

ANSWER_WITHIN_S = 5.0


class _Answer:
    """Takes the one answer. Told on the loop's thread, as every actor's message is."""

    def __init__(self) -> None:
        self.told: asyncio.Future[ProviderChanged] = asyncio.get_running_loop().create_future()

    def tell(self, message: ProviderChanged) -> None:
        if not self.told.done():
            self.told.set_result(message)

    def tell_system(self, message: ProviderChanged) -> None:
        self.tell(message)

    def offer(self, message: ProviderChanged) -> Offer:
        self.tell(message)
        return Offer.ACCEPTED


async def change_provider(provider: PathRef, change: Change, cause: str) -> None:
    """Put a change in force; ``cause`` is kept with it as an event.

    Raises UsageError when the change makes no sense or the provider does not answer in time.
    """
    living = provider.resolve()
    if living is None:
        raise UsageError(f"{provider.path} is not running; try again in a moment")
    answer = _Answer()
    living.tell_system(ChangeProvider(change, cause, answer))
    try:
        told = await asyncio.wait_for(answer.told, ANSWER_WITHIN_S)
    except TimeoutError:
        raise UsageError(f"{provider.path} gave no answer; look at its statistics") from None
    if told.problem is not None:
        raise UsageError(told.problem)
