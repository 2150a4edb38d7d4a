"""Finds the provider that serves a model, and its fallbacks."""

from __future__ import annotations

from typing import assert_never

import msgspec

from exai_actors.core.calls import FailureKind, UpstreamFailure
from exai_actors.ids import ProviderName


class RouteSettings(msgspec.Struct, frozen=True):
    """One configured route: a name for several models, tried in order.

    ``to`` are models as a client may name them (``provider/model`` or ``model``). The next one is
    tried when one fails for a reason in ``on``.
    """

    model: str
    to: tuple[str, ...]
    on: tuple[str, ...]


class Route(msgspec.Struct, frozen=True, gc=False):
    """A provider, and the model's name as that provider knows it.

    A request that fails here for one of ``fallback_reasons`` goes to ``fallback``.
    """

    provider: ProviderName
    model: str
    fallback: Route | None = None
    fallback_reasons: frozenset[str] = frozenset()


class RoutingTable:
    """Immutable table of the models that providers serve.

    ``offers`` lists the providers in the order of the configuration, each with its models. A bare
    model name selects the first provider that serves it, ``provider/model`` a certain provider. A
    configured route's name selects its first target that is served, with the others as fallbacks.
    A route hides a model of the same name, which ``provider/model`` still selects. The targets of a
    route are models, never routes.
    """

    __slots__ = (
        "_by_name",
        "_configured_default",
        "_settings",
        "default_model",
        "offers",
        "routes",
    )

    def __init__(
        self,
        offers: tuple[tuple[ProviderName, tuple[str, ...]], ...],
        default_model: str = "",
        routes: tuple[RouteSettings, ...] = (),
    ) -> None:
        self.offers = offers
        served = [(provider, model) for provider, models in offers for model in models]
        self._by_name: dict[str, Route] = {}
        for provider, model in served:
            self._by_name.setdefault(model, Route(provider, model))
        for provider, model in served:
            self._by_name.setdefault(f"{provider}/{model}", Route(provider, model))
        self._settings = routes
        self.routes: tuple[tuple[str, tuple[Route, ...]], ...] = tuple(
            (settings.model, targets)
            for settings in routes
            if (targets := _targets(settings, self._by_name))
        )
        """Each route's name with those of its targets that are served, in order."""
        for name, targets in self.routes:
            self._by_name[name] = targets[0]
        self._configured_default = default_model
        self.default_model = default_model or (served[0][1] if served else None)
        """The configured default, or the first model of the first provider that has one."""

    def find(self, model: str | None) -> Route | None:
        """The route of ``model``, or of the default model for None; None if no provider has it."""
        if model is None:
            model = self.default_model
        return None if model is None else self._by_name.get(model)

    def models(self) -> tuple[str, ...]:
        """Each model name once, in the order of the configuration, then the routes."""
        names = [model for _, models in self.offers for model in models]
        return tuple(dict.fromkeys(names + [name for name, _ in self.routes]))

    def with_models(self, provider: ProviderName, models: tuple[str, ...]) -> RoutingTable:
        """The same table, except that ``provider`` serves ``models``."""
        offers = tuple((name, models if name == provider else known) for name, known in self.offers)
        return RoutingTable(offers, self._configured_default, self._settings)


def _targets(settings: RouteSettings, by_name: dict[str, Route]) -> tuple[Route, ...]:
    """The served targets of a route, each with the next one as its fallback."""
    served = dict.fromkeys(by_name[name] for name in settings.to if name in by_name)
    targets: list[Route] = []
    for target in reversed(served):
        fallback = targets[-1] if targets else None
        reasons = frozenset(settings.on) if fallback else frozenset()
        targets.append(Route(target.provider, target.model, fallback, reasons))
    return tuple(reversed(targets))


def fallback_reason(failure: UpstreamFailure) -> str | None:
    """The word for ``failure`` in the ``on`` of a route; None if no fallback may be tried.

    That is so when another provider would fail as well, or when the client already has pieces of
    an answer.
    """
    if failure.text_sent:
        return None
    match failure.kind:
        case FailureKind.CONNECT | FailureKind.BROKEN:
            return "unreachable"
        case FailureKind.SERVER_ERROR | FailureKind.MALFORMED | FailureKind.TRUNCATED:
            return "server_error"
        case (
            FailureKind.RATE_LIMITED
            | FailureKind.OVERLOADED
            | FailureKind.QUOTA
            | FailureKind.TIMEOUT
            | FailureKind.UNAUTHORIZED
        ):
            return failure.kind.value
        case FailureKind.NOT_FOUND | FailureKind.REJECTED | FailureKind.TOO_LARGE:
            return None
        case _:
            assert_never(failure.kind)
