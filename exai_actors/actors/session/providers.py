"""The providers as one session sees them: each by its present incarnation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from exai_actors.core.session.requests import ActiveRequest
from exai_actors.ids import ProviderName, SessionId
from exai_actors.messages.provider import CancelCall, PauseStream, ProviderMessage, ResumeStream
from exai_actors.messages.recipient import Recipient

if TYPE_CHECKING:
    from exai_actors.actors.directory import Directory
    from exai_actors.runtime import LoopRef


class SessionProviders:
    """``known`` may be looked into first: ``find`` asks the directory."""

    __slots__ = ("_directory", "_session", "known")

    def __init__(self, session: SessionId, directory: Directory) -> None:
        self._session = session
        self._directory = directory
        self.known: dict[ProviderName, Recipient[ProviderMessage]] = {}

    def find(self, name: ProviderName) -> LoopRef[Any] | None:
        """The provider's present incarnation, to be watched; a restarted one is found anew."""
        found = self._directory.providers[name].resolve()
        if found is not None:
            self.known[name] = found
        return found

    def forget(self, name: ProviderName) -> None:
        """This incarnation of the provider has ended."""
        del self.known[name]

    def withdraw(self, active: ActiveRequest) -> None:
        """The request's outcome is wanted no more; harmless for one that is at no provider."""
        if active.at_provider:
            self.known[active.route.provider].tell(CancelCall(active.request, self._session))

    def steer(
        self, streams: Iterable[ActiveRequest], is_read: Callable[[ActiveRequest], bool]
    ) -> None:
        """Let each stream run or rest as its reader can follow."""
        for active in streams:
            if active.stream and active.at_provider:
                message = ResumeStream if is_read(active) else PauseStream
                self.known[active.route.provider].tell(message(active.request, self._session))
