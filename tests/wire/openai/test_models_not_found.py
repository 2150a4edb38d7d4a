"""Refusals that say that a service does not have a model, so that a route may continue."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from exai_actors.core.calls import FailureKind
from exai_actors.wire.openai.errors import classify_response


def kind_of(status: int, body: Any, content_type: str = "application/json") -> FailureKind:
    raw = body.encode() if isinstance(body, str) else orjson.dumps(body)
    return classify_response(status, {"Content-Type": content_type}, raw, now=0.0, model="m").kind


def error(message: str, **more: object) -> dict[str, object]:
    return {"error": {"message": message, **more}}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        # OpenAI, DeepSeek, Groq, Mistral, OpenRouter, Azure, Ollama, new-api, GLM, Gemini, Together
        (404, error("The model `gpt-9` does not exist or you do not have access to it.")),
        (404, error("retired", code="model_not_found")),
        (400, error("Model Not Exist", type="invalid_request_error")),
        (
            400,
            error("The model `mixtral-8x7b` has been decommissioned", code="model_decommissioned"),
        ),
        (400, error("Invalid model: mistral-huge", type="invalid_model")),
        (404, error("No endpoints found for meta/llama-9.", code=404)),
        (400, error("foo/bar is not a valid model ID", code=400)),
        (
            404,
            error(
                "The API deployment for this resource does not exist.", code="DeploymentNotFound"
            ),
        ),
        (404, {"error": 'model "llama9" not found, try pulling it first'}),
        (503, error("no channel", code="model_not_found", type="new_api_error")),
        (400, error("\u6a21\u578b\u4e0d\u5b58\u5728", code="1211")),
        (404, [error("models/gemini-9 is not found for API version v1beta, or is not supported")]),
        (
            404,
            error(
                "Unable to access model x. The model is not available", code="model_not_available"
            ),
        ),
        (403, error("Project `p` does not have access to model `m`", code="model_not_found")),
        (422, error("Unknown model m9")),
        (410, error("This model was retired on 1 March")),
        (404, {"object": "error", "message": "The model `x` does not exist.", "code": 404}),
        (404, {"detail": "model x not found"}),
        (404, "model x not found"),
    ],
)
def test_a_model_that_the_service_does_not_have(status: int, body: Any) -> None:
    assert kind_of(status, body) is FailureKind.MODEL_NOT_FOUND


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        # A wrong base_url is never hidden by a route.
        (404, "404 page not found", FailureKind.NOT_FOUND),
        (404, {"detail": "Not Found"}, FailureKind.NOT_FOUND),
        (404, "", FailureKind.NOT_FOUND),
        (
            404,
            error("Invalid URL (POST /v1/chat)", type="invalid_request_error"),
            FailureKind.NOT_FOUND,
        ),
        (404, error("file not found", code="not_found"), FailureKind.NOT_FOUND),
        (400, error("image not found", code="not_found"), FailureKind.NOT_FOUND),
        (400, error("This model's maximum context length is 8192 tokens"), FailureKind.REJECTED),
        (400, error("the model does not support images"), FailureKind.REJECTED),
        (503, error("The model is overloaded, please wait"), FailureKind.OVERLOADED),
        (503, error("the model is not available right now"), FailureKind.OVERLOADED),
        (429, error("Rate limit reached for model `m`: not available"), FailureKind.RATE_LIMITED),
        (401, error("the model does not exist"), FailureKind.UNAUTHORIZED),
        (
            400,
            error("your prompt says: " + "x" * 200 + " the model does not exist"),
            FailureKind.REJECTED,
        ),
    ],
)
def test_other_refusals_stay_what_they_are(status: int, body: Any, kind: FailureKind) -> None:
    assert kind_of(status, body) is kind


def test_a_web_page_says_nothing_about_a_model() -> None:
    page = "<html><title>404</title>The model does not exist</html>"
    assert kind_of(404, page, "text/html") is FailureKind.NOT_FOUND
