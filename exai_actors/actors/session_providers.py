"""The providers as one session sees them: each by its present incarnation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from exai_actors.core.session_requests import ActiveRequest
from exai_actors.ids import ProviderName, SessionId
from exai_actors.messages.provider import CancelWant, PauseStream, ProviderMessage, ResumeStream
from exai_actors.messages.recipient import Recipient

if TYPE_CHECKING:
    from exai_actors.actors.directory import Directory


class SessionProviders:
    """``known`` may be looked into first: ``find`` asks the directory.

    ``watch(provider, name)`` lets the session hear of a provider's end.
    """

    __slots__ = ("_directory", "_session", "_watch", "known")

    def __init__(
        self, session: SessionId, directory: Directory, watch: Callable[[Any, ProviderName], object]
    ) -> None:
        self._session = session
        self._directory = directory
        self._watch = watch
        self.known: dict[ProviderName, Recipient[ProviderMessage]] = {}

    def find(self, name: ProviderName) -> Recipient[ProviderMessage] | None:
        """The provider's present incarnation; a restarted one has to be found anew."""
        found = self._directory.providers[name].resolve()
        if found is not None:
            self._watch(found, name)
            self.known[name] = found
        return found

    def forget(self, name: ProviderName) -> None:
        """This incarnation of the provider has ended."""
        del self.known[name]

    def withdraw(self, active: ActiveRequest) -> None:
        """The request's outcome is wanted no more; harmless for one that is at no provider."""
        if active.at_provider:
            self.known[active.route.provider].tell(CancelWant(active.request, self._session))

    def steer(
        self, streams: Iterable[ActiveRequest], is_read: Callable[[ActiveRequest], bool]
    ) -> None:
        """Let each stream run or rest as its reader can follow."""
        for active in streams:
            if active.stream and active.at_provider:
                message = ResumeStream if is_read(active) else PauseStream
                self.known[active.route.provider].tell(message(active.request, self._session))
