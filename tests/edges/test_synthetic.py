"""The synthetic upstream under a clock that the test moves."""

from typing import Any

from exai_actors.core.calls import Aborted, Completion, FailureKind, UpstreamFailure
from exai_actors.core.synthetic import INTRODUCTION
from exai_actors.edges.settings import SyntheticSettings
from exai_actors.edges.synthetic import SyntheticUpstream
from exai_actors.messages.provider import ModelsListed, ProviderMessage, UpstreamEnded
from exai_actors.messages.recipient import Offer
from exai_actors.runtime import ManualDriver
from exai_actors.testing.probe import Probe
from tests.edges.http.asking import Asked, Asker


def synthetic(**settings: Any) -> tuple[ManualDriver, Asker]:
    driver = ManualDriver()
    upstream = SyntheticUpstream(
        driver.call_later, models=("synthetic",), settings=SyntheticSettings(**settings)
    )
    return driver, Asker(upstream)


def text_of(asked: Asked) -> str:
    (result,) = asked.ends
    assert isinstance(result, Completion)
    return result.text


def test_an_instant_call_is_over_before_start_returns() -> None:
    driver, asker = synthetic()
    asked = asker.ask("nonce 17", stream=False)
    assert text_of(asked).startswith(INTRODUCTION + " nonce 17")
    assert asked.pieces == []
    assert driver.next_timer() is None
    asked.call.pause()
    asked.call.resume()
    asked.call.abort()
    assert len(asked.ends) == 1


def test_an_instant_stream_is_one_chunk_and_its_end() -> None:
    _, asker = synthetic()
    asked = asker.ask("nonce 17")
    assert asked.pieces == [text_of(asked)]
    asked.call.abort()
    assert len(asked.ends) == 1


def test_a_delay_holds_everything_back() -> None:
    driver, asker = synthetic(delay_ms=200)
    stream, plain = asker.ask(stream=True), asker.ask(stream=False)
    driver.advance(0.199)
    assert stream.probe.messages == plain.probe.messages == []
    driver.advance(0.002)
    assert stream.pieces == [text_of(stream)]
    assert text_of(plain) == text_of(stream)


def test_pieces_come_at_the_pace_that_is_set() -> None:
    driver, asker = synthetic(delay_ms=100, tokens=5, tokens_per_second=10)
    asked = asker.ask()
    seen = []
    for _ in range(7):
        seen.append(len(asked.pieces))
        driver.advance(0.1001)
    assert seen == [0, 1, 2, 3, 4, 5, 5]
    assert "".join(asked.pieces) == text_of(asked)


def test_a_plain_call_takes_as_long_as_its_tokens_would() -> None:
    driver, asker = synthetic(delay_ms=100, tokens=5, tokens_per_second=10)
    asked = asker.ask(stream=False)
    driver.advance(0.499)
    assert asked.ends == []
    driver.advance(0.002)
    assert text_of(asked)


def test_a_fast_pace_is_kept_with_few_timers() -> None:
    driver, asker = synthetic(tokens=1000, tokens_per_second=10_000)
    asked = asker.ask()
    driver.advance(0.0895)
    assert asked.ends == []
    driver.advance(0.01)
    assert len(asked.pieces) == 10
    assert "".join(asked.pieces) == text_of(asked)


def test_an_abort_ends_a_call_at_once_and_stops_its_timer() -> None:
    driver, asker = synthetic(tokens=5, tokens_per_second=10)
    asked = asker.ask()
    asked.call.abort()
    asked.call.abort()
    assert asked.ends == [Aborted()]
    assert driver.next_timer() is None
    asked.call.resume()
    driver.advance(10)
    assert len(asked.pieces) == 1


def test_a_paused_call_goes_on_where_it_was() -> None:
    driver, asker = synthetic(tokens=5, tokens_per_second=10)
    asked = asker.ask()
    asked.call.pause()
    asked.call.pause()
    driver.advance(10)
    assert len(asked.pieces) == 1
    asked.call.resume()
    asked.call.resume()
    assert len(asked.pieces) == 2
    driver.advance(10)
    assert "".join(asked.pieces) == text_of(asked)


def test_a_call_paused_and_resumed_between_pieces_loses_no_time_and_no_piece() -> None:
    driver, asker = synthetic(tokens=3, tokens_per_second=10)
    asked = asker.ask()
    asked.call.pause()
    asked.call.resume()
    driver.advance(1)
    assert len(asked.pieces) == 3
    assert "".join(asked.pieces) == text_of(asked)


def test_a_paused_call_can_be_aborted() -> None:
    driver, asker = synthetic(delay_ms=10)
    asked = asker.ask()
    asked.call.pause()
    driver.advance(1)
    asked.call.abort()
    assert asked.ends == [Aborted()]
    assert asked.pieces == []


def test_a_full_recipient_is_asked_again_until_it_has_room() -> None:
    driver, asker = synthetic()
    probe: Probe[ProviderMessage] = Probe(answer=Offer.FULL)
    asked = asker.ask(probe=probe)
    driver.advance(0.1)
    assert probe.messages == []
    probe.answer = Offer.ACCEPTED
    driver.advance(0.1)
    assert asked.pieces == [text_of(asked)]


def test_a_recipient_that_is_gone_ends_the_call() -> None:
    driver, asker = synthetic(tokens=5, tokens_per_second=10)
    probe: Probe[ProviderMessage] = Probe(answer=Offer.CLOSED)
    asker.ask(probe=probe)
    assert isinstance(probe.refused[-1], UpstreamEnded)
    assert driver.next_timer() is None


def test_failures_come_by_number_after_the_delay_and_without_text() -> None:
    driver, asker = synthetic(failure_rate=0.5, seed=3, delay_ms=10)
    calls = [asker.ask() for _ in range(40)]
    assert all(asked.ends == [] for asked in calls)
    driver.advance(1)
    failed = [asked for asked in calls if isinstance(asked.ends[0], UpstreamFailure)]
    assert 10 < len(failed) < 30
    assert all(asked.pieces == [] for asked in failed)
    for asked in failed:
        assert isinstance(asked.ends[0], UpstreamFailure)
        assert asked.ends[0].kind is FailureKind.SERVER_ERROR

    driver, asker = synthetic(failure_rate=0.5, seed=3)
    again = [asker.ask() for _ in range(40)]
    kinds = [[type(asked.ends[0]) for asked in some] for some in (calls, again)]
    assert kinds[0] == kinds[1]


async def test_closing_aborts_what_runs_and_refuses_what_comes() -> None:
    driver, asker = synthetic(delay_ms=10)
    asked = asker.ask()
    await asker.upstream.aclose()
    assert asked.ends == [Aborted()]
    assert driver.next_timer() is None
    late = asker.ask()
    assert isinstance(late.ends[0], UpstreamFailure)


def test_the_models_are_those_configured() -> None:
    _, asker = synthetic()
    probe: Probe[ProviderMessage] = Probe()
    asker.upstream.ask_models(probe)
    assert probe.messages == [ModelsListed(("synthetic",))]


def test_no_chunk_is_empty_whatever_the_prompt() -> None:
    driver, asker = synthetic(tokens=12, tokens_per_second=10)
    calls = [asker.ask(prompt) for prompt in ("", " ", "a  b ", "\n")]
    driver.advance(10)
    for asked in calls:
        assert all(asked.pieces)
        assert "".join(asked.pieces) == text_of(asked)
