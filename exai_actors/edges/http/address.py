"""Where a service is and how it is addressed: URL, headers and proxy, checked at start."""

from __future__ import annotations

import ipaddress
import re
from urllib.request import getproxies, proxy_bypass

from multidict import CIMultiDict
from yarl import URL

from exai_actors import __version__
from exai_actors.core.loopback import is_loopback
from exai_actors.edges.http.settings import HttpSettings
from exai_actors.errors import ConfigError


def checked_url(provider: str, base_url: str) -> URL:
    """Parse the base URL of ``provider``. Raises ConfigError if it cannot be used."""
    try:
        url = URL(base_url)
    except ValueError as error:
        raise ConfigError(
            f"provider {provider!r}: base_url {base_url!r} is no URL: {error}"
        ) from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(
            f"provider {provider!r}: base_url {base_url!r} must be an http:// or https:// "
            "address, for example https://api.moonshot.ai/v1"
        )
    if url.user or url.password:
        raise ConfigError(
            f"provider {provider!r}: base_url must not hold user or password; "
            "put the key into an environment variable and name that in api_key_env"
        )
    return url


def join_path(base: URL, path: str) -> URL:
    """Add ``path`` to the base URL, leaving its escapes and its query as they are."""
    joined = f"{base.raw_path.rstrip('/')}/{path}"
    return base.with_path(joined, encoded=True).with_query(base.query)


def request_headers(provider: str, api_key: str | None, settings: HttpSettings) -> dict[str, str]:
    """The headers of every request. Raises ConfigError if no header can hold the key."""
    headers = CIMultiDict(
        {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            # A compressed stream arrives in lumps, and every piece would have to be unpacked.
            "Accept-Encoding": "identity",
            "User-Agent": f"exai-actors/{__version__}",
        }
    )
    headers.update(settings.headers)
    headers.update(key_field(provider, api_key, settings.api_key_header))
    return dict(headers)


def key_field(provider: str, api_key: str | None, name: str) -> dict[str, str]:
    """The header with the key, if there is one. Raises ConfigError if no header can hold it."""
    if not api_key:
        return {}
    if not (api_key.isascii() and api_key.isprintable()) or api_key != api_key.strip():
        raise ConfigError(
            f"provider {provider!r}: the API key begins or ends with a space, or contains a "
            "line end or a character that no HTTP header can hold; set the variable again"
        )
    return {name: f"Bearer {api_key}" if name.lower() == "authorization" else api_key}


def proxy_for(url: URL) -> URL | None:
    """The proxy that the environment (HTTPS_PROXY, NO_PROXY, ...) names for a URL, if any.

    There is none for this machine itself, nor for the entries of NO_PROXY: hosts, which stand for
    their subdomains too (``corp.example``, ``.corp.example``, ``*.corp.example``), addresses and
    networks (``192.0.2.0/24``), each also with a port, or ``*``. A proxy without a scheme speaks
    HTTP. Raises ConfigError for a proxy that cannot be used, such as one with TLS for a service
    with TLS.
    """
    host = url.host or ""
    proxies = getproxies()
    if is_loopback(host) or _is_excepted(url, proxies.get("no", "")) or proxy_bypass(host):
        return None
    named = proxies.get(url.scheme)
    if not named:
        return None
    try:
        proxy = URL(named if "://" in named else f"http://{named}")
    except ValueError:
        proxy = URL()
    allowed = ("http",) if url.scheme == "https" else ("http", "https")
    if proxy.scheme not in allowed or not proxy.host:
        # Its value is not quoted: it may contain a password.
        raise ConfigError(
            f"the proxy for {url.scheme}:// addresses that {url.scheme.upper()}_PROXY names cannot "
            "be used; it must be an http:// address, such as http://proxy.example:3128"
        )
    return proxy


def _is_excepted(url: URL, no_proxy: str) -> bool:
    return any(_matches(url, entry) for entry in re.split(r"[,;\s]+", no_proxy.lower()) if entry)


def _matches(url: URL, entry: str) -> bool:
    if entry == "*":
        return True
    host = (url.host or "").lower().rstrip(".")
    name, port = _without_port(entry.partition("://")[2] or entry)
    if port and port != str(url.port):
        return False
    try:
        network = ipaddress.ip_network(name, strict=False)
    except ValueError:
        suffix = name.removeprefix("*").strip(".")
        return bool(suffix) and (host == suffix or host.endswith(f".{suffix}"))
    try:
        return ipaddress.ip_address(host) in network
    except ValueError:
        return False


def _without_port(entry: str) -> tuple[str, str]:
    """The entry and its port, empty if it has none."""
    bracketed = re.fullmatch(r"\[([^\]]*)\](/\d+)?(?::(\d+))?/?", entry)
    if bracketed:
        return bracketed[1] + (bracketed[2] or ""), bracketed[3] or ""
    with_port = re.fullmatch(r"([^:]*):(\d+)/?", entry)
    return (with_port[1], with_port[2]) if with_port else (entry, "")
