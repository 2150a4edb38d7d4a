"""Failures of HTTP exchanges as failures of a call, with messages that name the remedy."""

from __future__ import annotations

import re
import socket
import ssl
import traceback

import structlog
from yarl import URL

from exai_actors.core.calls import FailureKind, UpstreamFailure
from exai_actors.edges.http.proxy import ProxyRefusal
from exai_actors.edges.http.response_head import MAX_INTERIM_RESPONSES
from exai_actors.edges.http.service import HttpService

BROKE_OFF = "broke off: the connection ended before the answer"
NO_ANSWER = "closed the connection without answering"
TOO_MANY_INTERIM_RESPONSES = (
    f"sent more than {MAX_INTERIM_RESPONSES} interim responses before its answer"
)

_log = structlog.get_logger()
# Data that a parser could not read: its beginning shows the protocol, its rest may be an answer.
_QUOTATION = re.compile(r"(b['\"].{24}).*(['\"])", re.DOTALL)
# The words of the parser.
_NO_STATUS_LINE = ("Expected HTTP/",)


def connect_timeout_failure(service: HttpService) -> UpstreamFailure:
    return UpstreamFailure(
        FailureKind.CONNECT,
        f"accepted no connection at {service.base_url} within "
        f"{service.settings.connect_timeout_s:g} s; check the address, the network and any proxy",
    )


def unreachable(
    error: OSError | ProxyRefusal, url: URL, proxy: URL | None, service: HttpService
) -> UpstreamFailure:
    """The failure of a connection to ``url`` that could not be opened."""
    base_url = service.base_url
    match error:
        case ProxyRefusal():
            message = f"is behind a proxy that {error}"
        case ssl.SSLCertVerificationError():
            message = (
                f"shows a TLS certificate at {base_url} that is not trusted ({error}); "
                "check the address and the system's certificates"
            )
        case ssl.SSLError():
            message = (
                f"did not agree on TLS at {base_url} ({error}); "
                "if it speaks plain HTTP, base_url must begin with http://"
            )
        case _ if proxy is not None:
            message = f"is behind a proxy that cannot be reached at {proxy.host}:{proxy.port}"
        case socket.gaierror():
            message = (
                f"cannot be found: no address for host {url.host!r} of base_url {base_url}; "
                "check its spelling and the network"
            )
        case _:
            message = (
                f"cannot be reached at {base_url} ({error.strerror or error}); "
                "check that the service runs there and that base_url is right"
            )
    return UpstreamFailure(FailureKind.CONNECT, service.redactor.redact_excerpt(message))


def broken_rule(rule: str) -> str:
    """The message about a response that breaks a rule, which a parser has named."""
    problem = "sent a response that breaks the rules of HTTP"
    if any(words in rule for words in _NO_STATUS_LINE):
        problem = "answered with something that is not HTTP"
    return f"{problem}: {_QUOTATION.sub(_shortened, rule)}"


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


def _shortened(quotation: re.Match[str]) -> str:
    return f"{quotation[1]}...{quotation[2]}"
