from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.memory.budget import SMALL_BYTES, BufferBudget, Measures

LIMIT = 1000 * SMALL_BYTES


def budget() -> BufferBudget[str]:
    return BufferBudget(LIMIT)


def units(**holders: int) -> list[tuple[str, int]]:
    """Sizes in thousandths of the limit."""
    return [(name, size * SMALL_BYTES) for name, size in holders.items()]


def test_within_the_limit_nothing_happens() -> None:
    assert budget().look(units(a=600, b=400)) == Measures()
    assert budget().look([]) == Measures()


def test_above_the_limit_the_biggest_are_restrained_until_half_of_it_is_spared() -> None:
    it = budget()
    found = it.look(units(small=200, large=500, largest=500, tiny=1))
    assert found == Measures(restrain=("large", "largest"), changed=True)
    assert (it.is_short, it.restrained) == (True, 2)


def test_one_that_holds_nearly_everything_is_restrained_alone() -> None:
    assert budget().look(units(a=400, hog=700)).restrain == ("hog",)


def test_the_alarm_lasts_until_the_low_mark() -> None:
    it = budget()
    it.look(units(hog=1100))
    assert it.look(units(hog=990)) == Measures()
    assert it.look(units(hog=760)) == Measures()
    assert it.is_short
    assert it.look(units(hog=750)) == Measures(release=("hog",), changed=True)
    assert it.restrained == 0
    assert it.look(units(hog=990)) == Measures()


def test_during_the_alarm_more_are_restrained_as_they_grow() -> None:
    it = budget()
    assert it.look(units(a=600, b=450, c=10)).restrain == ("a",)
    assert it.look(units(a=600, b=590, c=20)).restrain == ("b",)
    assert it.restrained == 2


def test_those_that_are_gone_are_not_released() -> None:
    it = budget()
    it.look(units(a=600, b=600))
    assert it.look(units(b=100)).release == ("b",)


def test_small_holders_are_never_restrained() -> None:
    crowd = [(f"h{number}", SMALL_BYTES) for number in range(1100)]
    assert budget().look(crowd) == Measures(changed=True)


def test_far_above_the_limit_the_biggest_are_given_up_until_it_is_kept() -> None:
    found = budget().look(units(a=700, b=500, c=200))
    assert found.give_up == ("a",)
    assert budget().look(units(a=600, b=600, c=50)).give_up == ()


def test_bytes_of_no_holder_count_as_well() -> None:
    it = budget()
    found = it.look(units(a=300), other=900 * SMALL_BYTES)
    assert found.restrain == ("a",)
    assert it.look(units(a=100), other=700 * SMALL_BYTES) == Measures()


@given(
    looks=st.lists(
        st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 2 * LIMIT)), max_size=8
    )
)
def test_who_is_restrained_is_always_known(looks: list[dict[str, int]]) -> None:
    it = budget()
    restrained: set[str] = set()
    for sizes in looks:
        restrained &= set(sizes)
        found = it.look(list(sizes.items()))
        assert not restrained & set(found.restrain)
        restrained |= set(found.restrain)
        assert set(found.release) <= restrained
        restrained -= set(found.release)
        assert it.restrained == len(restrained)
        if it.is_short:
            spared = sum(size for name, size in sizes.items() if name not in restrained)
            assert spared <= LIMIT / 2 + len(sizes) * SMALL_BYTES
            left = sum(size for name, size in sizes.items() if name not in found.give_up)
            assert left <= LIMIT * 1.25 + len(sizes) * SMALL_BYTES
        else:
            assert not restrained
            assert sum(sizes.values()) <= LIMIT
