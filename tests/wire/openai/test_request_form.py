"""Refusals of one argument, in the words of many services, and refusals of something else."""

import orjson
import pytest

from exai_actors.wire.openai.request_form import USUAL_FORM, RequestForm, adapted_form

WITHOUT_USAGE = RequestForm(includes_usage=False)
WITHOUT_STREAM = RequestForm(streams=False)
RENAMED = RequestForm(max_tokens_name="max_completion_tokens")


def error(message: str, **more: object) -> bytes:
    return orjson.dumps({"error": {"message": message, **more}})


@pytest.mark.parametrize(
    ("status", "body", "form"),
    [
        # OpenAI, o-series
        (
            400,
            error(
                "Unsupported parameter: 'max_tokens' is not supported with this model. "
                "Use 'max_completion_tokens' instead.",
                type="invalid_request_error",
                param="max_tokens",
                code="unsupported_parameter",
            ),
            RENAMED,
        ),
        (400, error("Use 'max_completion_tokens' instead.", param="max_tokens"), RENAMED),
        (422, {"detail": [{"loc": ["body", "max_tokens"], "type": "extra_forbidden"}]}, RENAMED),
        (400, error("unknown field max_tokens"), RENAMED),
        (500, error("max_tokens is deprecated, please use max_completion_tokens"), RENAMED),
        (400, b"max_tokens: not supported, try max_completion_tokens", RENAMED),
        # stream_options
        (400, error("Unrecognized request argument supplied: stream_options"), WITHOUT_USAGE),
        (400, error("bad parameter", param="stream_options"), WITHOUT_USAGE),
        (400, error("no such thing", param="stream_options.include_usage"), WITHOUT_USAGE),
        (
            422,
            {
                "detail": [
                    {"loc": ["body", "stream_options"], "msg": "Extra inputs are not allowed"}
                ]
            },
            WITHOUT_USAGE,
        ),
        (500, error("json: unknown field stream_options"), WITHOUT_USAGE),
        (422, {"object": "error", "message": "extra_forbidden: stream_options"}, WITHOUT_USAGE),
        (
            400,
            [{"error": {"message": "Unknown name include_usage: Cannot find field."}}],
            WITHOUT_USAGE,
        ),
        # stream
        (
            400,
            error(
                "Unsupported value: 'stream' does not support true with this model.",
                param="stream",
                code="unsupported_value",
            ),
            WITHOUT_STREAM,
        ),
        (
            400,
            error(
                "Your organization must be verified to stream this model.",
                param="stream",
                code="unsupported_value",
            ),
            WITHOUT_STREAM,
        ),
        (400, error("Streaming is not supported for this model"), WITHOUT_STREAM),
        (501, error("streaming not implemented yet: not supported"), WITHOUT_STREAM),
        (400, {"detail": "stream must be false"}, WITHOUT_STREAM),
        (
            422,
            {"detail": [{"loc": ["body", "stream"], "msg": "not permitted: unexpected"}]},
            WITHOUT_STREAM,
        ),
        (400, b"This endpoint doesn't support streaming.", WITHOUT_STREAM),
        (
            400,
            error("\u8be5\u6a21\u578b\u4e0d\u652f\u6301\u6d41\u5f0f\u8f93\u51fa"),
            WITHOUT_STREAM,
        ),
    ],
)
def test_a_refusal_that_names_an_argument_changes_the_form(
    status: int, body: object, form: RequestForm
) -> None:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    assert adapted_form(USUAL_FORM, status, raw, streamed=True, limits_tokens=True) == form


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, error("max_tokens is too large: 200000", param="max_tokens")),
        (400, error("max_tokens must be at most 8192")),
        (
            400,
            error("This model's maximum context length is 8192 tokens, of which max_tokens 9000"),
        ),
        (400, error("the upstream service is not supported")),
        (400, error("unsupported model")),
        (400, error("The stream of your consciousness is long")),
        (400, error("Invalid content: 'stream unsupported max_tokens'")),
        (400, error('the prompt "streaming is not supported, unknown max_tokens" is blocked')),
        (422, error("messages[0]: `stream_options are not supported` is unknown")),
        (
            400,
            error("bad request: " + "x" * 1000 + " streaming is not supported, max_tokens unknown"),
        ),
        (401, error("stream not supported")),
        (429, error("stream_options not supported")),
        (402, error("stream_options not supported")),
        (503, error("streaming is not supported")),
        (200, error("streaming is not supported")),
        (400, b""),
        (400, b"\xff\xfe"),
        (400, b"[[[[[[[[[[["),
        (400, b'{"error": null, "param": 7, "detail": [1, {"loc": "stream"}]}'),
    ],
)
def test_other_refusals_do_not(status: int, body: bytes) -> None:
    assert adapted_form(USUAL_FORM, status, body, streamed=True, limits_tokens=True) is None


def test_an_argument_that_was_not_sent_is_not_left_out() -> None:
    for words in ("stream_options not supported", "streaming is not supported"):
        body = error(words)
        assert adapted_form(USUAL_FORM, 400, body, streamed=False, limits_tokens=True) is None
    unknown = error("unknown field max_tokens")
    assert adapted_form(USUAL_FORM, 400, unknown, streamed=True, limits_tokens=False) is None


def test_each_argument_is_left_out_once() -> None:
    options, stream = error("stream_options not supported"), error("stream not supported")
    assert adapted_form(WITHOUT_USAGE, 400, options, streamed=True, limits_tokens=True) is None
    assert adapted_form(WITHOUT_STREAM, 400, stream, streamed=True, limits_tokens=True) is None
    both = adapted_form(WITHOUT_USAGE, 400, stream, streamed=True, limits_tokens=True)
    assert both == RequestForm(streams=False, includes_usage=False)


def test_a_new_name_that_is_refused_returns_to_the_old_one() -> None:
    body = error("Unrecognized argument: max_completion_tokens")
    form = adapted_form(RENAMED, 400, body, streamed=True, limits_tokens=True)
    assert form == USUAL_FORM
