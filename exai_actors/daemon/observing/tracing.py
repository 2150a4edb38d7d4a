"""Traces of requests with OpenTelemetry; needs the extra ``otel``.

A request is one span, and its wait for a permit a child of it. Both are made when the request
ends, except the identity of the first, which the service gets with the request.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time_ns
from typing import TYPE_CHECKING

from exai_actors import __version__
from exai_actors.core.observe.request_ends import RequestEnd
from exai_actors.core.trace_context import TraceContext
from exai_actors.daemon.config.observing_tables import TracingConfig
from exai_actors.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span
    from opentelemetry.trace import Tracer as OtelTracer

MISSING = "needs the extra 'otel': pip install 'exai-actors[otel]'"
STOP_MS = 2_000
"""How long the last spans may take to be sent when the broker stops."""


class Tracing:
    """Implements ``Tracer`` with a provider of the SDK. ``nanoseconds`` is the wall clock."""

    def __init__(self, provider: TracerProvider, nanoseconds: Callable[[], int] = time_ns) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = provider.get_tracer("exai_actors", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._nanoseconds = nanoseconds

    def began(self, parent: TraceContext | None) -> TracedRequest:
        """Begin the span of a request, as a part of the client's trace if there is one."""
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind, set_span_in_context

        context = Context()
        if parent is not None:
            sent = {"traceparent": parent.parent, "tracestate": parent.state}
            context = self._propagator.extract(sent, context)
        began = self._nanoseconds()
        span = self._tracer.start_span(
            "chat", context=context, kind=SpanKind.SERVER, start_time=began
        )
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span, context))
        own = TraceContext(carrier["traceparent"], carrier.get("tracestate", ""))
        return TracedRequest(self._tracer, span, own, began, self._nanoseconds)


class TracedRequest:
    """Implements ``RequestSpan``."""

    __slots__ = ("_began", "_nanoseconds", "_span", "_tracer", "context")

    def __init__(
        self,
        tracer: OtelTracer,
        span: Span,
        context: TraceContext,
        began: int,
        nanoseconds: Callable[[], int],
    ) -> None:
        self._tracer = tracer
        self._span = span
        self.context: TraceContext | None = context
        self._began = began
        self._nanoseconds = nanoseconds

    def ended(self, end: RequestEnd) -> None:
        """End the span, with the names of OpenTelemetry's conventions where they have one."""
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        span, now = self._span, self._nanoseconds()
        if span.is_recording():
            granted = min(now, self._began + round(end.waited_s * 1e9))
            wait = self._tracer.start_span(
                "wait", context=set_span_in_context(span), start_time=self._began
            )
            wait.end(granted)
            span.update_name(f"chat {end.model}" if end.model else "chat")
            span.set_attribute("gen_ai.operation.name", "chat")
            for name, value in (
                ("gen_ai.provider.name", end.provider),
                ("gen_ai.request.model", end.model),
                ("error.type", end.code),
            ):
                if value:
                    span.set_attribute(name, value)
            span.set_attribute("exai.request", end.request)
            span.set_attribute("exai.tenant", end.tenant)
            span.set_attribute("exai.session", end.session)
            span.set_attribute("exai.outcome", end.outcome)
            span.set_attribute("exai.attempts", end.attempts)
            if end.usage is not None:
                span.set_attribute("gen_ai.usage.input_tokens", end.usage.prompt_tokens)
                span.set_attribute("gen_ai.usage.output_tokens", end.usage.completion_tokens)
            if end.outcome != "completed":
                span.set_status(Status(StatusCode.ERROR, end.code))
        span.end(now)


def open_tracing(config: TracingConfig) -> tuple[Tracing, Callable[[], object]]:
    """A tracer that sends to ``endpoint`` from a thread, and a function that sends the rest.

    Its queue is bounded; spans that do not fit are dropped. Raises ConfigError without the extra.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as error:
        raise ConfigError(f"[tracing] endpoint {MISSING} ({error.name} is missing)") from error
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(config.sample)),
        resource=Resource.create({"service.name": "exai", "service.version": __version__}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(config.endpoint)))

    def close() -> None:
        provider.force_flush(STOP_MS)
        provider.shutdown()

    return Tracing(provider), close
