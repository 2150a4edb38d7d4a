"""Estimates of a call's LLM tokens, learned from earlier calls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.calls import ChatCall, ChatMessage, Usage
from exai_actors.core.capacity.cost import COMPLETION_WEIGHT
from exai_actors.core.capacity.token_estimates import (
    FIRST_COMPLETION,
    MAX_MODELS,
    MAX_TOKENS,
    TOKENS_PER_IMAGE,
    TokenEstimator,
    characters_of,
)


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
    for number in range(3 * MAX_MODELS):
        estimator.estimate(ask("hi", model=str(number)), 2)
    assert len(estimator._models) == MAX_MODELS


def test_a_first_estimate_is_a_quarter_of_the_characters_and_a_usual_answer() -> None:
    assert TokenEstimator().estimate(ask("hi"), 400) == (100.0, FIRST_COMPLETION)
    assert TokenEstimator().estimate(ask(""), 0) == (1.0, FIRST_COMPLETION)


def test_tokens_that_the_service_did_not_count_follow_from_the_text() -> None:
    estimator = TokenEstimator()
    assert estimator.learn("m", 400, 90.0, None, 40) == (90.0, 10.0)
    assert estimator.learn("m", 400, 90.0, None, 0) == (90.0, 1.0)
    assert estimator.estimate(ask("hi"), 400)[1] < FIRST_COMPLETION


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (Usage(0, 0), (90.0, 10.0)),
        (Usage(0, 25), (90.0, 25.0)),
        (Usage(70, 0), (70.0, 10.0)),
        (Usage(70, 25, total_tokens=150), (70.0, 80.0)),
        (Usage(70, 25, total_tokens=1), (70.0, 25.0)),
    ],
)
def test_a_count_that_cannot_be_is_no_count_and_a_total_counts_in_full(
    usage: Usage, tokens: tuple[float, float]
) -> None:
    assert TokenEstimator().learn("m", 400, 90.0, usage, 40) == tokens


def test_zeros_teach_nothing_about_the_tokens_of_a_character() -> None:
    estimator = TokenEstimator()
    for _ in range(20):
        estimator.learn("m", 400, 100.0, Usage(0, 0), 40)
    assert estimator.estimate(ask("hi"), 400)[0] == 100.0


def test_an_honest_count_of_no_completion_tokens_counts() -> None:
    assert TokenEstimator().learn("m", 400, 90.0, Usage(70, 0), 0) == (70.0, 1.0)


def test_models_are_learned_apart() -> None:
    estimator = TokenEstimator()
    estimator.learn("long", 0, 1.0, Usage(1, 8000), 0)
    assert estimator.estimate(ask("hi", model="long"), 2)[1] > 1000
    assert estimator.estimate(ask("hi", model="other"), 2)[1] == FIRST_COMPLETION


def test_an_image_counts_as_much_text() -> None:
    message = ChatMessage("user", "look", ("https://example.com/a.png",) * 2)
    call = ChatCall("m", (ChatMessage("system", "be kind"), message))
    assert characters_of(call) == len("lookbe kind") + 2 * TOKENS_PER_IMAGE * 4
    assert TokenEstimator().estimate(call, characters_of(call))[0] >= 2 * TOKENS_PER_IMAGE


def test_a_token_of_an_answer_costs_twice_as_much_as_one_of_a_prompt() -> None:
    assert COMPLETION_WEIGHT == 2
