"""Change a provider of a running broker from outside its actors."""

from __future__ import annotations

from exai_actors.core.capacity.changes import Change
from exai_actors.errors import UsageError
from exai_actors.messages.provider import ChangeProvider
from exai_actors.runtime import ActorDeadError, PathRef, Timeout

REPLY_WITHIN_S = 5.0


async def change_provider(provider: PathRef, change: Change, cause: str) -> None:
    """Put a change in force; ``cause`` is recorded with it.

    Raises UsageError if the provider refuses the change or does not reply in time.
    """
    ref = provider.resolve()
    if ref is None:
        raise UsageError(f"{provider.path} is not running; try again in a moment")
    request = ChangeProvider(change, cause)
    try:
        problem = await ref.ask(request, block=False, timeout=REPLY_WITHIN_S)
    except (ActorDeadError, Timeout):
        raise UsageError(f"{provider.path} did not reply; look at its statistics") from None
    if problem is not None:
        raise UsageError(problem)
