"""The HTTP client as calls see it: a request and callbacks, without a task.

``direct_client`` implements it.
"""

from __future__ import annotations

from typing import Protocol

from multidict import MultiMapping
from yarl import URL

from exai_actors.core.calls import Aborted, UpstreamFailure
from exai_actors.core.trace_context import TraceContext

Headers = MultiMapping[str]
"""The fields of a response; names in any case."""


class Target:
    """An address of a service. The requests to it differ in nothing but body and trace.

    ``headers`` are all that is sent, apart from Host, Content-Length and those of the trace; none
    may contain a line end.
    """

    __slots__ = ("_fields", "_has_body", "_head", "_method", "url")

    def __init__(self, method: str, url: URL, headers: dict[str, str]) -> None:
        self.url = url
        self._method = method
        self._has_body = method not in ("GET", "HEAD")
        lines = [f"{name}: {value}" for name, value in headers.items()]
        if not any(name.lower() == "host" for name in headers):
            lines.insert(0, f"Host: {url.host_port_subcomponent}")
        self._fields = "\r\n".join([*lines, ""]).encode()
        self._head = f"{method} {url.raw_path_qs} HTTP/1.1\r\n".encode() + self._fields

    def encode(self, body: bytes, trace: TraceContext | None = None) -> bytes:
        """The whole request."""
        return self._encode(self._head, body, trace)

    def encode_for_proxy(self, body: bytes, trace: TraceContext | None, fields: bytes) -> bytes:
        """The same for a proxy that passes on each request; ``fields`` are for it."""
        line = f"{self._method} {self.url} HTTP/1.1\r\n".encode()
        return self._encode(line + self._fields + fields, body, trace)

    def _encode(self, head: bytes, body: bytes, trace: TraceContext | None) -> bytes:
        if trace is not None:
            head += trace_fields(trace)
        if body or self._has_body:
            return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
        return head + b"\r\n"


class Receiver(Protocol):
    """The callbacks of an exchange, in the loop turn in which the data arrives.

    ``connected``, ``head``, ``data`` any number of times, and then exactly one of ``ended`` and
    ``failed``; ``failed`` may come at any time. A receiver may abort, pause and resume its exchange
    in any of them, and start another. Instead of all but ``connected`` there may be one ``whole``.
    """

    def connected(self) -> None:
        """The exchange has a connection, on which the request is written now.

        May be called before ``HttpClient.start`` returns.
        """

    def head(self, status: int, headers: Headers, /) -> None:
        """The response has begun. Interim responses are skipped."""

    def whole(self, status: int, headers: Headers, body: bytes, /) -> bool:
        """Take a response that came at once, as ``head``, ``data`` and ``ended`` do together.

        If it returns False, which changes nothing, these are called. Nothing here may touch the
        exchange, which is over.
        """

    def data(self, data: bytes, /) -> None:
        """The next part of the body as it was sent: compressed if the service compresses it."""

    def ended(self) -> None:
        """The response is complete."""

    def failed(self, failure: UpstreamFailure | Aborted, /) -> None:
        """There is no response, or no more of it, and its connection is closed.

        Aborted after ``abort``, or if something else cancelled the opening of its connection.
        """


class HttpExchange(Protocol):
    """A request that was started. All methods are idempotent, and do nothing after its end."""

    def abort(self) -> None:
        """Close the connection, even if half of the request is still to be sent.

        The receiver gets nothing more but ``failed``, in a later turn.
        """

    def pause(self) -> None:
        """Stop reading, so that the service waits. Data and the end come after ``resume``."""

    def resume(self) -> None: ...


class HttpClient(Protocol):
    """Exchanges with one service on connections that it keeps. Sets no timeouts."""

    @property
    def shortest_connect_s(self) -> float:
        """The shortest time in which a connection was opened, inf before the first."""

    def start(
        self,
        target: Target,
        body: bytes,
        receiver: Receiver,
        *,
        fresh: bool = False,
        trace: TraceContext | None = None,
    ) -> HttpExchange:
        """Send a request; ``fresh``: on a connection that was not used before.

        A failure with ``resend`` says that the service has closed an idle connection instead of
        answering.
        """

    async def aclose(self) -> None:
        """Abort all exchanges and close the connections; by then every receiver has its end."""


def trace_fields(trace: TraceContext) -> bytes:
    fields = f"traceparent: {trace.parent}\r\n"
    if trace.state:
        fields += f"tracestate: {trace.state}\r\n"
    return fields.encode("ascii")
