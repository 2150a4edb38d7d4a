"""Spans of requests, as the SDK of OpenTelemetry gets them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from exai_actors.core.calls import FailureKind
from exai_actors.core.trace_context import TraceContext
from exai_actors.daemon.config.observing_tables import TracingConfig
from exai_actors.daemon.observing.tracing import Tracing, open_tracing
from exai_actors.errors import ConfigError
from exai_actors.ids import SessionId
from exai_actors.testing.broker import running_broker
from exai_actors.testing.tree import ManualClient, ManualTree

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


class Traced:
    """A tree whose requests are traced by the SDK, in the time of the test."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tree = ManualTree()
        self.tree.request_board.tracer = Tracing(
            self.provider, lambda: round(self.tree.clock.now() * 1e9)
        )
        self.client: ManualClient = self.tree.client(SessionId("a-session"))

    def advance(self, seconds: float) -> None:
        self.tree.advance(seconds)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()


@pytest.fixture
def traced() -> Iterator[Traced]:
    found = Traced()
    yield found
    found.provider.shutdown()


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def test_a_request_is_a_span_with_its_wait_as_a_child(traced: Traced) -> None:
    traced.client.call("first", traceparent=PARENT, tracestate="a=b")
    traced.client.call("second", traceparent=PARENT)
    traced.advance(2.0)
    traced.tree.upstream.calls[0].complete("one two")
    traced.tree.settle()
    traced.advance(3.0)
    traced.tree.upstream.calls[1].complete("one")
    traced.tree.settle()
    _, first, wait, second = traced.spans
    assert [span.name for span in traced.spans] == ["wait", "chat moon", "wait", "chat moon"]
    assert (seconds(first), seconds(wait), seconds(second)) == (2.0, 2.0, 5.0)
    assert wait.parent is not None
    assert second.context is not None
    assert wait.parent.span_id == second.context.span_id
    assert second.kind is SpanKind.SERVER
    assert second.parent is not None
    assert f"{second.parent.span_id:016x}" == SPAN
    assert f"{second.context.trace_id:032x}" == TRACE
    assert dict(first.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "kimi",
        "gen_ai.request.model": "moon",
        "gen_ai.usage.input_tokens": 1,
        "gen_ai.usage.output_tokens": 2,
        "exai.request": "first",
        "exai.tenant": "default",
        "exai.session": "a-session",
        "exai.outcome": "completed",
        "exai.attempts": 1,
    }
    assert first.status.status_code is StatusCode.UNSET


def test_the_service_gets_the_request_s_span_as_its_parent(traced: Traced) -> None:
    traced.client.call("a", traceparent=PARENT, tracestate="a=b")
    traced.tree.upstream.calls[0].complete()
    traced.tree.settle()
    passed_on = traced.tree.upstream.calls[0].trace
    span = traced.spans[-1]
    assert span.context is not None
    assert passed_on == TraceContext(f"00-{TRACE}-{span.context.span_id:016x}-01", "a=b")


def test_a_request_without_a_client_s_trace_begins_one(traced: Traced) -> None:
    traced.client.call("a")
    traced.tree.upstream.calls[0].complete()
    traced.tree.settle()
    assert traced.spans[-1].parent is None
    assert traced.tree.upstream.calls[0].trace is not None


def test_requests_without_an_answer_are_errors_and_refused_ones_too(traced: Traced) -> None:
    traced.client.call("failed")
    traced.tree.upstream.calls[0].fail(FailureKind.REJECTED)
    traced.client.call("cancelled")
    traced.client.send({"op": "cancel", "request_id": "cancelled"})
    traced.client.call("refused", arguments={"model": "nowhere"})
    requests = [span for span in traced.spans if span.name != "wait"]
    found = [(span.attributes or {}).get("error.type") for span in requests]
    assert found == ["PROVIDER_ERROR", "CANCELLED", "MODEL_NOT_FOUND"]
    assert {span.status.status_code for span in requests} == {StatusCode.ERROR}


@pytest.mark.parametrize("hostile", ["a\nb", 'a"b', "", " ", "\x00", "ü\u2028", "x" * 512])
def test_the_words_of_clients_are_values_of_attributes_and_can_be_sent(
    traced: Traced, hostile: str
) -> None:
    client = traced.tree.client(f"s{hostile}")
    client.call(f"r{hostile}"[:512])
    traced.tree.upstream.calls[0].complete()
    traced.tree.settle()
    span = traced.spans[-1]
    attributes = dict(span.attributes or {})
    assert span.name == "chat moon"
    assert attributes["exai.request"] == f"r{hostile}"[:512]
    assert len(str(attributes["exai.session"])) <= 15
    assert set(attributes) == {
        *("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"),
        *("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"),
        *("exai.request", "exai.tenant", "exai.session", "exai.outcome", "exai.attempts"),
    }
    assert len(encode_spans(traced.spans).SerializeToString()) < 4_000


def test_a_trace_that_is_not_sampled_is_passed_on_as_such_and_costs_no_span() -> None:
    traced = Traced(ParentBased(ALWAYS_OFF))
    traced.client.call("a")
    traced.tree.upstream.calls[0].complete()
    traced.tree.settle()
    assert traced.spans == ()
    passed_on = traced.tree.upstream.calls[0].trace
    assert passed_on is not None
    assert int(passed_on.parent[-2:], 16) & 1 == 0
    traced.provider.shutdown()


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"exai-actors\[otel\]"):
        open_tracing(TracingConfig(endpoint="http://127.0.0.1:4318/v1/traces"))


async def test_a_broker_sends_its_spans_to_the_configured_address() -> None:
    from tests.daemon.observing.test_alarms import receiver

    async with receiver() as taken:
        config = {"tracing": {"endpoint": taken.url}}
        async with running_broker(config) as running, running.connect() as client:
            await client.call("chat", prompt="hello")
            tracer = running.broker._tree.request_board.tracer
            assert isinstance(tracer, Tracing)
    assert taken.attempts == 1
