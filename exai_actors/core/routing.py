"""Finds the provider that serves a model, and its fallbacks."""

from __future__ import annotations

from typing import assert_never

import msgspec

from exai_actors.core.calls import FailureKind, UpstreamFailure
from exai_actors.ids import ProviderName

AUTO = "auto"
"""The name under which old clients ask for the default model."""


class RouteSettings(msgspec.Struct, frozen=True):
    """One configured route: a name for several models, tried in order.

    ``to`` are models as a client may name them (``provider/model`` or ``model``). The next one is
    tried when one fails for a reason in ``on``. ``responses_by_chat``: its targets may serve
    Responses by chat completions.
    """

    model: str
    to: tuple[str, ...]
    on: tuple[str, ...]
    responses_by_chat: bool = False


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

    A provider without models that is not in ``listed`` has not named its models yet, perhaps
    because its service refuses the key. Nothing is concluded from that: such a provider may serve
    every model that no other one serves, and requests for it fail there, with the service's words.
    ``others`` are providers that exist, but not in this table.
    """

    __slots__ = (
        "_by_name",
        "_configured_default",
        "_listed",
        "_others",
        "_settings",
        "_unlisted",
        "default_model",
        "default_provider",
        "offers",
        "routes",
    )

    def __init__(
        self,
        offers: tuple[tuple[ProviderName, tuple[str, ...]], ...],
        default_model: str = "",
        routes: tuple[RouteSettings, ...] = (),
        listed: frozenset[ProviderName] = frozenset(),
        others: frozenset[ProviderName] = frozenset(),
    ) -> None:
        self.offers = offers
        self._others = others
        self._listed = listed
        self._unlisted = tuple(
            provider for provider, models in offers if not models and provider not in listed
        )
        served = [(provider, model) for provider, models in offers for model in models]
        self._by_name: dict[str, Route] = {}
        for provider, model in served:
            self._by_name.setdefault(model, Route(provider, model))
        for provider, model in served:
            self._by_name.setdefault(f"{provider}/{model}", Route(provider, model))
        self._settings = routes
        targets = {settings.model: self._targets(settings) for settings in routes}
        self.routes: tuple[tuple[str, tuple[Route, ...]], ...] = tuple(
            (name, found) for name, found in targets.items() if found
        )
        """Each route's name with those of its targets that may be served, in order."""
        for name, found in self.routes:
            self._by_name[name] = found[0]
        self._configured_default = default_model
        self.default_model = default_model or self._first_model()
        """The configured default, or the first model of the first provider; None while unknown."""
        self.default_provider = next(
            (name for name, models in offers if models or name in self._unlisted), None
        )
        """The provider of the default model, unless one is configured."""

    def find(self, model: str | None) -> Route | None:
        """The route of ``model``; None if no provider has it.

        None, and AUTO unless something has that name, mean the default model.
        """
        if model is not None:
            found = self._by_name.get(model)
            if found is not None:
                return found
            if model != AUTO:
                return self._of_unlisted(model) if self._unlisted else None
        model = self.default_model
        if model is None:
            return None
        found = self._by_name.get(model)
        return found if found is not None or not self._unlisted else self._of_unlisted(model)

    def is_default(self, model: str | None) -> bool:
        """Whether this is no model's name but the request for the default model."""
        return model is None or (model == AUTO and AUTO not in self._by_name)

    def models(self) -> tuple[str, ...]:
        """Each model name once, in the order of the configuration, then the routes."""
        names = [model for _, models in self.offers for model in models]
        return tuple(dict.fromkeys(names + [name for name, _ in self.routes]))

    def with_models(self, provider: ProviderName, models: tuple[str, ...]) -> RoutingTable:
        """The same table, except that ``provider`` serves ``models``."""
        offers = tuple((name, models if name == provider else known) for name, known in self.offers)
        listed = self._listed | {provider}
        return RoutingTable(offers, self._configured_default, self._settings, listed, self._others)

    def only(self, providers: frozenset[ProviderName]) -> RoutingTable:
        """The same table without the models of other providers."""
        if all(name in providers for name, _ in self.offers):
            return self
        offers = tuple((name, models) for name, models in self.offers if name in providers)
        others = self._others | {name for name, _ in self.offers if name not in providers}
        return RoutingTable(offers, self._configured_default, self._settings, self._listed, others)

    def with_translated_routes(self, chats: RoutingTable) -> RoutingTable:
        """The same table, with the routes of ``chats`` that may serve Responses by chat."""
        names = {settings.model for settings in self._settings if settings.responses_by_chat}
        borrowed = {name: found for name, found in chats.routes if name in names}
        if not borrowed:
            return self
        table = RoutingTable(
            self.offers, self._configured_default, self._settings, self._listed, self._others
        )
        table._by_name |= {name: found[0] for name, found in borrowed.items()}
        table.routes = tuple((dict(self.routes) | borrowed).items())
        return table

    def _first_model(self) -> str | None:
        for provider, models in self.offers:
            if models:
                return models[0]
            if provider in self._unlisted:
                # Another provider's model would hide that this one is not usable.
                return None
        return None

    def _of_unlisted(self, name: str) -> Route | None:
        """``provider/model`` at a provider that has not named its models."""
        prefix, slash, model = name.partition("/")
        provider = ProviderName(prefix)
        return Route(provider, model) if slash and model and provider in self._unlisted else None

    def _targets(self, settings: RouteSettings) -> tuple[Route, ...]:
        """The targets of a route, each with the next one as its fallback."""
        found = dict.fromkeys(filter(None, map(self._target, settings.to)))
        targets: list[Route] = []
        for target in reversed(found):
            fallback = targets[-1] if targets else None
            reasons = frozenset(settings.on) if fallback else frozenset()
            targets.append(Route(target.provider, target.model, fallback, reasons))
        return tuple(reversed(targets))

    def _target(self, name: str) -> Route | None:
        served = self._by_name.get(name) or self._of_unlisted(name)
        if served is None and self._unlisted and name.partition("/")[0] not in self._names():
            # A bare name: leaving it out would hide a refused key behind the next target.
            return Route(self._unlisted[0], name)
        return served

    def _names(self) -> set[str]:
        return {provider for provider, _ in self.offers} | self._others


BUSY = "busy"
"""The reason that covers every wait: for a permit, a gate, a hold, a circuit or an operator."""


def leaves_for(reason: str | None, reasons: frozenset[str], *, would_wait: bool) -> bool:
    """Whether a request that failed for ``reason``, or would wait here, goes to a fallback."""
    return reason in reasons or (would_wait and BUSY in reasons)


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
            | FailureKind.MODEL_NOT_FOUND
        ):
            return failure.kind.value
        case FailureKind.NOT_FOUND | FailureKind.REJECTED | FailureKind.TOO_LARGE:
            return None
        case _:
            assert_never(failure.kind)
