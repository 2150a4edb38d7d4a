from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.handshake_policy import (
    ConnectionRefused,
    HandshakePolicy,
    HandshakeRefused,
    check_connection_limits,
)
from exai_actors.core.handshake_policy import check_handshake as check_handshake_at

OPEN_TO_NONE = HandshakePolicy(max_connections=3)
ON_LOOPBACK = HandshakePolicy(max_connections=3, checks_host=True)
PORT = 8079


def check_handshake(
    policy: HandshakePolicy, *, origin: str | None, host: str | None
) -> HandshakeRefused | None:
    return check_handshake_at(policy, origin=origin, host=host, port=PORT)


def test_a_client_without_origin_is_accepted() -> None:
    assert check_handshake(OPEN_TO_NONE, origin=None, host="127.0.0.1:8079") is None


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://localhost:3000",
        "http://127.0.0.1:80790",
        "http://127.0.0.2:8079",
        "http://localhost:8079",
        "https://127.0.0.1:8079",
        "http://127.0.0.1",
        "http://127.0.0.1:8079/",
        "http://user@127.0.0.1:8079",
        "ws://127.0.0.1:8079",
        "127.0.0.1:8079",
        "null",
        "",
        "file://",
        "chrome-extension://abcdefgh",
    ],
)
def test_every_unlisted_origin_is_refused(origin: str) -> None:
    refused = check_handshake(OPEN_TO_NONE, origin=origin, host="127.0.0.1:8079")
    assert refused is not None
    assert refused.status == 403
    assert "allowed_origins" in refused.text


@pytest.mark.parametrize("origin", ["file://", "file:///", "null"])
def test_the_origin_of_a_desktop_program_can_be_allowed_as_the_refusal_says(origin: str) -> None:
    refused = check_handshake(OPEN_TO_NONE, origin=origin, host="127.0.0.1:8079")
    assert refused is not None
    assert f'allowed_origins = ["{origin}"]' in refused.text
    assert "require a token" in refused.text
    policy = HandshakePolicy(max_connections=3, allowed_origins=(origin,))
    assert check_handshake(policy, origin=origin, host="127.0.0.1:8079") is None


def test_a_page_under_a_rebound_name_is_refused() -> None:
    refused = check_handshake(
        ON_LOOPBACK, origin="http://evil.example:8079", host="evil.example:8079"
    )
    assert refused is not None
    assert "http://evil.example:8079" in refused.text


# What the library websocket-client sends by default.
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8079", "localhost:8079", "[::1]:8079", "127.8.8.8:8079", "LocalHost:8079"],
)
@pytest.mark.parametrize("policy", [OPEN_TO_NONE, ON_LOOPBACK])
def test_the_origin_that_programs_make_of_the_address_is_accepted(
    policy: HandshakePolicy, host: str
) -> None:
    assert check_handshake(policy, origin=f"http://{host}", host=host) is None


def test_that_origin_leaves_out_port_80() -> None:
    for port, accepted in ((80, True), (PORT, False)):
        refused = check_handshake_at(
            ON_LOOPBACK, origin="http://localhost", host="localhost", port=port
        )
        assert (refused is None) is accepted


@pytest.mark.parametrize(
    "host",
    [
        "localhost:3000",  # another server's page
        "localhost:80",
        "evil.example:8079",
        "localhost.evil.example:8079",
        "127.0.0.1.evil.example:8079",
        "127.0.0.1:8079@evil.example",
        "evil.example@127.0.0.1:8079",
        "evil.example/@127.0.0.1:8079",
        "127.0.0.1:8079/evil",
        "127.0.0.1:8079#",
        "mybox:8079",
        "10.0.0.1:8079",
        "0.0.0.0:8079",
        "broker.localhost:8079",
        "localhost.:8079",
        "[::1:8079",
        "localhost:port",
        "",
        ":8079",
    ],
)
@pytest.mark.parametrize("policy", [OPEN_TO_NONE, ON_LOOPBACK])
def test_no_other_origin_is_accepted_for_being_the_host(policy: HandshakePolicy, host: str) -> None:
    refused = check_handshake(policy, origin=f"http://{host}", host=host)
    assert refused is not None
    assert refused.status == 403


