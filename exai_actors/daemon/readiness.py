"""`exai health --ready`: whether a broker takes requests, for probes and scripts."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from exai_actors.client.errors import ConnectError
from exai_actors.client.urls import parse_url
from exai_actors.daemon.programs.address import address_of

TIMEOUT_S = 5.0
_ADVICE = "Is the broker running there? `exai serve` starts one."


def readiness(url: str) -> dict[str, Any]:
    """The answer of `/readyz` at the broker with this WebSocket URL.

    Raises ConnectError if no broker answers there, UsageError for another kind of URL.
    """
    shown, address = parse_url(url).display, f"{address_of(url).root}/readyz"
    # A proxy in the environment is for services, not for the broker.
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(Request(address), timeout=TIMEOUT_S) as response:  # noqa: S310
            body = response.read()
    except HTTPError as error:
        body = error.read()
    except (URLError, OSError) as error:
        cause = getattr(error, "reason", error)
        refused = isinstance(cause, ConnectionRefusedError)
        why = "connection refused" if refused else str(cause)
        raise ConnectError(shown, why, _ADVICE) from error
    try:
        found = json.loads(body)
        return {"ready": bool(found["ready"]), "reasons": list(found["reasons"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ConnectError(shown, "its answer is not a broker's", _ADVICE) from error
