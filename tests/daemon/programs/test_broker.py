"""The questions that `exai run` and `exai connect` ask a broker over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exai_actors.client.errors import ConnectError, Unauthorized
from exai_actors.core.families import Family
from exai_actors.daemon.programs.address import address_of
from exai_actors.daemon.programs.broker import Model, check, model_for, models_of
from exai_actors.errors import UsageError
from tests.daemon.programs.scripted_broker import TOKEN, ScriptedBroker


@pytest.fixture
def broker() -> Iterator[ScriptedBroker]:
    with ScriptedBroker() as broker:
        yield broker


def test_the_models_with_their_families(broker: ScriptedBroker) -> None:
    found = models_of(address_of(broker.url), TOKEN)
    assert found == (Model("chatty", ("chat",)), Model("all", ("chat", "messages", "responses")))
    assert model_for("chat", found) == "chatty"
    assert model_for("messages", found) == "all"
    with pytest.raises(UsageError, match=r'no model .* "embeddings"; add it to `families`'):
        model_for("embeddings", found)


def test_a_broker_without_models_or_families() -> None:
    assert model_for("responses", (Model("any"),)) == "any"
    with pytest.raises(UsageError, match="no models yet; name one with --model"):
        model_for("chat", ())


def test_a_wrong_token_a_missing_broker_and_another_server(broker: ScriptedBroker) -> None:
    with pytest.raises(Unauthorized, match="the token is wrong"):
        models_of(address_of(broker.url), "a wrong one")
    broker.bodies["/v1/models"] = (404, b"nothing here")
    with pytest.raises(UsageError, match=r"serves no HTTP APIs \(GET /v1/models: 404\)"):
        models_of(address_of(broker.url), TOKEN)
    broker.bodies["/v1/models"] = (200, b"[]")
    with pytest.raises(UsageError, match="serves no HTTP APIs"):
        models_of(address_of(broker.url), TOKEN)
    with pytest.raises(ConnectError, match="connection refused"):
        models_of(address_of("ws://127.0.0.1:1"), TOKEN)


WHOLE: list[tuple[Family, str, bytes]] = [
    (
        "messages",
        "/v1/messages?beta=true",
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    ),
    ("chat", "/v1/chat/completions", b"data: [DONE]\n\n"),
    ("chat", "/v1/chat/completions", b'data: {"choices":[{"finish_reason":"stop"}]}\n\n'),
    ("responses", "/v1/responses", b"event: response.completed\ndata: {}\n\n"),
    ("responses", "/v1/responses", b"event: response.incomplete\ndata: {}\n\n"),
]


@pytest.mark.parametrize(("family", "path", "end"), WHOLE)
def test_a_check_is_one_request_of_the_family(
    family: Family, path: str, end: bytes, broker: ScriptedBroker
) -> None:
    broker.bodies[path] = (200, b": exai queued position=1\n\ndata: {}\n\n" + end)
    found = check(address_of(broker.url), TOKEN, family, "all", "claude")
    assert (found.error, found.status) == ("", 200)
    assert (found.provider, found.tenant, found.request_id) == ("kimi", "desk", "r1")
    (request,) = broker.requests
    assert request.path == path
    assert request.body["model"] == "all"
    assert request.body["stream"] is True
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert ("anthropic-version" in request.headers) == (family == "messages")
    assert "check for claude" in request.headers["User-Agent"]


@pytest.mark.parametrize(("family", "path", "end"), WHOLE)
def test_an_answer_without_its_end_is_a_failure(
    family: Family, path: str, end: bytes, broker: ScriptedBroker
) -> None:
    broker.bodies[path] = (200, b"data: {}\n\n")
    found = check(address_of(broker.url), TOKEN, family, "all", "claude")
    assert found.error == "the answer broke off before its end"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error": {"message": "no room"}}', "no room"),
        (b'{"type": "error", "error": {"type": "x", "message": "no room"}}', "no room"),
        (b"<html>no room", "<html>no room"),
        (b"[1]", "[1]"),
        (b"", "without a reason"),
    ],
)
def test_a_refusal_is_shown(body: bytes, error: str, broker: ScriptedBroker) -> None:
    broker.bodies["/v1/chat/completions"] = (429, body)
    found = check(address_of(broker.url), TOKEN, "chat", "all", "llm")
    assert (found.status, found.error) == (429, error)