@pytest.mark.parametrize("written", ["http://localhost:3000", "http://LOCALHOST:3000/"])
def test_a_listed_origin_is_accepted_in_any_spelling(written: str) -> None:
    policy = HandshakePolicy(max_connections=3, allowed_origins=(written,))
    assert check_handshake(policy, origin="http://localhost:3000", host=None) is None


@pytest.mark.parametrize("other", ["http://localhost:3001", "https://localhost:3000", "null"])
def test_a_listed_origin_admits_no_other(other: str) -> None:
    policy = HandshakePolicy(max_connections=3, allowed_origins=("http://localhost:3000",))
    assert check_handshake(policy, origin=other, host=None) is not None


def test_a_listed_star_admits_every_origin() -> None:
    policy = HandshakePolicy(max_connections=3, allowed_origins=("*",))
    assert check_handshake(policy, origin="https://any.example", host=None) is None
    assert check_handshake(OPEN_TO_NONE, origin="*", host=None) is not None


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8079",
        "127.0.0.1",
        "[::1]:8079",
        "localhost:8079",
        "LOCALHOST.",
        "broker.localhost:8079",
        "host.docker.internal:8079",
        "mybox:8079",
    ],
)
def test_a_loopback_server_accepts_unregistrable_hosts(host: str) -> None:
    assert check_handshake(ON_LOOPBACK, origin=None, host=host) is None


@pytest.mark.parametrize(
    "host", ["evil.example:8079", "localhost.evil.example", "a.evillocalhost", "", "[::1", ":80"]
)
def test_a_loopback_server_refuses_public_and_broken_hosts(host: str) -> None:
    refused = check_handshake(ON_LOOPBACK, origin=None, host=host)
    assert refused is not None
    assert refused.status == 403
    assert "localhost" in refused.text
    assert "allowed_hosts" in refused.text


def test_a_listed_public_host_is_accepted() -> None:
    policy = HandshakePolicy(max_connections=3, allowed_hosts=("Broker.example",), checks_host=True)
    assert check_handshake(policy, origin=None, host="broker.example:443") is None
    assert check_handshake(policy, origin=None, host="other.example") is not None


def test_a_network_server_accepts_any_host() -> None:
    assert check_handshake(OPEN_TO_NONE, origin=None, host="broker.example") is None


@given(st.text(), st.text())
def test_refusals_are_printable_whatever_the_headers(origin: str, host: str) -> None:
    refused = check_handshake(ON_LOOPBACK, origin=origin, host=host)
    assert refused is not None
    assert refused.text.replace("\n", "").isprintable()
    check_handshake(ON_LOOPBACK, origin=None, host=host)


def test_a_refusal_quotes_headers_without_markup_and_shortened() -> None:
    refused = check_handshake(OPEN_TO_NONE, origin='<a\\"\n>' + "b" * 10_000, host=None)
    assert refused is not None
    assert "origin abbb" in refused.text
    assert "b" * 194 in refused.text
    assert "b" * 195 not in refused.text


def test_a_connection_above_the_limit_is_refused() -> None:
    assert check_connection_limits(OPEN_TO_NONE, open_connections=2, from_same_address=2) is None
    assert check_connection_limits(
        OPEN_TO_NONE, open_connections=3, from_same_address=0
    ) == ConnectionRefused(1008, "Server overloaded - global connection limit reached")


def test_a_connection_above_the_limit_of_its_address_is_refused() -> None:
    policy = HandshakePolicy(max_connections=100, max_connections_per_address=10)
    assert check_connection_limits(policy, open_connections=50, from_same_address=9) is None
    assert check_connection_limits(
        policy, open_connections=50, from_same_address=10
    ) == ConnectionRefused(1008, "Too many connections from your IP (10/10)")
