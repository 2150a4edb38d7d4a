"""aiohttp's exceptions as failures of a call."""

from __future__ import annotations

from typing import get_args

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from exai_actors.core.calls import FailureKind, UpstreamFailure
from exai_actors.edges.http.connector import BrokenFramingError
from exai_actors.edges.http.errors import (
    BROKE_OFF,
    NO_ANSWER,
    TOO_MANY_INTERIM_RESPONSES,
    broken_rule,
    connect_timeout_failure,
    no_address,
    no_tls,
    not_trusted,
    refused,
)
from exai_actors.edges.http.exchange import (
    StaleConnectionError,
    TooManyInterimResponses,
)
from exai_actors.edges.http.service import HttpService

# aiohttp's parser in Python raises the last of these for a broken body.
TransportError = aiohttp.ClientError | OSError | HttpProcessingError
TRANSPORT_ERRORS: tuple[type[TransportError], ...] = get_args(TransportError)


def failure_of(error: TransportError, service: HttpService) -> UpstreamFailure:
    """Translate an exception of the HTTP client."""
    kind, message = _describe(error, service)
    return UpstreamFailure(
        kind,
        service.redactor.redact_excerpt(message),
        resend=isinstance(error, StaleConnectionError),
    )


def _describe(error: TransportError, service: HttpService) -> tuple[FailureKind, str]:
    base_url = service.base_url
    match error:
        case aiohttp.ConnectionTimeoutError():
            timed_out = connect_timeout_failure(service)
            return timed_out.kind, timed_out.message
        case aiohttp.ClientConnectorError() | aiohttp.ClientSSLError():
            return FailureKind.CONNECT, _unreachable(error, base_url)
        case aiohttp.ClientHttpProxyError():
            return FailureKind.CONNECT, f"is behind a proxy that answered HTTP {error.status}"
        case TooManyInterimResponses():
            return FailureKind.MALFORMED, TOO_MANY_INTERIM_RESPONSES
        case BrokenFramingError():
            return FailureKind.MALFORMED, broken_rule(str(error))
        case aiohttp.ClientPayloadError() | HttpProcessingError():
            return FailureKind.TRUNCATED, BROKE_OFF
        case aiohttp.ServerDisconnectedError():
            return FailureKind.TRUNCATED, NO_ANSWER
        case aiohttp.ClientResponseError():
            return FailureKind.MALFORMED, broken_rule(error.message)
        case TimeoutError():
            return FailureKind.TIMEOUT, "did not answer in time"
        case OSError():
            return FailureKind.TRUNCATED, f"lost the connection: {error.strerror or error}"
        case _:
            return FailureKind.BROKEN, f"could not be asked: {error}"


def _unreachable(error: aiohttp.ClientError, base_url: str) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return no_address(error.host, base_url)
        case aiohttp.ClientProxyConnectionError():
            return f"is behind a proxy that cannot be reached at {error.host}:{error.port}"
        case aiohttp.ClientConnectorCertificateError():
            return not_trusted(error.certificate_error, base_url)
        case aiohttp.ClientSSLError():
            return no_tls(error.os_error, base_url)
        case aiohttp.ClientConnectorError():
            return refused(error.os_error, base_url)
        case _:
            return f"cannot be reached at {base_url} ({error})"
