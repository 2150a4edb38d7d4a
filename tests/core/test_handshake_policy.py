from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.handshake_policy import (
    AdmissionPolicy,
    ConnectionRefused,
    is_loopback,
    judge_count,
    judge_handshake,
)

OPEN_TO_NONE = AdmissionPolicy(max_connections=3)
ON_LOOPBACK = AdmissionPolicy(max_connections=3, guards_host=True)


def test_a_client_without_an_origin_is_not_a_browser_and_passes() -> None:
    assert judge_handshake(OPEN_TO_NONE, origin=None, host="127.0.0.1:8079") is None


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://localhost:3000",
        "http://127.0.0.1:8079",
        "null",
        "",
        "file://",
        "chrome-extension://abcdefgh",
    ],
)
def test_every_origin_is_foreign_unless_listed(origin: str) -> None:
    refused = judge_handshake(OPEN_TO_NONE, origin=origin, host="127.0.0.1:8079")
    assert refused is not None
    assert refused.status == 403
    assert "allowed_origins" in refused.text


def test_a_page_under_a_rebound_name_is_foreign_although_its_origin_equals_the_host() -> None:
    refused = judge_handshake(
        ON_LOOPBACK, origin="http://evil.example:8079", host="evil.example:8079"
    )
    assert refused is not None
    assert "http://evil.example:8079" in refused.text


@pytest.mark.parametrize("written", ["http://localhost:3000", "http://LOCALHOST:3000/"])
def test_a_listed_origin_passes_however_it_is_written(written: str) -> None:
    policy = AdmissionPolicy(max_connections=3, allowed_origins=(written,))
    assert judge_handshake(policy, origin="http://localhost:3000", host=None) is None


@pytest.mark.parametrize("other", ["http://localhost:3001", "https://localhost:3000", "null"])
def test_a_listed_origin_lets_no_other_in(other: str) -> None:
    policy = AdmissionPolicy(max_connections=3, allowed_origins=("http://localhost:3000",))
    assert judge_handshake(policy, origin=other, host=None) is not None


def test_a_star_lets_every_origin_in_but_only_when_it_is_listed() -> None:
    policy = AdmissionPolicy(max_connections=3, allowed_origins=("*",))
    assert judge_handshake(policy, origin="https://any.example", host=None) is None
    assert judge_handshake(OPEN_TO_NONE, origin="*", host=None) is not None


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
def test_a_server_on_loopback_takes_hosts_no_stranger_can_register(host: str) -> None:
    assert judge_handshake(ON_LOOPBACK, origin=None, host=host) is None


@pytest.mark.parametrize("host", ["evil.example:8079", "localhost.evil.example", "", "[::1", ":80"])
def test_a_server_on_loopback_refuses_a_public_or_broken_host(host: str) -> None:
    refused = judge_handshake(ON_LOOPBACK, origin=None, host=host)
    assert refused is not None
    assert refused.status == 403
    assert "localhost" in refused.text
    assert "allowed_hosts" in refused.text


def test_a_public_host_behind_a_proxy_passes_when_it_is_listed() -> None:
    policy = AdmissionPolicy(max_connections=3, allowed_hosts=("Broker.example",), guards_host=True)
    assert judge_handshake(policy, origin=None, host="broker.example:443") is None
    assert judge_handshake(policy, origin=None, host="other.example") is not None


def test_a_server_on_a_network_address_is_reached_under_any_name() -> None:
    assert judge_handshake(OPEN_TO_NONE, origin=None, host="broker.example") is None


@given(st.text(), st.text())
def test_no_header_breaks_the_judgement_or_gets_into_the_answer_unprintable(
    origin: str, host: str
) -> None:
    refused = judge_handshake(ON_LOOPBACK, origin=origin, host=host)
    assert refused is not None
    assert refused.text.replace("\n", "").isprintable()
    judge_handshake(ON_LOOPBACK, origin=None, host=host)


def test_the_connection_beyond_the_limit_is_refused() -> None:
    assert judge_count(OPEN_TO_NONE, open_connections=2, from_same_address=2) is None
    assert judge_count(OPEN_TO_NONE, open_connections=3, from_same_address=0) == ConnectionRefused(
        1008, "Server overloaded - global connection limit reached"
    )


def test_the_connection_beyond_the_limit_of_its_address_is_refused() -> None:
    policy = AdmissionPolicy(max_connections=100, max_connections_per_address=10)
    assert judge_count(policy, open_connections=50, from_same_address=9) is None
    assert judge_count(policy, open_connections=50, from_same_address=10) == ConnectionRefused(
        1008, "Too many connections from your IP (10/10)"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_loopback_hosts_are_known_as_such(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "broker.example", ""])
def test_other_hosts_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)
