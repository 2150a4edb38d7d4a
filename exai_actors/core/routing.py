"""Which provider serves a model, and which others may serve it when that one does not."""

from __future__ import annotations

from typing import assert_never

import msgspec

from exai_actors.core.calls import FailureKind, UpstreamFailure
from exai_actors.core.route_settings import RouteSettings
from exai_actors.ids import ProviderName


class Route(msgspec.Struct, frozen=True, gc=False):
    """A provider and the model's name as that provider knows it.

    ``otherwise`` is where the request goes when this one fails for one of the reasons ``on``, of
    which the last has none.
    """

    provider: ProviderName
    model: str
    otherwise: Route | None = None
    on: frozenset[str] = frozenset()


class RoutingTable:
    """An immutable view of who serves what.

    ``offers`` holds providers in the order of the configuration, each with its models. A plain
    model name goes to the first provider that serves it; ``provider/model`` names one directly.
    A name of ``routes`` goes to the first of its targets and from there on to the others; targets
    that nobody serves at present are passed over. A route hides a model of the same name, which
    can still be named with its provider; no route leads to another route.
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
        self._by_name: dict[str, Route] = {}
        for provider, models in offers:
            for model in models:
                self._by_name.setdefault(model, Route(provider, model))
        for provider, models in offers:
            for model in models:
                self._by_name.setdefault(f"{provider}/{model}", Route(provider, model))
        self._settings = routes
        self.routes: tuple[tuple[str, tuple[Route, ...]], ...] = self._resolve(routes)
        """Each route's name with those of its targets that are served, in order."""
        for name, targets in self.routes:
            self._by_name[name] = targets[0]
        self._configured_default = default_model
        self.default_model = default_model or next(
            (models[0] for _, models in offers if models), None
        )
        """The configured default, or else the first model of the first provider that has one."""

    def find(self, model: str | None) -> Route | None:
        """The route of a model, or of the default model for None."""
        if model is None:
            model = self.default_model
            if model is None:
                return None
        return self._by_name.get(model)

    def models(self) -> tuple[str, ...]:
        """Each model name once, in the order of the configuration, the routes behind the others."""
        names = [model for _, models in self.offers for model in models]
        return tuple(dict.fromkeys(names + [name for name, _ in self.routes]))

    def with_models(self, provider: ProviderName, models: tuple[str, ...]) -> RoutingTable:
        """The same table with another list of models for one provider."""
        offers = tuple((name, models if name == provider else known) for name, known in self.offers)
        return RoutingTable(offers, self._configured_default, self._settings)

    def _resolve(
        self, routes: tuple[RouteSettings, ...]
    ) -> tuple[tuple[str, tuple[Route, ...]], ...]:
        resolved = []
        for settings in routes:
            served = dict.fromkeys(
                self._by_name[name] for name in settings.to if name in self._by_name
            )
            on = frozenset(settings.on)
            targets: list[Route] = []
            for target in reversed(served):
                following = targets[-1] if targets else None
                reasons = on if following else frozenset()
                targets.append(Route(target.provider, target.model, following, reasons))
            if targets:
                resolved.append((settings.model, tuple(reversed(targets))))
        return tuple(resolved)


def reason_of(failure: UpstreamFailure) -> str | None:
    """The word for a failure in the ``on`` of a route.

    None for one that no other target may mend: the request is wrong or its answer too large, or
    pieces of an answer were already handed on.
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
