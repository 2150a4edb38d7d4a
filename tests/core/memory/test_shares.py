from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.memory.shares import cuts, fair_level


def test_all_fit_at_the_largest_size() -> None:
    assert fair_level([3, 1, 2], 6) == 3
    assert fair_level([], 6) == 0


def test_the_smallest_keep_all_and_the_rest_share_equally() -> None:
    assert fair_level([1, 100, 50, 100], 31) == 10
    assert fair_level([5, 5, 5], 0) == 0


def test_within_the_limit_nothing_is_cut() -> None:
    assert cuts({"a": {"s1": 40, "s2": 40}, "b": {"s3": 20}}, 100) == {}


def test_a_tenant_within_its_equal_share_loses_nothing_to_another() -> None:
    kept = {"greedy": {f"g{n}": 5 for n in range(400)}, "small": {"s1": 30, "s2": 10}}
    found = cuts(kept, 200, slack=0)
    assert set(found) == {f"g{n}" for n in range(400)}
    assert set(found.values()) == {0}
    assert cuts(kept, 2000, slack=0)["g7"] == 4


def test_within_a_tenant_the_biggest_sessions_lose() -> None:
    found = cuts({"": {"hog": 900, "other hog": 500, "small": 50, "tiny": 1}}, 451, slack=0)
    assert found == {"hog": 200, "other hog": 200}


def test_a_cut_leaves_some_room() -> None:
    assert cuts({"": {"a": 101}}, 100, slack=0.25) == {"a": 75}


@given(
    kept=st.dictionaries(
        st.sampled_from("xyz"),
        st.dictionaries(st.integers(0, 40), st.integers(0, 1000), max_size=6),
    ),
    limit=st.integers(0, 5000),
)
def test_what_is_left_fits_and_is_fair(kept: dict[str, dict[int, int]], limit: int) -> None:
    named = {t: {f"{t}{s}": size for s, size in sessions.items()} for t, sessions in kept.items()}
    found = cuts(named, limit)
    left = {
        tenant: sum(min(size, found.get(session, size)) for session, size in sessions.items())
        for tenant, sessions in named.items()
    }
    assert sum(left.values()) <= limit
    equal_share = limit * (1 - 0.125) / max(1, len(named))
    for tenant, sessions in named.items():
        if sum(sessions.values()) <= equal_share:
            assert left[tenant] == sum(sessions.values())
