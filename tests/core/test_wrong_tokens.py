"""Guesses of tokens are counted by address, reported once a minute, and forgotten."""

from __future__ import annotations

from exai_actors.core.wrong_tokens import DELAY_S, FREE, WrongTokens


def test_a_guesser_is_reported_once_a_minute_with_the_number_of_guesses() -> None:
    wrong = WrongTokens()
    noted = [wrong.note("10.0.0.1", second) for second in range(130)]
    assert [each.count for each in noted if each.is_reported] == [3, 63, 123]
    assert [each.delay_s for each in noted] == [0.0] * FREE + [DELAY_S] * (130 - FREE)
    assert wrong.count == 130


def test_each_address_has_its_own_count_and_a_network_of_ipv6_one() -> None:
    wrong = WrongTokens()
    for number in range(FREE + 1):
        assert wrong.note(f"10.0.0.{number}", 0.0).count == 1
        assert wrong.note(f"2001:db8::{number}", 0.0).count == number + 1


def test_an_address_is_forgotten_a_minute_after_its_last_wrong_token() -> None:
    wrong = WrongTokens()
    assert [wrong.note("10.0.0.1", at).count for at in (0.0, 59.0, 118.0, 178.0)] == [1, 2, 3, 1]


def test_guesses_from_many_addresses_do_not_fill_the_memory() -> None:
    wrong = WrongTokens()
    for number in range(5000):
        wrong.note(f"10.0.{number // 250}.{number % 250}", 0.0)
    assert len(wrong._by_network) == 1024
    assert wrong.note("10.0.19.249", 0.0).count == 2
    assert wrong.note("10.0.0.0", 0.0).count == 1
