"""The models that a provider serves: as configured, or as its service lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from exai_actors.core.calls import UpstreamFailure
from exai_actors.ids import ProviderName
from exai_actors.messages.broker import BrokerMessage, ProviderModels
from exai_actors.messages.provider import AskModels
from exai_actors.messages.recipient import Recipient

if TYPE_CHECKING:
    from exai_actors.actors.provider.settings import ProviderSettings
    from exai_actors.runtime import LoopActor

log = structlog.get_logger()


class ModelRefresh:
    """``trouble`` is why the service did not list its models, None if it did."""

    def __init__(
        self, owner: LoopActor, settings: ProviderSettings, broker: Recipient[BrokerMessage]
    ) -> None:
        self.names = settings.models
        self.trouble: str | None = None
        self._owner = owner
        self._settings = settings
        self._broker = broker
        self._attempt = 0
        self._is_listed = False

    def listed(self, models: tuple[str, ...]) -> None:
        """Note the list, and ask again after the configured interval."""
        self._attempt = 0
        self.trouble = None
        if models != self.names or not self._is_listed:
            # The first list is news even if it is empty: until then nothing was known.
            self._is_listed = True
            self.names = models
            self._broker.tell(ProviderModels(ProviderName(self._settings.name), models))
        self._owner.schedule(self._settings.models_refresh_s, AskModels())

    def unavailable(self, failure: UpstreamFailure) -> None:
        """Note the failure, and ask again after a delay that doubles each time."""
        delay_s = self._settings.models_retry_s * 2 ** min(self._attempt, 16)
        delay_s = min(delay_s, self._settings.models_refresh_s)
        self._attempt += 1
        self.trouble = failure.message
        log.warning(
            "provider.models_unavailable",
            provider=self._settings.name,
            cause=failure.message,
            retry_in_s=delay_s,
        )
        self._owner.schedule(delay_s, AskModels())
