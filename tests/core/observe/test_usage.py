"""Usage by the hour and the day: what is counted, what grows old, and what is bounded."""

from __future__ import annotations

import pytest

from exai_actors.core.observe.usage import MAX_ENTRIES, MAX_USERS, SLICE_S, UsageBook, User
from exai_actors.ids import SessionId, TenantName

HOUR_S = 3600.0
ANN: User = (TenantName("ann"), SessionId("s-1"), "moon")
BOB: User = (TenantName("bob"), SessionId("s-2"), "moon")


def figures(book: UsageBook, now: float) -> dict[str, tuple[int, float, int, float]]:
    return {
        user[0]: (hour.calls, hour.tokens, day.calls, day.tokens)
        for user, hour, day in book.users(now)
    }


@pytest.mark.parametrize("start", [0.0, 17.0, 1e6])
@pytest.mark.parametrize(
    ("after_s", "hour", "day"),
    [
        (0.0, (1, 10.0), (1, 10.0)),
        (HOUR_S - SLICE_S, (1, 10.0), (1, 10.0)),
        (HOUR_S + 2 * SLICE_S, (0, 0.0), (1, 10.0)),
        (22 * HOUR_S, (0, 0.0), (1, 10.0)),
    ],
)
def test_a_call_counts_for_an_hour_and_for_a_day(
    start: float, after_s: float, hour: tuple[int, float], day: tuple[int, float]
) -> None:
    book = UsageBook()
    book.note(ANN, 10.0, start)
    assert figures(book, start + after_s)["ann"] == (*hour, *day)


@pytest.mark.parametrize("step_s", [60.0, SLICE_S, HOUR_S, 30 * HOUR_S])
def test_a_call_of_the_day_before_yesterday_is_forgotten(step_s: float) -> None:
    book = UsageBook()
    book.note(ANN, 10.0, 0.0)
    now = 0.0
    while now < 48 * HOUR_S:
        now += step_s
        book.note(BOB, 1.0, now)
    assert "ann" not in figures(book, now)
    assert figures(book, now)["bob"][0] >= 1


def test_users_are_added_up_over_the_slices() -> None:
    book = UsageBook()
    for number in range(12):
        book.note(ANN, 1.0, number * SLICE_S)
        book.note(BOB, 2.0, number * SLICE_S)
    found = figures(book, 11 * SLICE_S)
    assert found == {"ann": (12, 12.0, 12, 12.0), "bob": (12, 24.0, 12, 24.0)}


def test_tokens_of_the_last_minutes_are_those_of_two_slices() -> None:
    book = UsageBook()
    for number in range(5):
        book.note(ANN, 1.0, number * SLICE_S)
    book.note(BOB, 7.0, 4 * SLICE_S)
    assert book.recent_tokens(4 * SLICE_S) == {"ann": 2, "bob": 7}
    assert book.recent_tokens(9 * SLICE_S) == {}


def test_many_small_sessions_share_one_entry() -> None:
    book = UsageBook()
    for hour in range(30):
        for number in range(2 * MAX_USERS):
            user = (TenantName("ann"), SessionId(f"s-{hour}-{number}"), "moon")
            book.note(user, 1.0, hour * HOUR_S)
    users = list(book.users(29 * HOUR_S))
    assert len(users) <= 27 * (MAX_USERS + 1)
    latest = sum(hour.calls for _, hour, _ in users)
    assert latest == 2 * MAX_USERS, "no call is lost"
    shared = {user: hour.calls for user, hour, _ in users if hour.calls > 1}
    assert shared == {(TenantName("ann"), SessionId(""), "moon"): MAX_USERS}


@pytest.mark.parametrize("hours", [1, 30])
def test_models_that_clients_make_up_share_one_entry(hours: int) -> None:
    book = UsageBook()
    for hour in range(hours):
        for number in range(2 * MAX_ENTRIES):
            user = (TenantName("ann"), SessionId("s-1"), f"model-{hour}-{number}")
            book.note(user, 1.0, hour * HOUR_S)
    users = list(book.users((hours - 1) * HOUR_S))
    assert len(users) <= 27 * (MAX_ENTRIES + 1)
    assert len(users) >= MAX_USERS
    latest = sum(hour.calls for _, hour, _ in users)
    assert latest == 2 * MAX_ENTRIES, "no call is lost"
    shared = [user for user, hour, _ in users if hour.calls > 1]
    assert shared == [(TenantName("ann"), SessionId(""), "")]


def test_a_slice_ends_at_its_last_instant() -> None:
    book = UsageBook()
    book.note(ANN, 1.0, 0.0)
    book.note(BOB, 2.0, SLICE_S)
    assert book.recent_tokens(SLICE_S) == {"ann": 1, "bob": 2}
    assert book.recent_tokens(2 * SLICE_S) == {"bob": 2}
