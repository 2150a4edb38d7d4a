"""The synthetic upstream, with a clock that the test moves."""

from typing import Any

from exai_actors.core.calls import Aborted, Completion, FailureKind, UpstreamFailure
from exai_actors.core.synthetic import INTRODUCTION
from exai_actors.edges.synthetic.settings import SyntheticSettings
from exai_actors.edges.synthetic.upstream import SyntheticUpstream
from exai_actors.messages.provider import ModelsListed, ProviderMessage, UpstreamEnded
from exai_actors.runtime import Callback, Cancellable, ManualDriver
from exai_actors.testing.probe import Probe
from tests.edges.http.calling import Caller, StartedCall


def synthetic(**settings: Any) -> tuple[ManualDriver, Caller]:
    driver = ManualDriver()
    upstream = SyntheticUpstream(
        driver.call_later,
        driver.now,
        name="slow",
        models=("synthetic",),
        settings=SyntheticSettings(**({"tokens_per_second": 0} | settings)),
    )
    return driver, Caller(upstream)


def text_of(started: StartedCall) -> str:
    (result,) = started.ends
    assert isinstance(result, Completion)
    return result.text


def test_an_instant_call_ends_before_start_returns() -> None:
    driver, caller = synthetic()
    started = caller.start("nonce 17", stream=False)
    assert text_of(started).startswith(f'{INTRODUCTION} You said: "nonce 17".')
    assert started.pieces == []
    assert driver.next_timer() is None
    started.call.pause()
    started.call.resume()
    started.call.abort()
    assert len(started.ends) == 1


def test_an_instant_stream_is_one_chunk_and_its_end() -> None:
    _, caller = synthetic()
    started = caller.start("nonce 17")
    assert started.pieces == [text_of(started)]
    started.call.abort()
    assert len(started.ends) == 1


def test_a_delay_delays_text_and_end() -> None:
    driver, caller = synthetic(delay_ms=200)
    stream, plain = caller.start(stream=True), caller.start(stream=False)
    driver.advance(0.199)
    assert stream.probe.messages == plain.probe.messages == []
    driver.advance(0.002)
    assert stream.pieces == [text_of(stream)]
    assert text_of(plain) == text_of(stream)


def test_a_call_ends_when_it_is_due_however_late_the_loop_is() -> None:
    late: list[Callback] = []
    now = [100.0]

    def call_later(_delay_s: float, callback: Callback) -> Cancellable:
        late.append(callback)
        return ManualDriver().call_later(0.0, callback)

    upstream = SyntheticUpstream(
        call_later,
        lambda: now[0],
        name="slow",
        models=("synthetic",),
        settings=SyntheticSettings(tokens_per_second=0, delay_ms=200),
    )
    started = Caller(upstream).start(stream=False)
    now[0] += 5.0
    late[0]()
    (end,) = started.probe.messages
    assert isinstance(end, UpstreamEnded)
    assert end.ended_at == 100.2


def test_pieces_come_at_the_configured_pace() -> None:
    driver, caller = synthetic(delay_ms=100, tokens=5, tokens_per_second=10)
    started = caller.start()
    seen = []
    for _ in range(7):
        seen.append(len(started.pieces))
        driver.advance(0.1001)
    assert seen == [0, 1, 2, 3, 4, 5, 5]
    assert "".join(started.pieces) == text_of(started)


def test_the_default_pace_can_be_watched() -> None:
    driver = ManualDriver()
    upstream = SyntheticUpstream(driver.call_later, driver.now, name="slow", models=("synthetic",))
    started = Caller(upstream).start("What is a permit?")
    for second in (1, 2):
        seen = "".join(started.pieces)
        assert len(seen.split()) == 20 * (second - 1) + 1
        driver.advance(1.0001)
    assert "".join(started.pieces) == text_of(started)


