"""Which sessions wait for a provider that has no actor at the moment."""

from __future__ import annotations

from collections.abc import Mapping

from exai_actors.ids import ProviderName
from exai_actors.messages.recipient import Recipient
from exai_actors.messages.session import ProviderDecided
from exai_actors.runtime import PathRef


class AwaitedProviders:
    """The sessions that wait for the next incarnation of a provider. Loop thread only."""

    def __init__(self, providers: Mapping[ProviderName, PathRef]) -> None:
        self._providers = providers
        self._absent: set[ProviderName] = set()
        self._waiting: dict[ProviderName, list[Recipient[ProviderDecided]]] = {}

    def wait(self, provider: ProviderName, session: Recipient[ProviderDecided]) -> None:
        """Send the session ProviderDecided once the provider has an actor, or will not soon."""
        if provider in self._absent or self._providers[provider].resolve() is not None:
            session.tell(ProviderDecided(provider))
        else:
            self._waiting.setdefault(provider, []).append(session)

    def started(self, provider: ProviderName) -> None:
        """The provider has an actor."""
        self._absent.discard(provider)
        self._decide(provider)

    def absent(self, provider: ProviderName) -> None:
        """The provider has no actor for now, and will not have one soon."""
        self._absent.add(provider)
        self._decide(provider)

    def _decide(self, provider: ProviderName) -> None:
        for session in self._waiting.pop(provider, ()):
            session.tell(ProviderDecided(provider))
