"""Connecting to a broker: the errors of an attempt that fails, with advice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.http11 import Response

from exai_actors.client.errors import ConnectError, NotAccepting, UsageError
from exai_actors.client.urls import NO_URL, BrokerUrl

OTHER_PROGRAM = "Is another program using that port?"
LOG_SAYS_MORE = "The broker's log says more."
_START_IT = "Is the broker running there? `exai serve` starts one."
HTTP_UNAVAILABLE = 503
_NO_TLS = "A broker has no TLS: unless a proxy adds it, the URL begins with ws://."


@asynccontextmanager
async def connecting(url: BrokerUrl, timeout_s: float) -> AsyncIterator[None]:
    """Connect within this block, the broker's first answer included.

    Raises ConnectError if that fails or takes longer than ``timeout_s``, UsageError if the URL is
    invalid.
    """
    if url.port == 0:
        # The library would use the default port, 80.
        raise ConnectError(url.display, "nothing can listen on port 0", _START_IT)
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        why = f"no answer within {timeout_s:g} s"
        raise ConnectError(url.display, why, "Is it a broker that listens there?") from None
    except InvalidURI as error:
        raise UsageError(f"{url.display} {NO_URL}: {error.msg}") from None
    except OSError as error:
        advice = _NO_TLS if url.display.startswith("wss:") else _START_IT
        raise ConnectError(url.display, _os_reason(error), advice) from error
    except InvalidHandshake as error:
        if isinstance(error, InvalidStatus) and error.response.status_code == HTTP_UNAVAILABLE:
            raise _not_accepting(url, error.response) from error
        why = f"the server there does not speak WebSocket as expected ({error})"
        raise ConnectError(url.display, why, OTHER_PROGRAM) from error


def proxy_for(url: BrokerUrl) -> Literal[True] | None:
    """The library's option: the proxy of the environment, but none for this machine."""
    return None if url.is_loopback else True


def _not_accepting(url: BrokerUrl, response: Response) -> NotAccepting:
    lines = response.body.decode(errors="replace").splitlines()
    said = lines[0][:200].strip(" .") if lines else response.reason_phrase
    seconds = response.headers.get("Retry-After", "")
    retry_after = float(seconds) if seconds.isdecimal() else None
    return NotAccepting(url.display, f"it answers 503 ({said})", retry_after)


def _os_reason(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return str(error) or "the connection was dropped"
