from __future__ import annotations

import pytest

from exai_actors.core.loopback import is_loopback, is_loopback_address


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "LocalHost", "a.localhost"]
)
def test_loopback_hosts_are_recognized(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "broker.example", "evillocalhost", ""]
)
def test_other_hosts_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1.example", ""])
def test_names_are_not_addresses(host: str) -> None:
    assert not is_loopback_address(host)
