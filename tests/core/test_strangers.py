"""Strangers give way to newcomers, and those of one network to each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.strangers import StrangerPool, network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8::1", "2001:db8::"),
        ("2001:db8:0:0:ffff::1", "2001:db8::"),
        ("2001:db8:0:1::1", "2001:db8:0:1::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("/run/exai.sock", "/run/exai.sock"),
    ],
)
def test_a_network_is_an_address_or_the_first_half_of_an_ipv6_one(
    address: str, network: str
) -> None:
    assert network_of(address) == network


def test_the_oldest_gives_way_when_the_pool_is_full() -> None:
    pool = StrangerPool[int](3)
    assert [pool.add(number, "a", number) for number in range(6)] == [None, None, None, 0, 1, 2]
    assert len(pool) == 3
    assert pool.displaced == 3


def test_a_place_of_one_that_left_or_was_admitted_is_free() -> None:
    pool = StrangerPool[int](2)
    pool.add(0, "a", 0.0)
    pool.add(1, "a", 0.0)
    assert pool.remove(0)
    assert not pool.remove(0)
    assert pool.add(2, "a", 0.0) is None
    assert pool.displaced == 0


def test_a_network_with_its_equal_part_displaces_its_own() -> None:
    pool = StrangerPool[str](4)
    for number in range(4):
        pool.add(f"greedy {number}", "greedy", 0.0)
    assert pool.add("honest", "honest", 0.0) == "greedy 0"
    for number in range(100):
        displaced = pool.add(f"more {number}", "greedy", 0.0)
        assert displaced is not None
        assert displaced != "honest"


def test_a_network_with_exactly_its_part_of_a_full_pool_displaces_its_own() -> None:
    pool = StrangerPool[str](4)
    for name in ("old", "a1", "a2", "old 2"):
        pool.add(name, name.removesuffix(" 2")[:1], 0.0)
    assert pool.add("a3", "a", 0.0) == "a1"


def test_many_networks_displace_the_oldest_of_all() -> None:
    pool = StrangerPool[int](10)
    displaced = [pool.add(number, f"network {number}", 0.0) for number in range(30)]
    assert displaced == [None] * 10 + list(range(20))


def test_only_a_stranger_of_some_age_gives_way_to_a_shortage_of_files() -> None:
    pool = StrangerPool[str](10)
    assert pool.take_older_than(100.0) is None
    pool.add("old", "a", 1.0)
    pool.add("young", "a", 2.0)
    assert pool.take_older_than(1.0) is None
    assert pool.take_older_than(2.0) == "old"
    assert pool.take_older_than(2.0) is None
    assert pool.displaced == 1


@given(
    st.integers(1, 8),
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "remove", "take"]))),
)
def test_a_pool_is_never_above_its_limit_and_forgets_who_left(
    limit: int, steps: list[tuple[str, str]]
) -> None:
    pool = StrangerPool[int](limit)
    alive: list[int] = []
    for number, (network, step) in enumerate(steps):
        match step:
            case "add":
                displaced = pool.add(number, network, float(number))
                alive.append(number)
                if displaced is not None:
                    alive.remove(displaced)
            case "remove" if alive:
                assert pool.remove(alive.pop(len(alive) // 2))
            case "take" if alive:
                assert pool.take_older_than(number) == alive.pop(0)
        assert len(pool) == len(alive) <= limit
    for each in alive:
        assert pool.remove(each)
    assert not pool._by_network
    assert not pool._networks
