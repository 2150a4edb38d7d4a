"""The pages on the broker's port."""

from __future__ import annotations

from functools import partial
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from exai_actors.console.web.files import Files
from exai_actors.core.statistics import BrokerStatistics
from exai_actors.daemon.console_pages import missing_page
from exai_actors.daemon.pages import missing, pages
from exai_actors.edges.http_server.request import RequestHead
from exai_actors.edges.http_server.server import PageRequest, Response
from tests.idle_provider import IDLE

URL = "ws://127.0.0.1:8079"


def request(path: str) -> PageRequest:
    return PageRequest(RequestHead("GET", path, "1.1", (), True, {}), b"", "127.0.0.1")


def answer(path: str, statistics: BrokerStatistics) -> Response:
    answered = pages(URL, "1.2.3", lambda: statistics)[path].answer(request(path))
    assert isinstance(answered, Response)
    return answered


def broker(**provider: Any) -> BrokerStatistics:
    kimi = replace(IDLE, **provider)
    return BrokerStatistics(
        version="1.2.3",
        uptime_s=5.0,
        connections=0,
        sessions=0,
        draining=False,
        dead_letters=0,
        providers=(kimi, replace(kimi, name="glm")),
    )


def test_a_broker_that_serves_is_alive_and_ready() -> None:
    assert orjson.loads(answer("/healthz", broker()).body)["status"] == "ok"
    ready = answer("/readyz", broker())
    assert (ready.status, orjson.loads(ready.body)) == (200, {"ready": True, "reasons": []})


@pytest.mark.parametrize(
    ("provider", "reason"),
    [
        ({"mode": "paused"}, "kimi is paused"),
        ({"mode": "closed"}, "kimi is closed"),
        ({"circuit": "open"}, "kimi is down: its circuit is open"),
        ({"held_for_s": 60.4, "held_because": "quota"}, "kimi is held for 60 s: quota"),
    ],
)
def test_a_broker_without_a_usable_provider_is_not_ready_and_says_why(
    provider: dict[str, Any], reason: str
) -> None:
    ready = answer("/readyz", broker(**provider))
    assert ready.status == 503
    assert reason in orjson.loads(ready.body)["reasons"]
    assert answer("/healthz", broker(**provider)).status == 200


def test_one_usable_provider_is_enough() -> None:
    statistics = broker()
    kimi, glm = statistics.providers
    statistics = replace(statistics, providers=(replace(kimi, mode="paused"), glm))
    assert answer("/readyz", statistics).status == 200


def test_a_draining_broker_is_alive_and_not_ready() -> None:
    draining = replace(broker(), draining=True)
    assert answer("/healthz", draining).status == 200
    ready = answer("/readyz", draining)
    assert (ready.status, orjson.loads(ready.body)["reasons"]) == (503, ["the broker is draining"])


def absent(path: str) -> Response:
    return missing(URL, partial(missing_page, Files()))(request(path))


def test_a_person_with_a_browser_learns_how_to_connect() -> None:
    assert URL in answer("/", broker()).body.decode()
    assert URL in absent("/favicon.ico").body.decode()
    assert URL in absent("/consoles").body.decode()


@pytest.mark.parametrize("path", ["/console/nothing", "/console/static/old/app.js", "/console//"])
def test_an_unknown_page_of_the_console_leads_to_the_console(path: str) -> None:
    unknown = absent(path)
    assert (unknown.status, unknown.content_type) == (404, "text/html; charset=utf-8")
    assert 'href="/console"' in unknown.body.decode()
    assert URL not in unknown.body.decode()
    assert "Content-Security-Policy" in dict(unknown.fields)


@pytest.mark.parametrize("path", ["/v1", "/v1/files", "/v1/completions", "/v1/messages/batches"])
def test_an_sdk_gets_an_error_that_it_can_show(path: str) -> None:
    refused = absent(path)
    assert (refused.status, refused.content_type) == (404, "application/json")
    message = orjson.loads(refused.body)["error"]["message"]
    assert path in message
    assert "/v1/chat/completions" in message


@pytest.mark.parametrize("path", ["/chat/completions", "/responses", "/embeddings", "/models"])
def test_an_sdk_whose_base_url_lacks_v1_learns_that(path: str) -> None:
    refused = absent(path)
    assert (refused.status, refused.content_type) == (404, "application/json")
    assert f"/v1{path}" in orjson.loads(refused.body)["error"]["message"]


def test_an_sdk_whose_base_url_has_v1_though_it_adds_it_learns_that() -> None:
    message = orjson.loads(absent("/v1/v1/messages").body)["error"]["message"]
    assert message == (
        "/v1/v1/messages is at /v1/messages here: leave /v1 out of the client's base URL."
    )
