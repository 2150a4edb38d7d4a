"""Failures of the HTTP client as failures of a call, with messages that name the remedy."""

from __future__ import annotations

import re
import traceback
from typing import get_args

import aiohttp
import structlog
from aiohttp.http_exceptions import HttpProcessingError

from exai_actors.core.calls import FailureKind, UpstreamFailure
from exai_actors.edges.http.connector import MAX_INTERIM_RESPONSES, BrokenFramingError
from exai_actors.edges.http.exchange import (
    StaleConnectionError,
    TooManyInterimResponses,
)
from exai_actors.edges.http.service import HttpService
from exai_actors.wire.openai.content_coding import BadCoding

# aiohttp's parser in Python raises the last of these for a broken body.
TransportError = aiohttp.ClientError | OSError | HttpProcessingError
TRANSPORT_ERRORS: tuple[type[TransportError], ...] = get_args(TransportError)

_log = structlog.get_logger()
# Data that aiohttp could not read: its beginning shows the protocol, its rest may be an answer.
_QUOTATION = re.compile(r"(b['\"].{24}).*(['\"])", re.DOTALL)
# The words of aiohttp's two parsers.
_NO_STATUS_LINE = ("Expected HTTP/", "Bad status line")


def failure_of(error: TransportError, service: HttpService) -> UpstreamFailure:
    """Translate an exception of the HTTP client."""
    kind, message = _describe(error, service)
    return UpstreamFailure(
        kind,
        service.redactor.redact_excerpt(message),
        resend=isinstance(error, StaleConnectionError),
    )


def connect_timeout_failure(service: HttpService) -> UpstreamFailure:
    return UpstreamFailure(
        FailureKind.CONNECT,
        f"accepted no connection at {service.base_url} within "
        f"{service.settings.connect_timeout_s:g} s; check the address, the network and any proxy",
    )


def unexpected_failure(error: BaseException) -> UpstreamFailure:
    """The failure for an exception that only a bug of the broker can cause."""
    return UpstreamFailure(
        FailureKind.BROKEN,
        f"could not be asked: {type(error).__name__} inside the broker; see its log",
    )


def log_unexpected(error: BaseException, service: HttpService) -> None:
    """Log its traceback. To be called after the end was reported, which must not depend on it."""
    trace = "".join(traceback.format_exception(error))
    _log.error(
        "upstream.unexpected_error",
        provider=service.name,
        trace=service.redactor.redact(trace),
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
            return FailureKind.MALFORMED, (
                f"sent more than {MAX_INTERIM_RESPONSES} interim responses before its answer"
            )
        case aiohttp.ClientPayloadError(__cause__=BadCoding()):
            return FailureKind.MALFORMED, f"answered with {error}"
        case BrokenFramingError():
            return FailureKind.MALFORMED, _broken_rule(str(error))
        case aiohttp.ClientPayloadError() | HttpProcessingError():
            return FailureKind.TRUNCATED, "broke off: the connection ended before the answer"
        case aiohttp.ServerDisconnectedError():
            return FailureKind.TRUNCATED, "closed the connection without answering"
        case aiohttp.ClientResponseError():
            return FailureKind.MALFORMED, _broken_rule(error.message)
        case TimeoutError():
            return FailureKind.TIMEOUT, "did not answer in time"
        case OSError():
            return FailureKind.TRUNCATED, f"lost the connection: {error.strerror or error}"
        case _:
            return FailureKind.BROKEN, f"could not be asked: {error}"


def _shortened(quotation: re.Match[str]) -> str:
    return f"{quotation[1]}...{quotation[2]}"


def _broken_rule(message: str) -> str:
    problem = "sent a response that breaks the rules of HTTP"
    if any(words in message for words in _NO_STATUS_LINE):
        problem = "answered with something that is not HTTP"
    return f"{problem}: {_QUOTATION.sub(_shortened, message)}"


def _unreachable(error: aiohttp.ClientError, base_url: str) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return (
                f"cannot be found: no address for host {error.host!r} of base_url {base_url}; "
                "check its spelling and the network"
            )
        case aiohttp.ClientProxyConnectionError():
            return f"is behind a proxy that cannot be reached at {error.host}:{error.port}"
        case aiohttp.ClientConnectorCertificateError():
            return (
                f"shows a TLS certificate at {base_url} that is not trusted "
                f"({error.certificate_error}); check the address and the system's certificates"
            )
        case aiohttp.ClientSSLError():
            return (
                f"did not agree on TLS at {base_url} ({error.os_error}); "
                "if it speaks plain HTTP, base_url must begin with http://"
            )
        case aiohttp.ClientConnectorError():
            return (
                f"cannot be reached at {base_url} ({error.os_error.strerror or error.os_error}); "
                "check that the service runs there and that base_url is right"
            )
        case _:
            return f"cannot be reached at {base_url} ({error})"
