"""The synthetic model: it names itself, repeats the prompt, and depends on its seed only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.calls import ChatCall, ChatMessage, Completion, FailureKind
from exai_actors.core.synthetic import INTRODUCTION, MAX_ECHO_CHARS, SyntheticModel, pieces


def call(prompt: str = "nonce 17", max_tokens: int | None = None) -> ChatCall:
    messages = (ChatMessage("system", "be brief"), ChatMessage("user", prompt))
    return ChatCall("synthetic", messages, max_tokens=max_tokens)


def test_the_answer_names_itself_and_repeats_the_prompt() -> None:
    answer = SyntheticModel().answer(call("nonce 17"))
    assert answer.text.startswith(INTRODUCTION + " nonce 17")
    assert "not an AI" in answer.text
    assert answer.model == "synthetic"
    assert answer.finish_reason == "stop"


def test_both_ends_of_a_long_prompt_are_in_the_answer() -> None:
    text = SyntheticModel().answer(call("begin " + "x" * 100_000 + " end 42")).text
    assert "begin " in text
    assert text.endswith(" end 42")
    assert len(text) < MAX_ECHO_CHARS + 100


def test_filler_words_bring_the_answer_to_its_length() -> None:
    answer = SyntheticModel(tokens=50).answer(call())
    assert len(answer.text.split()) == 50
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 50


def test_max_tokens_shortens_the_answer() -> None:
    answer = SyntheticModel(tokens=50).answer(call(max_tokens=20))
    assert len(answer.text.split()) == 20
    assert answer.finish_reason == "length"
    assert SyntheticModel(tokens=50).answer(call(max_tokens=50)).finish_reason == "stop"


def test_seed_and_prompt_determine_the_answer() -> None:
    model = SyntheticModel(tokens=60, seed=1)
    assert model.answer(call()) == model.answer(call())
    assert model.answer(call()) != SyntheticModel(tokens=60, seed=2).answer(call())


def test_a_call_without_messages_is_answered() -> None:
    assert SyntheticModel().answer(ChatCall("m", ())).text.startswith(INTRODUCTION)


@given(
    st.text(), st.integers(1, 100), st.none() | st.integers(1, 100), st.integers(-(2**70), 2**70)
)
def test_the_pieces_join_to_the_text(
    prompt: str, tokens: int, max_tokens: int | None, seed: int
) -> None:
    answer = SyntheticModel(tokens=tokens, seed=seed).answer(call(prompt, max_tokens))
    for count in (1, tokens, 1000):
        cut = pieces(answer, count)
        assert "".join(cut) == answer.text
        assert len(cut) <= count


def test_there_are_as_many_pieces_as_tokens() -> None:
    for tokens in (1, 2, 16, 200):
        assert len(pieces(SyntheticModel(tokens=tokens).answer(call()), tokens)) == tokens


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_configured_share_of_calls_fails(rate: float) -> None:
    model = SyntheticModel(failure_rate=rate, seed=3)
    failed = sum(model.fails(number) for number in range(1, 10_001))
    assert abs(failed / 10_000 - rate) < 0.02


def test_rates_zero_and_one_fail_no_call_and_every_call() -> None:
    assert not any(SyntheticModel().fails(number) for number in range(1, 1000))
    assert all(SyntheticModel(failure_rate=1.0).fails(number) for number in range(1, 1000))


def test_the_seed_determines_the_failing_calls() -> None:
    def failing(seed: int) -> list[int]:
        model = SyntheticModel(failure_rate=0.5, seed=seed)
        return [number for number in range(1, 101) if model.fails(number)]

    assert failing(1) == failing(1)
    assert failing(1) != failing(2)


def test_a_failure_says_that_it_is_deliberate() -> None:
    failure = SyntheticModel(failure_rate=0.25).failure(7)
    assert failure.kind is FailureKind.SERVER_ERROR
    assert "call 7 on purpose (failure_rate = 0.25)" in failure.message


def test_an_empty_text_is_one_piece() -> None:
    assert pieces(Completion("", "m", "stop"), 5) == [""]
