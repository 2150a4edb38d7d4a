"""The provider actor by its messages, with probes in place of sessions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from exai_actors.actors.provider.log import MAX_LOGGED_VIOLATIONS
from exai_actors.core.calls import (
    CallOptions,
    ChatCall,
    ChatMessage,
    Completion,
    FailureKind,
    IfBusy,
)
from exai_actors.core.capacity.changes import Pause, Reopen, SetLimit
from exai_actors.core.capacity.dispatcher import Dispatcher
from exai_actors.core.capacity.fair_queue import FairQueue
from exai_actors.core.capacity.settings import CapacitySettings, CircuitSettings, RetrySettings
from exai_actors.core.session.pieces import Pieces
from exai_actors.ids import RequestKey, SessionId
from exai_actors.messages.provider import (
    CancelCall,
    PauseStream,
    ResumeStream,
    RunCall,
    UpstreamEnded,
)
from exai_actors.messages.session import (
    Completed,
    Enqueued,
    Failed,
    Granted,
    Queued,
    Refused,
    SessionMessage,
)
from exai_actors.runtime import LoopActor
from exai_actors.testing.probe import Probe
from exai_actors.testing.tree import ManualTree
from tests.actors.left_over import left_in_provider, provider_of

SESSION = SessionId("probed")


class Provider:
    """A provider whose sessions are probes: they neither cancel nor end anything themselves."""

    def __init__(self, **capacity: object) -> None:
        settings = CapacitySettings(**{"limit": 1} | capacity)  # type: ignore[arg-type]
        self.tree = ManualTree(capacity=settings)
        self.upstream = self.tree.upstream

    def run(
        self,
        name: str,
        prompt: str = "hi",
        *,
        stream: bool = False,
        session: str = SESSION,
        **more: object,
    ) -> Probe[SessionMessage]:
        """Ask for a call; returns the probe that receives its replies."""
        probe: Probe[SessionMessage] = Probe(name)
        deadline = more.pop("deadline", 1e9)
        fallback_reasons = more.pop("fallback_reasons", frozenset())
        options = CallOptions(reports_progress=True, **more)  # type: ignore[arg-type]
        call = ChatCall("moon", (ChatMessage("user", prompt),), stream=stream)
        self.tree.actor("/providers/kimi").tell(
            RunCall(
                request=RequestKey(name),
                session=SessionId(session),
                call=call,
                options=options,
                reply_to=probe,
                deadline=deadline,  # type: ignore[arg-type]
                fallback_reasons=fallback_reasons,  # type: ignore[arg-type]
                pieces=Pieces({}) if stream else None,
            )
        )
        self.tree.settle()
        return probe

    def cancel(self, name: str) -> None:
        self.tree.actor("/providers/kimi").tell(CancelCall(RequestKey(name), SESSION))
        self.tree.settle()

    def pause(self, name: str, session: str = SESSION) -> None:
        self.tree.actor("/providers/kimi").tell(PauseStream(RequestKey(name), SessionId(session)))
        self.tree.settle()

    def resume(self, name: str) -> None:
        self.tree.actor("/providers/kimi").tell(ResumeStream(RequestKey(name), SESSION))
        self.tree.settle()

    def kinds(self, probe: Probe[SessionMessage]) -> list[type]:
        self.tree.settle()
        return [type(message) for message in probe.messages]

    def assert_empty(self) -> None:
        self.tree.settle()
        assert left_in_provider(self.tree, sessions_ended=False) == []


def test_a_queued_request_is_reported_again_at_each_interval() -> None:
    provider = Provider()
    provider.run("runs")
    waits = provider.run("waits")
    provider.tree.advance(1.0)
    assert provider.kinds(waits) == [Enqueued, Queued]
    provider.tree.advance(6.0)
    assert provider.kinds(waits) == [Enqueued, Queued]
    provider.tree.advance(10.0)
    assert provider.kinds(waits) == [Enqueued, Queued, Queued, Queued]


def test_positions_are_reported_again_after_the_queue_was_empty() -> None:
    provider = Provider()
    provider.run("first")
    provider.run("second")
    provider.tree.advance(1.0)
    for number in range(2):
        provider.upstream.calls[number].complete()
        provider.tree.advance(10.0)
    provider.run("third")
    waits = provider.run("fourth")
    provider.tree.advance(1.0)
    assert provider.kinds(waits) == [Enqueued, Queued]


def test_a_call_that_has_started_gets_no_position_while_its_retry_waits() -> None:
    provider = Provider()
    started = provider.run("started")
    provider.run("other")
    provider.tree.advance(30.0)
    provider.upstream.calls[0].fail(FailureKind.SERVER_ERROR)
    provider.tree.advance(30.0)
    assert provider.tree.statistics().queued == 1
    provider.upstream.calls[1].complete()
    provider.tree.settle()
    provider.upstream.calls[2].complete()
    assert provider.kinds(started) == [Granted, Completed]


def test_no_request_joins_an_expired_call() -> None:
    provider = Provider(coalesce=True)
    provider.run("runs", "something else")
    expires = provider.run("expires", "the same", deadline=5.0)
    provider.tree.advance(6.0)
    provider.upstream.calls[0].complete()
    provider.tree.settle()
    assert provider.kinds(expires) == [Enqueued, Queued]
    later = provider.run("later", "the same")
    assert [call.prompt for call in provider.upstream.calls] == ["something else", "the same"]
    provider.upstream.calls[1].complete()
    assert provider.kinds(later) == [Granted, Completed]
    provider.assert_empty()


def test_no_request_joins_a_call_that_was_refused_while_it_waited() -> None:
    provider = Provider(coalesce=True)
    provider.run("runs", "something else")
    refused = provider.run("refused", "the same", deadline=20.0)
    provider.upstream.calls[0].complete(hold_s=60.0)
    assert provider.kinds(refused) == [Enqueued, Refused]
    later = provider.run("later", "the same")
    provider.tree.advance(70.0)
    provider.upstream.calls[1].complete()
    assert provider.kinds(later)[-1] is Completed
    provider.assert_empty()


@pytest.mark.parametrize("end", ["completes", "fails", "is aborted", "is refused"])
def test_no_request_joins_a_call_that_has_ended(end: str) -> None:
    provider = Provider(coalesce=True, quarantine_s=0.0)
    if end == "is refused":
        provider.tree.change(Pause())
        provider.run("first", "the same", if_busy=IfBusy.REFUSE)
        provider.tree.change(Reopen())
    else:
        provider.run("first", "the same")
        call = provider.upstream.calls[0]
        if end == "completes":
            call.complete()
        elif end == "fails":
            call.fail(FailureKind.REJECTED)
        else:
            provider.cancel("first")
            call.close()
    provider.assert_empty()
    second = provider.run("second", "the same")
    provider.upstream.calls[-1].complete("its own")
    assert provider.kinds(second) == [Granted, Completed]
    assert provider.tree.statistics().shared == 0


def test_a_cancelled_call_that_still_runs_is_not_joined() -> None:
    provider = Provider(limit=2, coalesce=True)
    provider.run("first", "the same")
    provider.cancel("first")
    provider.run("second", "the same")
    assert len(provider.upstream.running) == 2


def test_a_joined_request_gets_the_progress_of_its_call() -> None:
    provider = Provider(coalesce=True)
    provider.run("occupies", "something else")
    provider.run("first", "the same")
    queued = provider.run("queued", "the same")
    assert provider.kinds(queued) == [Enqueued]
    provider.upstream.calls[0].complete()
    provider.tree.settle()
    running = provider.run("running", "the same")
    assert provider.kinds(queued) == [Enqueued, Granted]
    assert provider.kinds(running) == [Granted]


def test_a_call_expires_with_the_last_request_that_is_left() -> None:
    provider = Provider(coalesce=True)
    provider.run("runs", "something else")
    provider.run("patient", "the same")
    hurried = provider.run("hurried", "the same", deadline=5.0)
    provider.cancel("patient")
    provider.tree.advance(6.0)
    provider.upstream.calls[0].complete()
    provider.tree.settle()
    assert len(provider.upstream.calls) == 1
    assert Granted not in provider.kinds(hurried)
    provider.assert_empty()


def test_a_call_is_retried_for_the_request_that_is_left_though_the_first_had_a_fallback() -> None:
    provider = Provider(coalesce=True)
    provider.run("first", "the same", fallback_reasons=frozenset({"server_error"}))
    second = provider.run("second", "the same")
    provider.cancel("first")
    provider.upstream.calls[0].fail(FailureKind.SERVER_ERROR)
    provider.tree.advance(5.0)
    provider.upstream.calls[1].complete()
    assert provider.kinds(second) == [Granted, Completed]


def test_a_provider_that_is_stopped_aborts_its_calls() -> None:
    provider = Provider()
    provider.run("runs")
    provider.tree.actor("/providers/kimi").stop(block=False)
    provider.tree.settle()
    assert provider.upstream.calls[0].abort_asked


def test_each_change_of_capacity_is_logged_once() -> None:
    provider = Provider(
        retry=RetrySettings(attempts=1), circuit=CircuitSettings(failures_in_a_row=1, open_s=5.0)
    )
    with structlog.testing.capture_logs() as entries:
        provider.run("refused")
        provider.upstream.calls[0].fail(FailureKind.RATE_LIMITED, "slow down", retry_after=8.0)
        provider.tree.settle()
        held = provider.tree.statistics()
        assert held.held_because == "rate_limited"
        assert held.held_for_s == pytest.approx(8.4)
        provider.tree.advance(10.0)
        assert provider.tree.statistics().held_because == ""
        provider.run("fails")
        provider.upstream.calls[1].fail(FailureKind.SERVER_ERROR, "broken")
        provider.tree.advance(10.0)
        provider.run("probe")
        provider.upstream.calls[2].complete(hold_s=3.0)
        provider.tree.settle()
        entries[:] = [each for each in entries if not each["event"].startswith("request.")]
        assert len(entries) == 5
        provider.tree.change(SetLimit(2))
    assert [(entry["event"], entry["cause"]) for entry in entries] == [
        ("provider.held", "slow down"),
        ("provider.hold_ended", "its time is over"),
        ("provider.circuit_opened", "1 calls failed in a row: broken"),
        ("provider.circuit_closed", "a probe was answered"),
        ("provider.held", "the provider says its limit is reached"),
        ("provider.capacity_changed", "the test"),
    ]
    assert [(entry.get("model"), entry.get("seconds")) for entry in entries][:3] == [
        ("all", 8.4),
        ("all", None),
        (None, 5.0),
    ]


def test_violated_invariants_are_logged_and_counted_up_to_a_limit() -> None:
    provider = Provider(limit=100)
    for number in range(30):
        provider.run(f"r{number}")
    ledger = provider_of(provider.tree)._dispatcher.pools[0].ledger
    ledger.quarantined.update(ledger.held)
    with structlog.testing.capture_logs() as entries:
        provider.tree.advance(30.0)
    assert len(entries) == MAX_LOGGED_VIOLATIONS
    assert entries[0]["event"] == "provider.invariant_violated"
    assert entries[0]["violation"].endswith("is both held and in quarantine")
    assert provider.tree.statistics().violations == MAX_LOGGED_VIOLATIONS


def test_an_aborted_call_that_is_still_awaited_fails() -> None:
    provider = Provider()
    awaited = provider.run("awaited")
    provider.upstream.calls[0].close()
    assert provider.kinds(awaited) == [Granted, Failed]
    assert provider.tree.statistics().aborted == 1


def test_chunks_of_a_cancelled_call_go_nowhere() -> None:
    provider = Provider()
    probe = provider.run("cancelled", stream=True)
    provider.cancel("cancelled")
    provider.upstream.calls[0].chunk("late")
    provider.upstream.calls[0].close()
    assert provider.kinds(probe) == [Granted]


def test_a_failure_after_a_chunk_says_that_text_was_sent() -> None:
    provider = Provider()
    probe = provider.run("breaks", stream=True)
    provider.upstream.calls[0].chunk("half")
    provider.upstream.calls[0].fail(FailureKind.SERVER_ERROR)
    provider.tree.settle()
    failed = probe.skip_to(Failed)
    assert failed.failure.text_sent
    assert provider.tree.statistics().retried == 0


def test_an_aborted_stream_costs_its_prompt_and_its_chunks() -> None:
    provider = Provider()
    provider.run("stream", "x" * 400, stream=True)
    provider.upstream.calls[0].chunk("y" * 200)
    provider.tree.settle()
    (call,) = provider_of(provider.tree)._dispatcher.calls()
    assert call.cost_so_far == 100.0 + 200 / 2
    provider.upstream.calls[0].chunk("y" * 100_000)
    provider.tree.settle()
    assert call.cost_so_far == call.cost


def test_the_service_is_asked_for_its_models_with_a_growing_delay_until_it_answers() -> None:
    tree = ManualTree(models=())
    upstream = tree.upstream

    def delay_after_a_refusal() -> float:
        upstream.refuse_models()
        tree.settle()
        seconds = 0.0
        while not upstream.models_asked:
            tree.advance(0.5)
            seconds += 0.5
        return seconds

    assert [delay_after_a_refusal() for _ in range(4)] == [2.0, 4.0, 8.0, 16.0]
    assert tree.statistics().trouble is not None
    upstream.list_models("moon")
    tree.settle()
    assert tree.statistics().models == ("moon",)
    assert tree.statistics().trouble is None
    assert tree.directory.routing.models() == ("moon", "star")
    assert tree.actor("/broker").incarnation == 1
    tree.advance(300.0)
    assert delay_after_a_refusal() == 2.0


def test_the_delay_is_no_longer_than_the_usual_interval() -> None:
    tree = ManualTree(models=())
    for _ in range(12):
        tree.upstream.refuse_models()
        tree.advance(300.0)
        assert len(tree.upstream.models_asked) == 1


def test_a_session_that_ended_leaves_nothing_at_the_provider() -> None:
    tree = ManualTree(resume_s=1.0)
    client = tree.client("mine")
    client.call("a")
    client.call("b")
    client.vanish()
    tree.upstream.calls[0].close(cut_off=False)
    tree.advance(5.0)
    assert tree.board.statistics().sessions == 0
    assert left_in_provider(tree, sessions_ended=True) == []


def test_the_end_of_a_session_costs_no_look_at_the_waiting_requests_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = ManualTree(limit=1, resume_s=1.0)
    staying, leaving = tree.client("staying"), tree.client("leaving")
    for number in range(5):
        staying.call(f"s{number}")
    leaving.call("l")
    looked_at = []
    each_of = FairQueue.__iter__

    def counted(queue: FairQueue[Any]) -> Iterator[Any]:
        for call in each_of(queue):
            looked_at.append(call)
            yield call

    monkeypatch.setattr(FairQueue, "__iter__", counted)
    leaving.vanish()
    tree.advance(5.0)
    assert tree.board.statistics().sessions == 1
    assert looked_at == []
    monkeypatch.undo()
    assert tree.statistics().queued == 4


def test_a_session_of_an_earlier_name_is_watched_again() -> None:
    tree = ManualTree(limit=1)
    for life in (1, 2):
        client = tree.client("mine")
        client.call("a")
        session = next(path for path in tree.system.paths() if path.startswith("/sessions/"))
        tree.actor(session).tell("not a message of a session")
        tree.settle()
        assert len(tree.upstream.calls) == life
        assert tree.upstream.calls[-1].abort_asked
        tree.upstream.calls[-1].close(cut_off=False)
        tree.settle()
        assert left_in_provider(tree, sessions_ended=True) == []


def test_a_call_whose_reader_stays_far_behind_is_cut_off_and_says_why() -> None:
    provider = Provider()
    slow = provider.run("slow", stream=True)
    (call,) = provider.upstream.calls
    call.chunk("one")
    provider.pause("slow")
    assert [call.paused] == [True]
    provider.tree.advance(9.9)
    assert provider.kinds(slow) == [Granted]
    provider.tree.advance(0.2)
    failed = slow.skip_to(Failed)
    assert "was cut off because the client reads its answer too slowly" in failed.failure.message
    assert failed.failure.text_sent
    assert (failed.granted_at, failed.attempts) == (0.0, 1)
    assert call.abort_asked
    call.close(cut_off=False)
    provider.assert_empty()
    assert provider.tree.statistics().circuit == "closed"


def test_the_pauses_of_a_call_add_up() -> None:
    provider = Provider()
    slow = provider.run("slow", stream=True)
    (call,) = provider.upstream.calls
    call.chunk("one")
    for _ in range(2):
        provider.pause("slow")
        provider.pause("slow")
        provider.tree.advance(4.0)
        provider.resume("slow")
        assert not call.paused
        provider.tree.advance(100.0)
    provider.pause("slow")
    provider.tree.advance(1.9)
    assert provider.kinds(slow) == [Granted]
    provider.tree.advance(0.2)
    assert provider.kinds(slow) == [Granted, Failed]


def test_a_call_that_was_paused_for_a_while_completes() -> None:
    provider = Provider()
    slow = provider.run("slow", stream=True)
    (call,) = provider.upstream.calls
    provider.pause("slow")
    provider.tree.advance(1.0)
    provider.resume("slow")
    call.complete()
    assert provider.kinds(slow) == [Granted, Completed]
    provider.tree.advance(100.0)
    provider.assert_empty()


def test_a_pause_that_has_ended_cuts_nothing_off() -> None:
    provider = Provider()
    slow = provider.run("slow", stream=True)
    (call,) = provider.upstream.calls
    provider.pause("slow")
    call.complete()
    provider.resume("slow")
    provider.tree.advance(100.0)
    assert provider.kinds(slow) == [Granted, Completed]
    provider.pause("slow")
    provider.assert_empty()


def test_one_of_two_readers_that_stays_far_behind_leaves_the_other_its_stream() -> None:
    provider = Provider(coalesce=True)
    slow, quick = (provider.run(name, "the same", stream=True) for name in ("slow", "quick"))
    (call,) = provider.upstream.calls
    call.chunk("one")
    provider.pause("slow")
    provider.tree.advance(10.1)
    assert not call.paused
    assert not call.abort_asked
    call.complete("one two")
    assert provider.kinds(slow) == [Granted, Failed]
    assert provider.kinds(quick) == [Granted, Completed]


def test_a_call_of_several_resumes_when_none_of_them_is_far_behind() -> None:
    provider = Provider(coalesce=True)
    names = ("one", "two", "three")
    for name in names:
        provider.run(name, "the same", stream=True)
    (call,) = provider.upstream.calls
    for name in names[:2]:
        provider.pause(name)
    provider.resume("one")
    provider.resume("three")
    assert [call.paused] == [True]
    provider.cancel("two")
    assert not call.paused


def test_the_time_that_a_permit_is_held_for_a_slow_consumer_counts_in_its_share() -> None:
    provider = Provider()
    for number in range(12):
        provider.run(f"slow {number}", "slow", stream=True, session="slow")
        provider.run(f"quick {number}", "quick", session="quick")
    for number in range(14):
        (call,) = provider.upstream.running
        provider.tree.driver.advance(1.0)
        if number == 0:
            provider.pause("slow 0", "slow")
            provider.tree.driver.advance(9.9)
        call.complete()
        provider.tree.settle()
    served = [call.prompt for call in provider.upstream.calls]
    # The stall took as long as ten calls; the other session gets them first.
    assert served[1:9] == ["quick"] * 8


class Computing(LoopActor):
    """Takes as long over a message as it says."""

    def __init__(self, tree: ManualTree) -> None:
        super().__init__()
        self._tree = tree

    def on_receive(self, message: float) -> None:
        self._tree.driver.pass_time(message)


def mean_service_s(provider: Provider) -> float | None:
    return provider.tree.statistics().mean_service_s


def ended_after(provider: Provider, name: str, seconds: float) -> None:
    """A call that its service answers in so many seconds."""
    provider.run(name)
    provider.tree.advance(seconds)
    provider.upstream.calls[-1].complete()
    provider.tree.settle()


def test_an_end_counts_from_when_it_was_seen_not_from_when_it_was_handled() -> None:
    provider = Provider()
    provider.run("a")
    call = provider.upstream.calls[0]
    provider.tree.advance(3.0)
    answer = Completion("done", "moon", "stop", None)
    call.reply_to.tell(UpstreamEnded(call.permit, answer, ended_at=1.0))
    provider.tree.settle()
    assert mean_service_s(provider) == 1.0


@pytest.mark.parametrize(
    ("before_s", "stall_s", "after_s", "expected"),
    [
        pytest.param(0.1, 0.5, 0.0, 1.0, id="ended during a stall, perhaps"),
        pytest.param(0.1, 0.5, 0.3, 1.0, id="seen when the stall was made up for"),
        pytest.param(0.1, 0.5, 2.0, 1.8, id="ended long after it"),
        pytest.param(9.5, 0.5, 0.0, 5.5, id="a stall that matters little"),
        pytest.param(0.1, 0.04, 0.0, 0.57, id="nothing was slow"),
    ],
)
def test_a_slow_loop_is_not_taken_for_a_slow_service(
    before_s: float, stall_s: float, after_s: float, expected: float
) -> None:
    provider = Provider()
    ended_after(provider, "usual", 1.0)
    computing = provider.tree.system.spawn(Computing, provider.tree, path="/computing")
    provider.tree.settle()
    provider.run("a")
    provider.tree.advance(before_s)
    computing.tell(stall_s)
    provider.tree.settle()
    provider.tree.advance(after_s)
    provider.upstream.calls[-1].complete()
    provider.tree.settle()
    assert mean_service_s(provider) == pytest.approx(expected)


def test_as_many_requests_as_its_queue_holds_may_come_at_the_same_time() -> None:
    provider = Provider(queue=10_100, session_queue=10_100)
    options, probe = CallOptions(), Probe[SessionMessage]("all")
    call = ChatCall("moon", (ChatMessage("user", "hi"),))
    actor = provider.tree.actor("/providers/kimi")
    offers = [
        actor.offer(RunCall(RequestKey(str(number)), SESSION, call, options, probe))
        for number in range(10_100)
    ]
    assert set(offers) == {"accepted"}


def test_the_requests_that_a_hold_outlasts_are_refused_in_parts() -> None:
    provider = Provider(retry=RetrySettings(attempts=1))
    provider.run("runs")
    waiting = [provider.run(f"w{number}", deadline=60.0) for number in range(500)]
    parts: list[int] = []
    refuse = provider_of(provider.tree)._dispatcher.refuse_unservable

    def counting(dispatcher: object, now: float, at_most: int) -> list[tuple[object, object]]:
        parts.append(len(refused := refuse(now, at_most)))
        return [*refused]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dispatcher, "refuse_unservable", counting)
        provider.upstream.calls[0].fail(FailureKind.RATE_LIMITED, retry_after=300.0)
        provider.tree.settle()
        provider.tree.advance(0.1)
    assert parts == [200, 200, 100]
    assert {provider.kinds(each)[-1] for each in waiting} == {Refused}
    provider.assert_empty()