def test_a_call_without_streaming_takes_as_long_as_its_tokens() -> None:
    driver, caller = synthetic(delay_ms=100, tokens=5, tokens_per_second=10)
    started = caller.start(stream=False)
    driver.advance(0.499)
    assert started.ends == []
    driver.advance(0.002)
    assert text_of(started)


def test_a_fast_pace_needs_few_timers() -> None:
    driver, caller = synthetic(tokens=1000, tokens_per_second=10_000)
    started = caller.start()
    driver.advance(0.0895)
    assert started.ends == []
    driver.advance(0.01)
    assert len(started.pieces) == 10
    assert "".join(started.pieces) == text_of(started)


def test_an_abort_ends_a_call_and_stops_its_timer() -> None:
    driver, caller = synthetic(tokens=5, tokens_per_second=10)
    started = caller.start()
    started.call.abort()
    started.call.abort()
    assert started.ends == [Aborted()]
    assert driver.next_timer() is None
    started.call.resume()
    driver.advance(10)
    assert len(started.pieces) == 1


def test_a_paused_call_takes_its_next_step_when_it_is_resumed() -> None:
    driver, caller = synthetic(tokens=5, tokens_per_second=10)
    started = caller.start()
    started.call.pause()
    started.call.pause()
    driver.advance(10)
    assert len(started.pieces) == 1
    assert started.ends == []
    started.call.resume()
    started.call.resume()
    assert len(started.pieces) == 2
    driver.advance(10)
    assert len(started.pieces) == 5
    assert "".join(started.pieces) == text_of(started)


def test_a_pause_between_pieces_loses_neither_time_nor_text() -> None:
    driver, caller = synthetic(tokens=3, tokens_per_second=10)
    started = caller.start()
    started.call.pause()
    started.call.resume()
    driver.advance(1)
    assert len(started.pieces) == 3
    assert "".join(started.pieces) == text_of(started)


def test_a_paused_call_can_be_aborted() -> None:
    driver, caller = synthetic(tokens=5, tokens_per_second=10, delay_ms=10)
    started = caller.start()
    started.call.pause()
    driver.advance(0.1)
    started.call.abort()
    assert started.ends == [Aborted()]
    assert started.pieces == []


def test_the_same_calls_fail_in_each_run_after_the_delay_and_without_text() -> None:
    driver, caller = synthetic(failure_rate=0.5, seed=3, delay_ms=10)
    calls = [caller.start() for _ in range(40)]
    assert all(started.ends == [] for started in calls)
    driver.advance(1)
    failed = [started for started in calls if isinstance(started.ends[0], UpstreamFailure)]
    assert 10 < len(failed) < 30
    assert all(started.pieces == [] for started in failed)
    for started in failed:
        assert isinstance(started.ends[0], UpstreamFailure)
        assert started.ends[0].kind is FailureKind.SERVER_ERROR

    driver, caller = synthetic(failure_rate=0.5, seed=3)
    again = [caller.start() for _ in range(40)]
    kinds = [[type(started.ends[0]) for started in some] for some in (calls, again)]
    assert kinds[0] == kinds[1]


async def test_closing_aborts_running_calls_and_refuses_new_ones() -> None:
    driver, caller = synthetic(delay_ms=10)
    started = caller.start()
    await caller.upstream.aclose()
    assert started.ends == [Aborted()]
    assert driver.next_timer() is None
    late = caller.start()
    assert isinstance(late.ends[0], UpstreamFailure)


def test_the_configured_models_are_listed() -> None:
    _, caller = synthetic()
    probe: Probe[ProviderMessage] = Probe()
    caller.upstream.ask_models(probe)
    assert probe.messages == [ModelsListed(("synthetic",))]


def test_no_chunk_is_empty_whatever_the_prompt() -> None:
    driver, caller = synthetic(tokens=12, tokens_per_second=10)
    calls = [caller.start(prompt) for prompt in ("", " ", "a  b ", "\n")]
    driver.advance(10)
    for started in calls:
        assert all(started.pieces)
        assert "".join(started.pieces) == text_of(started)
