"""Who gets a place when connections are scarce."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.places import PlaceLimits, Places
from exai_actors.ids import DEFAULT_TENANT, ConnectionId, TenantName

A, B, C = TenantName("a"), TenantName("b"), TenantName("c")


def take(places: Places, tenant: TenantName, count: int, address: str = "10.0.0.1") -> int:
    """How many of ``count`` connections get a place; their names are never used before."""
    return sum(
        places.take(ConnectionId(f"{tenant}-{len(places)}-{number}"), tenant, address) is None
        for number in range(count)
    )


def test_a_single_tenant_gets_every_place() -> None:
    places = Places(PlaceLimits(10))
    assert take(places, DEFAULT_TENANT, 15) == 10
    assert places.refused == 5


@pytest.mark.parametrize(
    ("tenants", "most"), [((A, B), 75), ((A, B, C), 68), (tuple("abcdefghij"), 55)]
)
def test_a_greedy_tenant_leaves_the_others_their_parts(
    tenants: tuple[TenantName, ...], most: int
) -> None:
    places = Places(PlaceLimits(100), frozenset(tenants))
    assert take(places, A, 200) == most
    kept = 50 // len(tenants)
    for other in tenants[1:]:
        assert take(places, other, kept) == kept


def test_what_no_tenant_needs_is_anyones() -> None:
    places = Places(PlaceLimits(100), frozenset((A, B)))
    assert take(places, B, 40) == 40
    assert take(places, A, 100) == 60


def test_a_tenant_without_a_token_of_its_own_keeps_no_places_but_may_use_free_ones() -> None:
    places = Places(PlaceLimits(100), frozenset((A,)))
    assert take(places, B, 100) == 50
    assert take(places, A, 100) == 50


def test_a_tenants_own_limit_replaces_the_parts() -> None:
    places = Places(PlaceLimits(100, per_tenant=30), frozenset((A, B)))
    assert take(places, A, 100) == 30
    assert "all 30 connections of this tenant" in str(places.take(ConnectionId("x"), A, ""))
    assert take(places, B, 100) == 30


def test_an_address_has_its_limit_and_an_unknown_one_has_none() -> None:
    places = Places(PlaceLimits(100, per_address=2))
    assert take(places, DEFAULT_TENANT, 5, "10.0.0.1") == 2
    assert take(places, DEFAULT_TENANT, 5, "10.0.0.2") == 2
    assert take(places, DEFAULT_TENANT, 5, "") == 5
    assert "of this address" in str(places.take(ConnectionId("x"), DEFAULT_TENANT, "10.0.0.1"))


@given(
    st.lists(
        st.tuples(st.sampled_from([A, B, C]), st.sampled_from(["x", "y"]), st.booleans()),
        max_size=80,
    )
)
def test_places_are_never_above_any_limit_and_all_come_back(
    steps: list[tuple[TenantName, str, bool]],
) -> None:
    places = Places(PlaceLimits(20, per_address=12), frozenset((A, B)))
    open_: list[tuple[ConnectionId, TenantName, str]] = []
    for number, (tenant, address, leaves) in enumerate(steps):
        connection = ConnectionId(str(number))
        for known, its_tenant, its_address in open_:
            assert places.take(known, its_tenant, its_address) is None
        if leaves and open_:
            places.free(open_.pop(0)[0])
        elif places.take(connection, tenant, address) is None:
            open_.append((connection, tenant, address))
        assert len(places) == len(open_) <= 20
        assert max((sum(each[2] == x for each in open_) for x in "xy"), default=0) <= 12
        assert sum(each[1] == A for each in open_) <= 15
    for connection, _, _ in open_:
        places.free(connection)
        places.free(connection)
    assert take(places, A, 50, "x") == 12
    assert take(places, B, 50, "y") == 8
