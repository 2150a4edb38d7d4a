"""A response over HTTP whose head has been sent before its answer was known."""

from __future__ import annotations

import pytest

from exai_actors.actors.http_exchange.exchange import Owner, RelayedExchange
from exai_actors.actors.http_exchange.response import Response
from exai_actors.core.calls import CallOptions, RelayedResponse
from exai_actors.core.relay import Fields, RelayPipe, RelayRequest
from exai_actors.ids import SessionId
from tests.actors.relaying import JSON, STREAM, ResponderProbe


def waiting(*, stream: bool) -> tuple[Response, ResponderProbe]:
    """A response that has shown a sign of life."""
    request = RelayRequest("chat", "", b"{}", (), "moon", RelayPipe(), stream)
    exchange = RelayedExchange("req_1", Owner(None, SessionId("one")), request, CallOptions())
    responder = ResponderProbe()
    response = Response(responder, exchange, 0.0, lambda: None)
    response.show_life()
    return response, responder


@pytest.mark.parametrize(("stream", "fields"), [(True, STREAM), (False, JSON)])
def test_the_kept_answer_to_an_earlier_request_can_still_follow(
    stream: bool, fields: Fields
) -> None:
    response, responder = waiting(stream=stream)
    response.complete(RelayedResponse(200, fields, b"kept"))
    assert (responder.starts, responder.ended) == (1, "clean")
    assert responder.body.endswith(b"\nkept")


def test_a_kept_answer_of_another_form_cannot() -> None:
    response, responder = waiting(stream=False)
    response.complete(RelayedResponse(200, STREAM, b"kept"))
    assert (responder.body, responder.ended) == (b"\n", "broken off")
