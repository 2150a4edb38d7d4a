"""Which provider serves a model."""

from __future__ import annotations

import msgspec

from exai_actors.ids import ProviderName


class Route(msgspec.Struct, frozen=True, gc=False):
    """A provider and the model's name as that provider knows it."""

    provider: ProviderName
    model: str


class RoutingTable:
    """An immutable view of who serves what.

    ``offers`` holds providers in the order of the configuration, each with its models. A plain
    model name goes to the first provider that serves it; ``provider/model`` names one directly.
    """

    __slots__ = ("_by_name", "_configured_default", "default_model", "offers")

    def __init__(
        self, offers: tuple[tuple[ProviderName, tuple[str, ...]], ...], default_model: str = ""
    ) -> None:
        self.offers = offers
        self._by_name: dict[str, Route] = {}
        for provider, models in offers:
            for model in models:
                self._by_name.setdefault(model, Route(provider, model))
        for provider, models in offers:
            for model in models:
                self._by_name.setdefault(f"{provider}/{model}", Route(provider, model))
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
        """Each model name once, in the order of the configuration."""
        return tuple(dict.fromkeys(model for _, models in self.offers for model in models))

    def with_models(self, provider: ProviderName, models: tuple[str, ...]) -> RoutingTable:
        """The same table with another list of models for one provider."""
        offers = tuple((name, models if name == provider else known) for name, known in self.offers)
        return RoutingTable(offers, self._configured_default)
