"""The actions on providers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from exai_actors.console.actions import Actions, Plan
from exai_actors.core.capacity.changes import Pause, Reopen
from exai_actors.core.operations.action import Action, ActionError
from exai_actors.core.operations.provider_effects import ModeChange, effect_of
from exai_actors.core.operators import Role
from exai_actors.core.statistics import BrokerStatistics, ProviderStatistics
from exai_actors.ids import ProviderName
from exai_actors.messages.provider import ChangeProvider
from exai_actors.runtime import LoopFuture, PathRef

REPLY_WITHIN_S = 5.0

_CHANGES: tuple[tuple[Action, Callable[[Mapping[str, Any]], ModeChange]], ...] = (
    (
        Action(
            "provider.pause",
            "Pause",
            "providers",
            Role.OPERATOR,
            "Grant no call until it is resumed; requests wait.",
        ),
        lambda _: Pause(),
    ),
    (
        Action(
            "provider.resume",
            "Resume",
            "providers",
            Role.OPERATOR,
            "End a pause, a drain and all holds.",
        ),
        lambda _: Reopen(),
    ),
)


class ProviderActions:
    """Makes changes of providers by message."""

    def __init__(
        self,
        providers: Mapping[ProviderName, PathRef],
        statistics: Callable[[], BrokerStatistics],
    ) -> None:
        self._providers = providers
        self._statistics = statistics

    def register(self, actions: Actions) -> None:
        for action, change_of in _CHANGES:
            actions.add(action, lambda *args, change_of=change_of: self._plan(change_of, *args))

    def _plan(
        self,
        change_of: Callable[[Mapping[str, Any]], ModeChange],
        target: str,
        arguments: Mapping[str, Any],
    ) -> Plan:
        provider = self._find(target)
        change = change_of(arguments)

        def carry_out(cause: str) -> LoopFuture[Any]:
            ref = self._providers[ProviderName(target)].resolve()
            if ref is None:
                raise ActionError(f"{target} is not running; try again in a moment")
            return ref.ask(ChangeProvider(change, cause), block=False, timeout=REPLY_WITHIN_S)

        return Plan(effect_of(change, provider), carry_out)

    def _find(self, name: str) -> ProviderStatistics:
        for provider in self._statistics().providers:
            if provider.name == name:
                return provider
        known = ", ".join(self._providers)
        raise ActionError(f"there is no provider '{name}'; choose from {known}", "unknown")
