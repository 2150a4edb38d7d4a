"""HttpUpstream sends a request again in the form that the service wants, and remembers it."""

from collections.abc import AsyncIterator

import pytest

from exai_actors.core.calls import Completion, FailureKind
from exai_actors.core.trace_context import TraceContext
from exai_actors.edges.http.service import MAX_LEARNED_FORMS, LearnedForms
from exai_actors.testing.scripted_replies import Reply, answer, failure
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from exai_actors.testing.upstream_log import SeenRequest
from exai_actors.wire.openai.request_form import USUAL_FORM, RequestForm
from tests.edges.http.calling import Caller, caller_for


def refuses_streams(seen: SeenRequest) -> Reply:
    if seen.stream:
        return failure(400, "'stream' does not support true with this model.")
    return answer("whole")


def refuses_everything(_: SeenRequest) -> Reply:
    return failure(400, "Streaming is not supported, and this prompt is not allowed either")


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as started:
        yield started


@pytest.fixture
async def caller(upstream: ScriptedUpstream) -> AsyncIterator[Caller]:
    async with caller_for(upstream.base_url) as ready:
        yield ready


@pytest.mark.parametrize("stream", [True, False])
async def test_a_service_that_refuses_to_stream_is_asked_without(
    upstream: ScriptedUpstream, caller: Caller, stream: bool
) -> None:
    upstream.default = refuses_streams
    refused = await caller.start(stream=stream).failure()
    assert (refused.kind, refused.resend) == (FailureKind.REJECTED, True)
    for _ in range(2):
        started = caller.start(stream=stream)
        result = await started.end()
        assert isinstance(result, Completion)
        assert result.text == "whole"
        assert started.pieces == (["whole"] if stream else [])
    assert [seen.stream for seen in upstream.requests] == [True, False, False]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_service_that_ignores_the_wish_for_a_stream_is_understood(
    upstream: ScriptedUpstream, caller: Caller, stream: bool
) -> None:
    upstream.default = answer("whole", always_streams=False)
    result = await caller.start(stream=stream).end()
    assert isinstance(result, Completion)
    assert result.text == "whole"


async def test_a_form_that_does_not_help_is_forgotten(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    upstream.default = refuses_everything
    assert (await caller.start().failure()).resend
    assert not (await caller.start().failure()).resend
    upstream.default = answer("fine")
    assert isinstance(await caller.start().end(), Completion)
    assert [seen.stream for seen in upstream.requests] == [True, False, True]


async def test_a_form_that_helped_is_kept_after_a_later_refusal(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    upstream.default = refuses_streams
    await caller.start().end()
    await caller.start().end()
    upstream.then(failure(400, "the prompt is too long"))
    assert not (await caller.start().failure()).resend
    assert isinstance(await caller.start().end(), Completion)
    assert [seen.stream for seen in upstream.requests] == [True, False, False, False]


async def test_each_model_has_its_form(upstream: ScriptedUpstream, caller: Caller) -> None:
    upstream.default = refuses_streams
    await caller.start(model="a").end()
    await caller.start(model="a").end()
    upstream.default = answer("fine")
    await caller.start(model="b").end()
    await caller.start(model="a").end()
    assert [seen.stream for seen in upstream.requests] == [True, False, True, False]


async def test_a_limit_of_tokens_is_sent_under_its_other_name(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    upstream.then(failure(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'"))
    assert (await caller.start(max_tokens=50).failure()).resend
    assert isinstance(await caller.start(max_tokens=50).end(), Completion)
    last = upstream.requests[-1].body
    assert ("max_tokens" in last, last["max_completion_tokens"]) == (False, 50)


def test_the_number_of_learned_forms_is_bounded() -> None:
    forms = LearnedForms()
    plain = RequestForm(streams=False)
    for number in range(MAX_LEARNED_FORMS + 1):
        forms.learn(f"{number}", plain)
    assert forms.of("0") == forms.of(f"{MAX_LEARNED_FORMS - 1}") == plain
    assert forms.of(f"{MAX_LEARNED_FORMS}") is USUAL_FORM
    forms.learn("0", USUAL_FORM)
    assert forms.of("0") is USUAL_FORM


async def test_the_trace_of_a_call_goes_with_its_request_and_with_no_other(
    upstream: ScriptedUpstream, caller: Caller
) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for trace in (None, TraceContext(parent, "a=b"), TraceContext(parent), None):
        await caller.start(trace=trace).end()
    sent = [
        {name.lower(): value for name, value in seen.headers.items()} for seen in upstream.requests
    ]
    assert [(each.get("traceparent"), each.get("tracestate")) for each in sent] == [
        (None, None),
        (parent, "a=b"),
        (parent, None),
        (None, None),
    ]
