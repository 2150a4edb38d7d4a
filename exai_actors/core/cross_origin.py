"""Access for pages of other origins over HTTP: to the APIs, if the configuration lists them.

A browser lets a page read the response of another origin only if the response names the page's
origin, and asks before it sends a request that a form could not send (the CORS protocol of the
Fetch standard). The console, the figures and MCP stay closed to pages of other origins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from exai_actors.core.handshake_policy import HandshakePolicy, is_listed

Fields = tuple[tuple[str, str], ...]

_SHARED = "/v1/"
_METHODS = "GET, HEAD, POST"
_EXPOSED = ", ".join(
    (
        "request-id",
        "retry-after",
        "retry-after-ms",
        "x-exai-provider",
        "x-exai-queued-ms",
        "x-exai-tenant",
        "x-request-id",
        "x-should-retry",
        "x-upstream-request-id",
    )
)
# A removed origin is refused all the same; browsers keep it no longer than this.
_MAX_AGE_S = 7_200
_NAMES = re.compile(r"[\w!#$%&'*+.^`|~, -]+", re.ASCII)


def cross_origin_fields(policy: HandshakePolicy, path: str, origin: str | None) -> Fields:
    """The fields with which a page of this origin may read the response; none for other pages.

    The origin is named as the browser did, and never as ``*``.
    """
    if origin is None or not path.startswith(_SHARED) or not is_listed(policy, origin):
        return ()
    return (
        ("Access-Control-Allow-Origin", origin),
        ("Vary", "Origin"),
        ("Access-Control-Expose-Headers", _EXPOSED),
    )


def preflight_fields(method: str, named: Mapping[str, str]) -> Fields | None:
    """The permission for the request that a browser asks about; None if it does not ask.

    ``named`` has the fields of its question. Every header may be sent: those that the broker does
    not know stay here. No cookies may be.
    """
    if method != "OPTIONS" or "access-control-request-method" not in named:
        return None
    fields: Fields = (
        ("Access-Control-Allow-Methods", _METHODS),
        ("Access-Control-Max-Age", str(_MAX_AGE_S)),
    )
    headers = named.get("access-control-request-headers", "")
    if _NAMES.fullmatch(headers):
        fields += (("Access-Control-Allow-Headers", headers),)
    return fields
