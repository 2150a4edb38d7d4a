"""Where a service is and how it is addressed: URL, headers and proxy, checked at start."""

from __future__ import annotations

import ipaddress
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from exai_actors import __version__
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


def request_headers(provider: str, api_key: str | None) -> dict[str, str]:
    """The headers of every request. Raises ConfigError if no header can hold the key."""
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        # A compressed stream arrives in lumps, and every piece would have to be unpacked.
        "Accept-Encoding": "identity",
        "User-Agent": f"exai-actors/{__version__}",
    }
    if api_key:
        if not (api_key.isascii() and api_key.isprintable()) or api_key != api_key.strip():
            raise ConfigError(
                f"provider {provider!r}: the API key begins or ends with a space, or contains a "
                "line end or a character that no HTTP header can hold; set the variable again"
            )
        headers["Authorization"] = f"Bearer {api_key}"
    return headers


def proxy_for(url: URL) -> URL | None:
    """The proxy that the environment (HTTPS_PROXY, NO_PROXY, ...) names for a URL, if any.

    There is none for this machine itself. A proxy without a scheme speaks HTTP. Raises ConfigError
    for a proxy that cannot be used.
    """
    host = url.host or ""
    if _is_loopback(host) or proxy_bypass(host):
        return None
    named = getproxies().get(url.scheme)
    if not named:
        return None
    try:
        proxy = URL(named if "://" in named else f"http://{named}")
    except ValueError:
        proxy = URL()
    if proxy.scheme not in ("http", "https") or not proxy.host:
        # Its value is not quoted: it may contain a password.
        raise ConfigError(
            f"the proxy for {url.scheme}:// addresses that {url.scheme.upper()}_PROXY names cannot "
            "be used; it must be an http:// address, such as http://proxy.example:3128"
        )
    return proxy


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
