"""The containers of a provider actor that are not empty although all its calls have ended."""

from __future__ import annotations

from typing import cast

from exai_actors.actors.provider.actor import ProviderActor
from exai_actors.actors.provider.call import NO_SESSION
from exai_actors.testing.tree import ManualTree
from tests.core.capacity.dispatching import left_in


def provider_of(tree: ManualTree, name: str = "kimi") -> ProviderActor:
    """The present incarnation of a provider actor."""
    return cast(ProviderActor, tree.actor(f"/providers/{name}")._actor_weakref())


def left_in_provider(tree: ManualTree, name: str = "kimi", *, sessions_ended: bool) -> list[str]:
    """The names of what is left; records of sessions too, if all of them have ended."""
    provider = provider_of(tree, name)
    left = left_in(provider._dispatcher)
    if provider._coalescing:
        left.append("calls to join")
    if sessions_ended:
        left += [f"watch of {session}" for session in provider._watched]
        left += [
            f"flow of {session}"
            for pool in provider._dispatcher.pools
            for tenant in pool.queue._tenants.values()
            for session in tenant.flows
            if session != NO_SESSION
        ]
    return left
