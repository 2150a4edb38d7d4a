"""The meaning of a failure, the delay before a retry, and the retry budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.calls import FailureKind, UpstreamFailure
from exai_actors.core.capacity.retry_policy import RetryBudget, backoff_s, hold_s, judge
from exai_actors.core.capacity.settings import RetrySettings

SETTINGS = RetrySettings()
KINDS = st.sampled_from(list(FailureKind))


@given(kind=KINDS, status=st.sampled_from([None, 500, 501]))
def test_no_failure_is_retriable_after_the_first_chunk(
    kind: FailureKind, status: int | None
) -> None:
    failure = UpstreamFailure(kind, "x", status=status, text_sent=True)
    assert not judge(failure).retriable


@pytest.mark.parametrize(
    "kind",
    [
        FailureKind.TIMEOUT,
        FailureKind.BROKEN,
        FailureKind.MALFORMED,
        FailureKind.TRUNCATED,
        FailureKind.QUOTA,
        FailureKind.UNAUTHORIZED,
        FailureKind.NOT_FOUND,
        FailureKind.REJECTED,
        FailureKind.TOO_LARGE,
    ],
)
def test_failures_that_may_have_been_answered_or_are_final_are_not_retriable(
    kind: FailureKind,
) -> None:
    assert not judge(UpstreamFailure(kind, "x")).retriable


@given(
    attempt=st.integers(1, 1000),
    draw=st.floats(0, 1, exclude_max=True),
    retry_after=st.floats(0.001, 1e6),
    kind=KINDS,
)
def test_no_hold_is_shorter_than_the_retry_after(
    attempt: int, draw: float, retry_after: float, kind: FailureKind
) -> None:
    assert 0 <= backoff_s(attempt, draw, SETTINGS) <= SETTINGS.cap_s
    failure = UpstreamFailure(kind, "x", retry_after=retry_after)
    assert retry_after <= hold_s(failure, attempt, draw, SETTINGS) <= retry_after * 1.1
    for missing in (None, 0.0):
        failure = UpstreamFailure(kind, "x", retry_after=missing)
        assert 0 < hold_s(failure, attempt, draw, SETTINGS) <= max(66.0, SETTINGS.cap_s)


@pytest.mark.parametrize(("attempt", "longest"), [(1, 1.0), (2, 2.0), (3, 4.0), (50, 30.0)])
def test_jitter_covers_the_whole_backoff(attempt: int, longest: float) -> None:
    drawn = [backoff_s(attempt, draw, SETTINGS) for draw in (0.0, 0.25, 1.0)]
    assert drawn == [0.0, longest / 4, longest]


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 20), st.integers(0, 20)), max_size=60))
def test_the_retry_budget_is_a_tenth_of_all_requests_and_a_reserve(
    steps: list[tuple[float, int, int]],
) -> None:
    budget = RetryBudget(SETTINGS)
    now, requests, retries = 0.0, 0, 0
    for passed, came, failed in steps:
        now += passed
        for _ in range(came):
            budget.note_request(now)
            requests += 1
        retries += sum(budget.take(now) for _ in range(failed))
    windows = now // SETTINGS.budget_window_s + 1
    assert retries <= 0.1 * requests + windows * (SETTINGS.reserve + 1)


@pytest.mark.parametrize("kind", FailureKind)
def test_a_failure_after_the_first_chunk_may_have_cost(kind: FailureKind) -> None:
    assert judge(UpstreamFailure(kind, "x", text_sent=True)).may_have_cost


@pytest.mark.parametrize(
    ("kind", "status", "counts"),
    [
        (FailureKind.CONNECT, None, True),
        (FailureKind.SERVER_ERROR, 500, True),
        (FailureKind.SERVER_ERROR, 501, True),
        (FailureKind.TIMEOUT, None, True),
        (FailureKind.RATE_LIMITED, 429, False),
        (FailureKind.QUOTA, 429, False),
        (FailureKind.UNAUTHORIZED, 401, False),
        (FailureKind.TOO_LARGE, 200, False),
    ],
)
def test_only_failures_of_the_service_count_for_the_circuit(
    kind: FailureKind, status: int | None, counts: bool
) -> None:
    assert judge(UpstreamFailure(kind, "x", status=status)).counts_for_circuit is counts


@pytest.mark.parametrize("status", [501, 505])
def test_a_permanent_server_error_is_not_retriable(status: int) -> None:
    assert not judge(UpstreamFailure(FailureKind.SERVER_ERROR, "x", status=status)).retriable
    assert judge(UpstreamFailure(FailureKind.SERVER_ERROR, "x", status=500)).retriable


def test_only_a_failed_connection_did_not_reach_the_service() -> None:
    unreached = [
        kind for kind in FailureKind if not judge(UpstreamFailure(kind, "x")).reached_service
    ]
    assert unreached == [FailureKind.CONNECT]


def test_a_hold_is_the_retry_after_or_a_minute_for_a_quota_or_a_backoff() -> None:
    refused = UpstreamFailure(FailureKind.RATE_LIMITED, "x", retry_after=10.0)
    assert hold_s(refused, 1, 0.5, SETTINGS) == 10.5
    assert hold_s(UpstreamFailure(FailureKind.QUOTA, "x"), 1, 0.5, SETTINGS) == 62.5
    overloaded = UpstreamFailure(FailureKind.OVERLOADED, "x")
    assert [hold_s(overloaded, row, 0.5, SETTINGS) for row in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert hold_s(overloaded, 1, 0.0, SETTINGS) == 0.25


def test_requests_older_than_the_window_give_no_budget() -> None:
    budget = RetryBudget(RetrySettings(budget=0.1, budget_window_s=60.0, reserve=0))
    for _ in range(20):
        budget.note_request(0.0)
    assert budget.take(30.0)
    assert not budget.take(60.0)
    for _ in range(10):
        budget.note_request(80.0)
    # The first retry was within the window, 30 s ago.
    assert not budget.take(80.0)
    assert budget.take(95.0)


def test_requests_spread_over_the_window_count_once_each() -> None:
    budget = RetryBudget(RetrySettings(budget=0.1, budget_window_s=60.0, reserve=0))
    for second in range(9):
        budget.note_request(2.0 * second)
    assert not budget.take(18.0)
    budget.note_request(18.0)
    assert budget.take(18.0)
