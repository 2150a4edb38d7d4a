from __future__ import annotations

import pytest

from exai_actors.core.cross_origin import cross_origin_fields, preflight_fields
from exai_actors.core.handshake_policy import HandshakePolicy

DESK = "https://desk.example"
POLICY = HandshakePolicy(max_connections=3, allowed_origins=(DESK, "null", "file://"))
CHAT = "/v1/chat/completions"
ASKS = {"access-control-request-method": "POST"}


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/models/moon", "/v1/no/such/path"])
@pytest.mark.parametrize("origin", [DESK, "HTTPS://desk.example", "null", "file://"])
def test_a_listed_page_may_read_the_apis_as_the_origin_that_it_named(
    path: str, origin: str
) -> None:
    fields = dict(cross_origin_fields(POLICY, path, origin))
    assert fields["Access-Control-Allow-Origin"] == origin
    assert fields["Vary"] == "Origin"
    exposed = fields["Access-Control-Expose-Headers"].split(", ")
    assert {"x-request-id", "request-id", "x-exai-queued-ms", "retry-after"} <= {*exposed}
    assert "*" not in exposed
    assert "Access-Control-Allow-Credentials" not in fields


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        (CHAT, None),
        (CHAT, "https://evil.example"),
        (CHAT, f"{DESK}, https://evil.example"),
        (CHAT, f"{DESK}.evil.example"),
        (CHAT, "http://127.0.0.1:8079"),
        ("/console/feed", DESK),
        ("/metrics", DESK),
        ("/mcp", DESK),
        ("/v1", DESK),
        ("/", DESK),
    ],
)
def test_no_other_page_may_and_nothing_but_the_apis(path: str, origin: str | None) -> None:
    assert cross_origin_fields(POLICY, path, origin) == ()


def test_every_origin_is_named_and_none_is_answered_with_a_star() -> None:
    every = HandshakePolicy(max_connections=3, allowed_origins=("*",))
    fields = dict(cross_origin_fields(every, CHAT, "https://any.example"))
    assert fields["Access-Control-Allow-Origin"] == "https://any.example"


def test_a_preflight_permits_the_headers_that_it_names() -> None:
    names = "authorization,content-type,x-api-key,anthropic-version,x-stainless-lang"
    fields = preflight_fields("OPTIONS", {**ASKS, "access-control-request-headers": names})
    assert fields is not None
    permitted = dict(fields)
    assert permitted["Access-Control-Allow-Headers"] == names
    assert "POST" in permitted["Access-Control-Allow-Methods"]
    assert int(permitted["Access-Control-Max-Age"]) > 0


@pytest.mark.parametrize("names", ["", "a: b", "a\tb", "a\xff", 'a"b'])
def test_whatever_is_no_list_of_names_is_not_repeated(names: str) -> None:
    fields = preflight_fields("OPTIONS", {**ASKS, "access-control-request-headers": names})
    assert fields is not None
    assert "Access-Control-Allow-Headers" not in dict(fields)


@pytest.mark.parametrize(("method", "named"), [("OPTIONS", {}), ("POST", ASKS), ("GET", ASKS)])
def test_other_requests_are_no_preflights(method: str, named: dict[str, str]) -> None:
    assert preflight_fields(method, named) is None
