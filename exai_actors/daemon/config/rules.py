"""Rules beyond the type and range of a single key: formats, uniqueness, references between keys."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from exai_actors.core.loopback import is_loopback
from exai_actors.daemon.config.observing_tables import AlarmsConfig, MetricsConfig, TracingConfig
from exai_actors.daemon.config.provider_tables import OpenAIProvider, ProviderConfig
from exai_actors.daemon.config.tables import (
    TOKEN_MIN_LENGTH,
    AccessConfig,
    ChatConfig,
    CompatConfig,
    OperatorConfig,
    RouteConfig,
    ServerConfig,
)
from exai_actors.daemon.config.toml_lines import KeyPath
from exai_actors.daemon.config.wording import suggestion
from exai_actors.ids import DEFAULT_TENANT_SHOWN, ProviderName

HOW_TO_GENERATE = 'python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Pages of desktop applications have the origin file:// or null.
ORIGIN = re.compile(r"[a-z][a-z0-9+.\-]*://[^/\s?#]+|file:///?|null")
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
# Headers that the broker sets itself, or that would change the meaning of a request.
OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class Finding(NamedTuple):
    """A key and the problem with it."""

    path: KeyPath
    message: str


def _is_bare_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return not any(char in "[]/:" or char.isspace() for char in host)
    return True


def token_error(token: str) -> str:
    """The reason why ``token`` cannot be used, without the token itself; empty if it can."""
    if any(not 33 <= ord(char) <= 126 for char in token):
        return "a token may contain only printable ASCII characters, no blanks"
    if len(token) < TOKEN_MIN_LENGTH:
        return (
            f"the token has {len(token)} characters but needs at least {TOKEN_MIN_LENGTH}; "
            f"generate one with: {HOW_TO_GENERATE}"
        )
    return ""


def server_findings(server: ServerConfig, access: tuple[AccessConfig, ...]) -> Iterator[Finding]:
    if server.token and (error := token_error(server.token)):
        yield Finding(("server", "token"), error)
    if not _is_bare_host(server.host):
        yield Finding(
            ("server", "host"),
            f'"{" ".join(server.host.split())}" is not an address to listen on; write it without '
            'scheme, port, brackets or blanks: "127.0.0.1" or "::1"',
        )
    elif not (server.token or server.token_file or access or is_loopback(server.host)):
        yield Finding(
            ("server", "host"),
            f'"{server.host}" is reachable from other machines, which requires a token: set '
            "[server] token_file or EXAI_WS_TOKEN, or listen on 127.0.0.1",
        )
    for index, origin in enumerate(server.allowed_origins):
        if not ORIGIN.fullmatch(origin):
            yield Finding(
                ("server", "allowed_origins", index),
                f'"{origin}" is not an origin; write scheme and host as browsers send them, '
                'without path or trailing slash: "https://desk.example"',
            )
    for index, host in enumerate(server.allowed_hosts):
        if "/" in host or any(char.isspace() for char in host):
            yield Finding(
                ("server", "allowed_hosts", index),
                f'"{host}" is not a host name; write it without scheme or path: "desk.example"',
            )


def provider_findings(providers: tuple[ProviderConfig, ...]) -> Iterator[Finding]:
    names: dict[str, int] = {}
    for index, provider in enumerate(providers):
        path: KeyPath = ("provider", index)
        if provider.name in names:
            yield Finding(
                (*path, "name"),
                f'provider {names[provider.name] + 1} is named "{provider.name}" as well; '
                "names must be unique",
            )
        names.setdefault(provider.name, index)
        for at, model in enumerate(provider.models):
            if model in provider.models[:at]:
                yield Finding((*path, "models", at), f'"{model}" is listed twice; remove one')
        if isinstance(provider, OpenAIProvider):
            yield from _openai_findings(provider, path)


def _openai_findings(provider: OpenAIProvider, path: KeyPath) -> Iterator[Finding]:
    if error := _url_error(provider.base_url):
        yield Finding((*path, "base_url"), error)
    for key, family in (("messages_base_url", "messages"), ("responses_base_url", "responses")):
        url = getattr(provider, key)
        if url and (error := _url_error(url)):
            yield Finding((*path, key), error)
        elif url and family not in provider.families:
            yield Finding((*path, key), f'is of no use unless families has "{family}"; add it')
    if urlsplit(provider.messages_base_url).path.rstrip("/").endswith("/v1"):
        yield Finding(
            (*path, "messages_base_url"),
            "is the URL before /v1/messages; remove /v1 at its end",
        )
    for at, name in enumerate(provider.families):
        if name in provider.families[:at]:
            yield Finding((*path, "families", at), f'"{name}" is listed twice; remove one')
    if provider.api_key_env and not VARIABLE.fullmatch(provider.api_key_env):
        yield Finding(
            (*path, "api_key_env"),
            "must be the name of an environment variable (letters, digits, _), not the key "
            'itself; put the key into a variable and name that: api_key_env = "MY_KEY"',
        )

    yield from _header_findings(provider, path)


def _header_findings(provider: OpenAIProvider, path: KeyPath) -> Iterator[Finding]:
    for key in ("api_key_header", "messages_api_key_header"):
        header = getattr(provider, key) or provider.api_key_header
        if not HEADER_NAME.fullmatch(header) or header.lower() in OWN_HEADERS:
            yield Finding((*path, key), f'"{header}" is no header for a key; such as "api-key"')
    key_headers = {
        each.lower() for each in (provider.api_key_header, provider.messages_api_key_header) if each
    }
    names: set[str] = set()
    for name, value in provider.headers.items():
        low = name.lower()
        if not HEADER_NAME.fullmatch(name):
            error = f'"{name}" is not the name of a header'
        elif low in OWN_HEADERS:
            error = f'"{name}" is set by the broker; remove it'
        elif low == "authorization" or (provider.api_key_env and low in key_headers):
            error = f'"{name}" holds the key, which belongs in the variable that api_key_env names'
        elif low in names:
            error = f'"{name}" is there twice, in other letters; remove one'
        elif not (value.isascii() and value.isprintable()) or value != value.strip():
            error = (
                f'no header can hold the value of "{name}": printable ASCII without outer spaces'
            )
        else:
            error = ""
        names.add(low)
        if error:
            yield Finding((*path, "headers"), error)


def _url_error(url: str) -> str:
    example = 'such as "https://api.example/v1"'
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return f"is not a URL; write scheme, host and path, {example}"
    if parts.username or parts.password:
        return "must not contain a user name or password; use api_key_env"
    if parts.scheme not in ("http", "https") or not host:
        return f'"{url}" must start with http:// or https:// and a host, {example}'
    if not _is_host(host):
        return f'"{url}" has an invalid host: "{host}"'
    if parts.query or parts.fragment:
        return "must not contain ? or #; a key belongs in api_key_env, other parameters in query"
    for call in ("/chat/completions", "/v1/messages", "/responses", "/embeddings"):
        if parts.path.rstrip("/").endswith(call):
            return f'"{url}" includes the path of a call; remove {call}'
    return ""


def _is_host(host: str) -> bool:
    """Whether ``host`` can be a host name: IDNA can encode it and it has no spaces."""
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
            yield Finding(
                ("compat", key), f"{port} is already used by {taken[0]}; choose another port"
            )
        if port:
            ports[key] = port


def key_findings(
    providers: tuple[ProviderConfig, ...], env: Mapping[str, str]
) -> tuple[dict[ProviderName, str], list[Finding]]:
    """The API keys from the environment, and a finding for each missing or unusable one."""
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
                    f'the environment variable {variable} for the key of "{provider.name}" '
                    f"is not set; set it with: export {variable}=...",
                )
            )
        elif any(not 33 <= ord(char) <= 126 for char in key):
            findings.append(
                Finding(path, f"the key in {variable} contains blanks or other invalid characters")
            )
        else:
            keys[ProviderName(provider.name)] = key
    return keys, findings


def access_findings(
    access: tuple[AccessConfig, ...], *, has_shared_token: bool
) -> Iterator[Finding]:
    """As ``token_findings``; a tenant has one weight, and its name is that of no other."""
    yield from token_findings("access", access)
    weights: dict[str, tuple[str, float]] = {}
    for index, entry in enumerate(access):
        if has_shared_token and entry.tenant_name == DEFAULT_TENANT_SHOWN:
            yield Finding(
                ("access", index, "tenant" if entry.tenant else "name"),
                f'"{DEFAULT_TENANT_SHOWN}" is the tenant of all clients with the token of '
                "[server]; choose another name",
            )
        first, weight = weights.setdefault(entry.tenant_name, (entry.name, entry.weight))
        if weight != entry.weight:
            yield Finding(
                ("access", index, "weight"),
                f'tenant "{entry.tenant_name}" already has weight {weight:g} in entry "{first}"; '
                "a tenant has one weight",
            )


def token_findings(
    table: str, entries: tuple[AccessConfig | OperatorConfig, ...]
) -> Iterator[Finding]:
    """Each entry has a unique name and one token."""
    names: set[str] = set()
    for index, entry in enumerate(entries):
        path: KeyPath = (table, index)
        if entry.name in names:
            yield Finding(
                (*path, "name"), f'another entry is named "{entry.name}"; names must be unique'
            )
        names.add(entry.name)
        if entry.token_env and entry.token_file:
            yield Finding(
                (*path, "token_file"),
                "is set as well as token_env; keep one of the two",
            )
        elif not (entry.token_env or entry.token_file):
            yield Finding(path, "has no token; set token_env or token_file")
        elif entry.token_env and not VARIABLE.fullmatch(entry.token_env):
            yield Finding(
                (*path, "token_env"),
                "must be the name of an environment variable (letters, digits, _), not the token "
                'itself; put the token into a variable and name that: token_env = "BATCH_TOKEN"',
            )


def observing_findings(
    metrics: MetricsConfig, alarms: AlarmsConfig, tracing: TracingConfig
) -> Iterator[Finding]:
    """The page has one token at most, and addresses are URLs."""
    if metrics.token_env and metrics.token_file:
        yield Finding(("metrics", "token_file"), "is set as well as token_env; keep one of the two")
    for path, variable in (
        (("metrics", "token_env"), metrics.token_env),
        (("alarms", "webhook_token_env"), alarms.webhook_token_env),
    ):
        if variable and not VARIABLE.fullmatch(variable):
            yield Finding(
                path,
                "must be the name of an environment variable (letters, digits, _), not the token "
                "itself",
            )
    for path, url in (
        (("alarms", "webhook_url"), alarms.webhook_url),
        (("tracing", "endpoint"), tracing.endpoint),
    ):
        parts = urlsplit(url)
        if url and not (parts.scheme in ("http", "https") and parts.netloc):
            yield Finding(path, f'"{url}" must start with http:// or https:// and a host')


def route_findings(
    routes: tuple[RouteConfig, ...], providers: tuple[ProviderConfig, ...]
) -> Iterator[Finding]:
    """Each route has a unique name and leads to models that exist, as far as that is known."""
    names = {provider.name for provider in providers}
    models = {model for provider in providers for model in provider.models}
    routes_only = {route.model for route in routes} - models
    routed: set[str] = set()
    for index, route in enumerate(routes):
        path: KeyPath = ("route", index)
        if route.model in routed:
            yield Finding(
                (*path, "model"), f'another route is named "{route.model}"; names must be unique'
            )
        routed.add(route.model)
        for at, target in enumerate(route.to):
            if target in route.to[:at]:
                yield Finding((*path, "to", at), f'"{target}" is listed twice; remove one')
            elif target in routes_only:
                yield Finding(
                    (*path, "to", at),
                    f'"{target}" is a route, and a route cannot lead to a route; list its models '
                    f'here, or write "provider/{target}" for a model of that name',
                )
            elif error := _target_error(target, names, providers):
                yield Finding((*path, "to", at), error)


def _target_error(target: str, names: set[str], providers: tuple[ProviderConfig, ...]) -> str:
    """The reason why a target cannot exist, if the configuration lists the models."""
    prefix, slash, model = target.partition("/")
    if slash and prefix in names:
        listed = next(provider.models for provider in providers if provider.name == prefix)
        if listed and model not in listed and target not in listed:
            return f'provider "{prefix}" does not serve "{model}"{suggestion(model, listed)}'
        return ""
    models = [model for provider in providers for model in provider.models]
    if target in models:
        return ""
    unlisted = [provider.name for provider in providers if not provider.models]
    if slash and unlisted:
        hint = suggestion(prefix, sorted(names))
        return (
            f'no provider is named "{prefix}"{hint}; for a model of "{unlisted[0]}" whose name is '
            f'"{target}" write "{unlisted[0]}/{target}"'
        )
    if unlisted:
        return ""
    return f'no provider serves "{target}"{suggestion(target, models)}'


def chat_findings(
    chat: ChatConfig, providers: tuple[ProviderConfig, ...], routes: tuple[RouteConfig, ...]
) -> Iterator[Finding]:
    """The default model exists, as far as the providers list their models."""
    default = chat.default_model
    if not default or default in {route.model for route in routes}:
        return
    if not all(provider.models for provider in providers):
        if error := _target_error(default, {provider.name for provider in providers}, providers):
            yield Finding(("chat", "default_model"), error)
        return
    models = list(dict.fromkeys(model for provider in providers for model in provider.models))
    models += [route.model for route in routes]
    named = [f"{provider.name}/{model}" for provider in providers for model in provider.models]
    if chat.default_model not in [*models, *named]:
        hint = suggestion(chat.default_model, models)
        yield Finding(("chat", "default_model"), f'no provider serves "{chat.default_model}"{hint}')


def provider_warnings(providers: tuple[ProviderConfig, ...]) -> Iterator[Finding]:
    """Settings that work but are probably not intended."""
    for index, provider in enumerate(providers):
        if isinstance(provider, OpenAIProvider) and provider.api_key_env:
            parts = urlsplit(provider.base_url)
            if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
                yield Finding(
                    ("provider", index, "base_url"),
                    f'the key is sent unencrypted to "{parts.hostname}"; use https',
                )
