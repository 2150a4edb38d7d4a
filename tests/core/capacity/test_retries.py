"""What a failure means, when it is tried again, and when a provider is left alone."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.calls import ChatCall, ChatMessage, FailureKind, UpstreamFailure, Usage
from exai_actors.core.capacity.adaptive_limit import AdaptiveLimit
from exai_actors.core.capacity.circuit import Circuit, CircuitState
from exai_actors.core.capacity.retry_policy import RetryBudget, backoff_s, hold_s, judge
from exai_actors.core.capacity.settings import CircuitSettings, RetrySettings
from exai_actors.core.capacity.token_estimates import (
    MAX_TOKENS,
    MODELS,
    TokenEstimator,
    characters_of,
)

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
    told=st.floats(0.001, 1e6),
    kind=KINDS,
)
def test_no_hold_is_shorter_than_the_retry_after(
    attempt: int, draw: float, told: float, kind: FailureKind
) -> None:
    assert 0 <= backoff_s(attempt, draw, SETTINGS) <= SETTINGS.cap_s
    failure = UpstreamFailure(kind, "x", retry_after=told)
    assert told <= hold_s(failure, attempt, draw, SETTINGS) <= told * 1.1
    for untold in (None, 0.0):
        failure = UpstreamFailure(kind, "x", retry_after=untold)
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
    now, requests, again = 0.0, 0, 0
    for passed, came, failed in steps:
        now += passed
        for _ in range(came):
            budget.note_request(now)
            requests += 1
        again += sum(budget.take(now) for _ in range(failed))
    windows = now // SETTINGS.budget_window_s + 1
    assert again <= 0.1 * requests + windows * (SETTINGS.reserve + 1)


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=80))
def test_an_open_circuit_lets_one_probe_pass_at_a_time(
    steps: list[tuple[float, bool]],
) -> None:
    settings = CircuitSettings(failures_in_a_row=3, calls=1000)
    circuit = Circuit(settings)
    now, in_a_row, closed, opened_at, openings = 0.0, 0, True, 0.0, 0
    for passed, well in steps:
        now += passed
        open_s = min(settings.open_cap_s, settings.open_s * 2 ** (openings - 1)) if openings else 0
        assert (circuit.opens_at(now) <= now) is (closed or now >= opened_at + open_s)
        if not (circuit.opens_at(now) <= now):
            continue
        probe = circuit.on_grant()
        assert probe is not closed
        assert not probe or not (circuit.opens_at(now) <= now)
        if well:
            circuit.succeeded(now, probe)
            in_a_row, closed, openings = 0, True, 0
        else:
            circuit.failed(now, probe)
            in_a_row += 1
            if probe or in_a_row >= 3:
                closed, opened_at, openings = False, now, openings + 1
    assert (circuit.state is CircuitState.CLOSED) is closed


def test_an_abandoned_probe_makes_room_for_another() -> None:
    circuit = Circuit(CircuitSettings(failures_in_a_row=1))
    circuit.failed(0.0, is_probe=False)
    assert circuit.on_grant()
    assert circuit.opens_at(100.0) == inf
    circuit.abandoned(is_probe=True)
    assert circuit.opens_at(100.0) == 100.0


@given(
    ceiling=st.integers(1, 100),
    steps=st.lists(
        st.tuples(st.floats(0, 3), st.sampled_from(["answer", "overload"])), max_size=200
    ),
)
def test_an_adaptive_limit_stays_between_one_and_its_ceiling(
    ceiling: int, steps: list[tuple[float, str]]
) -> None:
    adaptive = AdaptiveLimit(ceiling)
    now = 0.0
    for passed, what in steps:
        now += passed
        before = adaptive.limit
        if what == "answer":
            adaptive.on_success(now, adaptive.limit)
            assert adaptive.limit in (before, before + 1)
        else:
            adaptive.on_overload(now)
            assert min(before - 1, 0.9 * before) <= adaptive.limit <= before
        assert 1 <= adaptive.limit <= ceiling


def test_an_adaptive_limit_rises_by_one_for_each_round_of_answers() -> None:
    adaptive = AdaptiveLimit(10)
    assert adaptive.on_overload(0.0) == 9
    now = 1.0
    for _ in range(9):
        now += 1.0
        adaptive.on_success(now, 9)
    assert adaptive.limit == 10


def ask(text: str, *, model: str = "m", max_tokens: int | None = None) -> ChatCall:
    return ChatCall(model, (ChatMessage("user", text),), max_tokens=max_tokens)


@given(ratio=st.floats(0.1, 2.0), answer=st.integers(1, 5000))
def test_after_fifty_similar_calls_an_estimate_is_within_a_fifth(ratio: float, answer: int) -> None:
    estimator = TokenEstimator()
    call = ask("x" * 400)
    usage = Usage(round(400 * ratio), answer)
    for _ in range(50):
        prompt, _ = estimator.estimate(call, 400)
        estimator.learn(call.model, 400, prompt, usage, 4 * answer)
    prompt, completion = estimator.estimate(call, characters_of(call))
    assert abs(prompt - usage.prompt_tokens) < 0.2 * usage.prompt_tokens
    assert abs(completion - answer) < 0.2 * answer + 1


@given(prompt=st.integers(-(10**18), 10**18), answer=st.integers(-(10**18), 10**18))
def test_absurd_token_counts_are_bounded(prompt: int, answer: int) -> None:
    estimator = TokenEstimator()
    call = ask("hello")
    before, _ = estimator.estimate(call, 5)
    learned = estimator.learn(call.model, 5, before, Usage(prompt, answer), 5)
    for tokens in (*learned, *estimator.estimate(call, 5)):
        assert 0 < tokens <= MAX_TOKENS


def test_max_tokens_bounds_the_estimate() -> None:
    assert TokenEstimator().estimate(ask("hi", max_tokens=7), 2)[1] == 7


def test_only_so_many_models_are_remembered() -> None:
    estimator = TokenEstimator()
    for number in range(3 * MODELS):
        estimator.estimate(ask("hi", model=str(number)), 2)
    assert len(estimator._models) == MODELS
