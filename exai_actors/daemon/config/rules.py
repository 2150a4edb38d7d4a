"""What must hold between keys, beyond the type and range of each one."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from exai_actors.daemon.config.provider_tables import OpenAIProvider, ProviderConfig
from exai_actors.daemon.config.tables import (
    TOKEN_MIN_LENGTH,
    AccessConfig,
    ChatConfig,
    CompatConfig,
    RouteConfig,
    ServerConfig,
)
from exai_actors.daemon.config.toml_lines import KeyPath
from exai_actors.daemon.config.wording import did_you_mean
from exai_actors.ids import ProviderName

HOW_TO_MAKE_ONE = 'python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ORIGIN = re.compile(r"[a-z][a-z0-9+.\-]*://[^/\s?#]+")


class Finding(NamedTuple):
    """The key at fault and what to do about it."""

    path: KeyPath
    message: str


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``; a name other than localhost counts as not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_bare_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return not any(char in "[]/:" or char.isspace() for char in host)
    return True


def token_faults(token: str) -> str:
    """Why ``token`` cannot be used, never showing it; empty if it can."""
    if any(not 33 <= ord(char) <= 126 for char in token):
        return "a token holds only printable ASCII characters and no blanks"
    if len(token) < TOKEN_MIN_LENGTH:
        return (
            f"the token has {len(token)} characters, at least {TOKEN_MIN_LENGTH} are needed; "
            f"make one with: {HOW_TO_MAKE_ONE}"
        )
    return ""


def server_findings(server: ServerConfig, access: tuple[AccessConfig, ...]) -> Iterator[Finding]:
    if server.token and (fault := token_faults(server.token)):
        yield Finding(("server", "token"), fault)
    if not _is_bare_host(server.host):
        yield Finding(
            ("server", "host"),
            f'"{" ".join(server.host.split())}" is not an address to listen on; write it without '
            'scheme, port, brackets and blanks: "127.0.0.1" or "::1"',
        )
    elif not (server.token or server.token_file or access or is_loopback(server.host)):
        yield Finding(
            ("server", "host"),
            f'"{server.host}" can be reached from other machines, so a token is needed: set '
            "[server] token_file or EXAI_WS_TOKEN, or listen on 127.0.0.1",
        )
    for index, origin in enumerate(server.allowed_origins):
        if not ORIGIN.fullmatch(origin):
            yield Finding(
                ("server", "allowed_origins", index),
                f'"{origin}" is not an origin; write scheme and host as browsers send them, '
                'without a path or a last slash: "https://desk.example"',
            )
    for index, host in enumerate(server.allowed_hosts):
        if "/" in host or any(char.isspace() for char in host):
            yield Finding(
                ("server", "allowed_hosts", index),
                f'"{host}" is not a host name; write it without scheme and path: "desk.example"',
            )


def provider_findings(providers: tuple[ProviderConfig, ...]) -> Iterator[Finding]:
    names: dict[str, int] = {}
    for index, provider in enumerate(providers):
        path: KeyPath = ("provider", index)
        if provider.name in names:
            yield Finding(
                (*path, "name"),
                f'"{provider.name}" is already the name of provider {names[provider.name] + 1}; '
                "names are unique",
            )
        names.setdefault(provider.name, index)
        for at, model in enumerate(provider.models):
            if model in provider.models[:at]:
                yield Finding((*path, "models", at), f'"{model}" is listed twice; remove one')
        if isinstance(provider, OpenAIProvider):
            yield from _openai_findings(provider, path)


def _openai_findings(provider: OpenAIProvider, path: KeyPath) -> Iterator[Finding]:
    if fault := _url_fault(provider.base_url):
        yield Finding((*path, "base_url"), fault)
    if provider.api_key_env and not VARIABLE.fullmatch(provider.api_key_env):
        yield Finding(
            (*path, "api_key_env"),
            "is the name of an environment variable (letters, digits, _), not the key itself; "
            'put the key into one and name it: api_key_env = "MY_KEY"',
        )


def _url_fault(url: str) -> str:
    example = 'such as "https://api.example/v1"'
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return f"is not a URL; write scheme, host and path, {example}"
    if parts.username or parts.password:
        return "must not hold a user name or password; use api_key_env"
    if parts.scheme not in ("http", "https") or not host:
        return f'"{url}" must begin with http:// or https:// and name a host, {example}'
    if not _is_host(host):
        return f'"{url}" names a host that cannot be: "{host}"'
    if parts.query or parts.fragment:
        return "must end with its path, without ? or #; a key belongs into api_key_env"
    if parts.path.rstrip("/").endswith("/chat/completions"):
        return f'"{url}" names one call; end it before /chat/completions'
    return ""


def _is_host(host: str) -> bool:
    """Whether a name has letters between its dots, none too many, and no space."""
    try:
        return bool(host.encode("idna")) and not any(letter.isspace() for letter in host)
    except UnicodeError:
        return False


def compat_findings(compat: CompatConfig, server: ServerConfig) -> Iterator[Finding]:
    if not compat.http:
        return
    ports = {"[server] port": server.port} if server.port else {}
    for key in ("http_health_port", "http_monitor_port"):
        port = getattr(compat, key)
        taken = [name for name, other in ports.items() if other == port]
        if taken:
            yield Finding(("compat", key), f"{port} is {taken[0]} already; each needs its own port")
        if port:
            ports[key] = port


def key_findings(
    providers: tuple[ProviderConfig, ...], env: Mapping[str, str]
) -> tuple[dict[ProviderName, str], list[Finding]]:
    """The API keys from the environment, and a finding for each that is named but not there."""
    keys: dict[ProviderName, str] = {}
    findings: list[Finding] = []
    for index, provider in enumerate(providers):
        if not isinstance(provider, OpenAIProvider) or not provider.api_key_env:
            continue
        path: KeyPath = ("provider", index, "api_key_env")
        variable = provider.api_key_env
        key = env.get(variable, "").strip()
        if not key:
            findings.append(
                Finding(
                    path,
                    f'the environment variable {variable}, with the key of "{provider.name}", '
                    f"is not set; set it: export {variable}=...",
                )
            )
        elif any(not 33 <= ord(char) <= 126 for char in key):
            findings.append(
                Finding(path, f"the key in {variable} has blanks or other odd characters")
            )
        else:
            keys[ProviderName(provider.name)] = key
    return keys, findings


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


def chat_findings(
    chat: ChatConfig, providers: tuple[ProviderConfig, ...], routes: tuple[RouteConfig, ...]
) -> Iterator[Finding]:
    """Only where every provider lists its models is it known what there is to choose from."""
    if not chat.default_model or not all(provider.models for provider in providers):
        return
    models = list(dict.fromkeys(model for provider in providers for model in provider.models))
    models += [route.model for route in routes]
    named = [f"{provider.name}/{model}" for provider in providers for model in provider.models]
    if chat.default_model not in [*models, *named]:
        hint = did_you_mean(chat.default_model, models) or f"; there are {', '.join(models)}"
        yield Finding(("chat", "default_model"), f'no provider serves "{chat.default_model}"{hint}')


def provider_warnings(providers: tuple[ProviderConfig, ...]) -> Iterator[Finding]:
    """What can be run but is hardly meant."""
    for index, provider in enumerate(providers):
        if isinstance(provider, OpenAIProvider) and provider.api_key_env:
            parts = urlsplit(provider.base_url)
            if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
                yield Finding(
                    ("provider", index, "base_url"),
                    f'the key travels unencrypted to "{parts.hostname}"; use https',
                )
