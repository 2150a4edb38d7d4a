"""What must hold between the keys of those who share, and of the routes they take."""

from __future__ import annotations

from collections.abc import Iterator

from exai_actors.daemon.config.allowed import did_you_mean
from exai_actors.daemon.config.model import AccessConfig, RouteConfig
from exai_actors.daemon.config.provider import ProviderConfig
from exai_actors.daemon.config.rules import VARIABLE, Finding
from exai_actors.daemon.config.toml_lines import KeyPath


def access_findings(access: tuple[AccessConfig, ...]) -> Iterator[Finding]:
    """Each entry has a name of its own and one token; a tenant has one weight."""
    names: set[str] = set()
    weights: dict[str, tuple[str, float]] = {}
    for index, entry in enumerate(access):
        path: KeyPath = ("access", index)
        if entry.name in names:
            yield Finding((*path, "name"), f'"{entry.name}" names another entry; names are unique')
        names.add(entry.name)
        if entry.token_env and entry.token_file:
            yield Finding(
                (*path, "token_file"),
                "token_env is set as well; keep one of token_env and token_file",
            )
        elif not (entry.token_env or entry.token_file):
            yield Finding(path, "has no token; set token_env or token_file")
        elif entry.token_env and not VARIABLE.fullmatch(entry.token_env):
            yield Finding(
                (*path, "token_env"),
                "is the name of an environment variable (letters, digits, _), not the token "
                'itself; put the token into one and name it: token_env = "EXAI_BATCH_TOKEN"',
            )
        first, weight = weights.setdefault(entry.tenant_name, (entry.name, entry.weight))
        if weight != entry.weight:
            yield Finding(
                (*path, "weight"),
                f'tenant "{entry.tenant_name}" has weight {weight:g} in entry "{first}" already; '
                "a tenant has one weight",
            )


def route_findings(
    routes: tuple[RouteConfig, ...], providers: tuple[ProviderConfig, ...]
) -> Iterator[Finding]:
    """Each route has a name of its own and leads to models that may be there."""
    names = {provider.name for provider in providers}
    models = {model for provider in providers for model in provider.models}
    routes_only = {route.model for route in routes} - models
    routed: set[str] = set()
    for index, route in enumerate(routes):
        path: KeyPath = ("route", index)
        if route.model in routed:
            yield Finding((*path, "model"), f'"{route.model}" names another route already')
        routed.add(route.model)
        for at, target in enumerate(route.to):
            if target in route.to[:at]:
                yield Finding((*path, "to", at), f'"{target}" is listed twice; remove one')
            elif target in routes_only:
                yield Finding(
                    (*path, "to", at),
                    f'"{target}" is a route, and no route leads to a route; name its models here '
                    f'(a model of that name is "provider/{target}")',
                )
            elif fault := _target_fault(target, names, providers):
                yield Finding((*path, "to", at), fault)


def _target_fault(target: str, names: set[str], providers: tuple[ProviderConfig, ...]) -> str:
    """Only where a provider lists its models is it known what there is."""
    prefix, slash, model = target.partition("/")
    if slash and prefix in names:
        listed = next(provider.models for provider in providers if provider.name == prefix)
        if listed and model not in listed and target not in listed:
            hint = did_you_mean(model, listed) or f"; it serves {', '.join(listed)}"
            return f'provider "{prefix}" does not serve "{model}"{hint}'
        return ""
    models = [model for provider in providers for model in provider.models]
    if target in models or not all(provider.models for provider in providers):
        return ""
    hint = did_you_mean(target, models) or f"; there are {', '.join(models)}"
    return f'no provider serves "{target}"{hint}'
