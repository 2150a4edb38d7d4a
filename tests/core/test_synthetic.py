"""The synthetic model: it names itself, repeats the prompt, and depends on its seed only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.core.calls import ChatCall, ChatMessage, Completion, FailureKind
from exai_actors.core.synthetic import INTRODUCTION, MAX_ECHO_CHARS, SyntheticModel, pieces


def call(prompt: str = "nonce 17", max_tokens: int | None = None) -> ChatCall:
    return ChatCall("synthetic", (ChatMessage("user", prompt),), max_tokens=max_tokens)


@pytest.mark.parametrize(
    ("prompt", "quoted"),
    [
        ("nonce 17", 'You said: "nonce 17".'),
        ("My name is Ada.", 'You said: "My name is Ada."'),
        ("What is a permit?", 'You asked: "What is a permit?"'),
        ("how long is a queue", 'You asked: "how long is a queue".'),
        ("The limit is four, right?", 'You asked: "The limit is four, right?"'),
        ("Tell me about permits.", 'You asked for: "Tell me about permits."'),
        ("count, from 1 to 3", 'You asked for: "count, from 1 to 3".'),
        ("hello", 'You said: "hello". Hello to you, too!'),
        ("Hi, there!", 'You said: "Hi, there!" Hello to you, too!'),
        ("", 'You said: "".'),
        ("   ", 'You said: "   ".'),
    ],
)
def test_the_answer_is_of_whole_sentences_that_fit_the_prompt(prompt: str, quoted: str) -> None:
    answer = SyntheticModel().answer(call(prompt))
    assert answer.text.startswith(f"{INTRODUCTION} {quoted} ")
    assert "not an AI" in answer.text
    assert answer.text.endswith(".")
    assert answer.model == "synthetic"
    assert answer.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(answer.text.split(" "))


def test_a_later_turn_shows_its_number_and_the_turn_before() -> None:
    history = (
        ChatMessage("user", "My name is Ada."),
        ChatMessage("assistant", "Noted."),
        ChatMessage("user", "x" * 1000),
        ChatMessage("assistant", "Noted, too."),
        ChatMessage("user", "What is my name?"),
    )
    second = SyntheticModel().answer(ChatCall("m", (*history[:2], history[4]))).text
    assert 'You asked: "What is my name?" This is turn 2; before: "My name is Ada." ' in second
    third = SyntheticModel().answer(ChatCall("m", history)).text
    assert 'This is turn 3; before: "xxx' in third
    assert len(third) < 400
    assert "turn" not in SyntheticModel().answer(call()).text


def test_the_system_prompt_can_be_seen() -> None:
    messages = (ChatMessage("system", "Be brief."), ChatMessage("user", "hello"))
    answer = SyntheticModel().answer(ChatCall("m", messages))
    assert 'My instructions: "Be brief." ' in answer.text
    assert "This is turn" not in answer.text
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 3


def test_both_ends_of_a_long_prompt_are_in_the_answer() -> None:
    text = SyntheticModel().answer(call("begin " + "x" * 100_000 + " end 42")).text
    assert "begin " in text
    assert ' end 42".' in text
    assert len(text) < MAX_ECHO_CHARS + 160


@pytest.mark.parametrize("tokens", [26, 50, 51, 137, 138, 1000])
def test_more_sentences_bring_the_answer_to_its_length(tokens: int) -> None:
    answer = SyntheticModel(tokens=tokens).answer(call())
    assert tokens <= len(answer.text.split()) < tokens + 14
    assert answer.text.endswith(".")
    assert len(pieces(answer, tokens)) == tokens
    assert answer.usage is not None
    assert answer.usage.completion_tokens == tokens


def test_max_tokens_cuts_the_answer() -> None:
    for tokens in (0, 50):
        whole = SyntheticModel(tokens=tokens).answer(call())
        cut = SyntheticModel(tokens=tokens).answer(call(max_tokens=20))
        assert cut.text == " ".join(whole.text.split()[:20])
        assert cut.finish_reason == "length"
        assert cut.usage is not None
        assert cut.usage.completion_tokens == 20
    assert SyntheticModel(tokens=50).answer(call(max_tokens=50)).finish_reason == "stop"
    assert SyntheticModel().answer(call(max_tokens=500)).finish_reason == "stop"


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
