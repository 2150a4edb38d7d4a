"""Requests over HTTP among the actors: one end for each, in time, and nothing is left behind."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from exai_actors.actors import paths
from exai_actors.actors.http_exchange.actor import HttpExchangeActor
from exai_actors.actors.http_exchange.settings import ExchangeSettings
from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.authentication import Identity
from exai_actors.core.calls import FailureKind, RelayCall, RelayedResponse
from exai_actors.core.capacity.settings import CapacitySettings
from exai_actors.core.families import Family
from exai_actors.core.observe.request_ends import RequestEnd
from exai_actors.core.places import PlaceLimits
from exai_actors.core.relay import Fields, RelayRequest
from exai_actors.core.routing import RouteSettings
from exai_actors.ids import ProviderName, TenantName
from exai_actors.messages.connection import (
    BrokerFailed,
    Disconnect,
    OutboxHigh,
    SocketClosed,
    TokenWithdrawn,
)
from exai_actors.ports import Peer
from exai_actors.testing.manual_upstream import ManualUpstream
from exai_actors.testing.tree import ManualTree
from tests.actors.left_over import left_in_provider
from tests.actors.relaying import JSON, STREAM, Exchange, Socket, begin, finish, send

NO_GRACE = ExchangeSettings(retry_grace_s=0)
PADDED = ExchangeSettings(pad_json=True)
PING = b'event: ping\ndata: {"type": "ping"}\n\n'


def is_over(tree: ManualTree) -> bool:
    """Whether no exchange is left, and nothing of one at the provider."""
    tree.settle()
    exchanges = [name for name in tree.connections() if name.startswith("http")]
    return not exchanges and not left_in_provider(tree, sessions_ended=False)


def test_an_answer_is_passed_on_and_ends_cleanly() -> None:
    tree = ManualTree()
    asked = Exchange(tree)
    (call,) = tree.upstream.calls
    begin(call, b"one ")
    assert asked.outcome == (200, b"one ", "")
    finish(call, b"two")
    assert is_over(tree)
    assert asked.outcome == (200, b"one two", "clean")
    assert "x-request-id" in asked.responder.fields


def test_a_failure_in_the_middle_breaks_the_response_off() -> None:
    tree = ManualTree()
    asked = Exchange(tree)
    (call,) = tree.upstream.calls
    begin(call, b"half")
    call.fail(FailureKind.TRUNCATED, text_sent=True)
    assert is_over(tree)
    assert asked.outcome == (200, b"half", "broken off")


def test_the_services_own_error_at_the_end_is_a_clean_end() -> None:
    tree = ManualTree()
    asked = Exchange(tree)
    (call,) = tree.upstream.calls
    begin(call, b"half", b"error")
    call.relayed.sink.whole()
    call.fail(FailureKind.OVERLOADED, text_sent=True)
    assert is_over(tree)
    assert asked.outcome == (200, b"halferror", "clean")


def test_a_stream_that_waits_gets_signs_of_life_after_a_while() -> None:
    tree = ManualTree(limit=1, session=SessionSettings(window=1))
    first, second = Exchange(tree), Exchange(tree, family="messages", session="two")
    third = Exchange(tree, session="three")
    tree.advance(9.9)
    assert second.responder.starts == third.responder.starts == 0
    tree.advance(0.1)
    assert second.outcome == (200, PING, "")
    assert second.responder.fields["cache-control"] == "no-cache"
    assert third.responder.body.startswith(b": exai queued position=2")
    assert first.responder.body.startswith(b": exai waiting")
    tree.advance(10.0)
    assert second.responder.body == PING * 2
    begin(tree.upstream.calls[0], b"first")
    tree.advance(30.0)
    assert first.responder.body.count(b"exai waiting") == 2
    assert b"data:" not in first.responder.body.replace(b"first", b"")
    finish(tree.upstream.calls[0])
    tree.settle()
    begin(tree.upstream.calls[1], b"second")
    finish(tree.upstream.calls[1])
    tree.settle()
    assert second.outcome == (200, PING * 5 + b"second", "clean")


def test_a_request_that_is_no_stream_waits_without_a_byte() -> None:
    tree = ManualTree()
    asked = Exchange(tree, stream=False)
    tree.advance(100)
    assert asked.responder.starts == 0
    begin(tree.upstream.calls[0], b"{}", stream=False)
    finish(tree.upstream.calls[0])
    assert is_over(tree)
    assert asked.outcome == (200, b"{}", "clean")


class TestPaddedAnswers:
    """Requests that do not stream, with ``pad_json``."""

    @pytest.mark.parametrize("family", ["chat", "messages", "responses", "embeddings"])
    def test_a_request_that_waits_gets_empty_lines_before_its_answer(self, family: Family) -> None:
        tree = ManualTree(limit=1, exchange=PADDED)
        first, second = (Exchange(tree, stream=False, family=family, session=n) for n in "ab")
        tree.advance(9.9)
        assert (first.responder.starts, second.responder.starts) == (0, 0)
        tree.advance(10.1)
        assert second.outcome == (200, b"\n\n", "")
        assert second.responder.fields["content-type"] == "application/json"
        assert second.responder.fields["x-accel-buffering"] == "no"
        begin(tree.upstream.calls[0], b'{"first"', stream=False)
        tree.advance(30.0)
        finish(tree.upstream.calls[0], b":1}")
        tree.settle()
        assert first.outcome == (200, b'\n\n{"first":1}', "clean")
        tree.advance(10.0)
        begin(tree.upstream.calls[1], b"{}", stream=False)
        finish(tree.upstream.calls[1])
        assert is_over(tree)
        assert second.outcome == (200, b"\n" * 6 + b"{}", "clean")

    def test_an_early_outcome_has_its_own_status_and_length(self) -> None:
        tree = ManualTree(capacity=_once(), exchange=PADDED)
        refused = Exchange(tree, stream=False)
        tree.advance(9)
        tree.upstream.calls[0].fail(FailureKind.RATE_LIMITED)
        assert is_over(tree)
        assert refused.responder.status == 429
        tree.advance(60)
        assert refused.error["code"] == "rate_limit_exceeded"

    def test_a_failure_after_the_beginning_breaks_the_response_off(self) -> None:
        tree = ManualTree(capacity=_once(), exchange=PADDED)
        own = RelayedResponse(400, JSON, b'{"error":{}}')
        asked = [Exchange(tree, stream=False) for _ in range(2)]
        tree.advance(10)
        tree.upstream.calls[0].fail(FailureKind.REJECTED, status=400, response=own)
        tree.settle()
        tree.upstream.calls[1].fail(FailureKind.OVERLOADED)
        assert is_over(tree)
        assert [each.outcome for each in asked] == [(200, b"\n", "broken off")] * 2

    def test_the_deadline_ends_the_empty_lines(self) -> None:
        tree = ManualTree(exchange=PADDED)
        ends: list[RequestEnd] = []
        tree.request_board.observers = (ends.append,)
        asked = Exchange(tree, stream=False, deadline_ms=25_000.0)
        tree.advance(25)
        tree.upstream.calls[0].close()
        tree.advance(30)
        assert is_over(tree)
        assert asked.outcome == (200, b"\n\n", "broken off")
        assert [(end.outcome, end.code) for end in ends] == [("expired", "TIMEOUT")]

    def test_a_client_that_leaves_gets_no_more(self) -> None:
        tree = ManualTree(exchange=replace(PADDED, retry_grace_s=0))
        asked = Exchange(tree, stream=False)
        tree.advance(10)
        asked.leave()
        assert tree.upstream.calls[0].abort_asked
        tree.upstream.calls[0].close(cut_off=False)
        assert is_over(tree)

    @pytest.mark.parametrize(
        "fields",
        [
            (("content-type", "text/html"),),
            (*JSON, ("content-encoding", "gzip")),
            STREAM,
            (),
        ],
    )
    def test_json_was_promised_and_something_else_comes(self, fields: Fields) -> None:
        tree = ManualTree(exchange=PADDED)
        asked = Exchange(tree, stream=False)
        tree.advance(10)
        (call,) = tree.upstream.calls
        call.relayed.sink.head(200, fields, 2)
        finish(call, b"{}")
        assert is_over(tree)
        assert asked.outcome == (200, b"\n", "broken off")

    def test_a_repeat_is_padded_until_the_answer_that_both_wait_for(self) -> None:
        tree = ManualTree(exchange=PADDED)
        first, second = (Exchange(tree, stream=False, key="a key") for _ in range(2))
        tree.advance(10)
        begin(tree.upstream.calls[0], b"{}", stream=False)
        finish(tree.upstream.calls[0])
        assert is_over(tree)
        assert first.outcome == second.outcome == (200, b"\n{}", "clean")
        assert len(tree.upstream.calls) == 1

    def test_the_next_request_of_the_connection_is_padded_too(self) -> None:
        tree, socket = ManualTree(exchange=PADDED), Socket()
        for number in range(2):
            asked = Exchange(tree, stream=False, socket=socket)
            tree.advance(10)
            begin(tree.upstream.calls[number], b"{}", stream=False)
            finish(tree.upstream.calls[number])
            tree.settle()
            assert asked.outcome == (200, b"\n{}", "clean")


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_says_how_long_its_request_has_waited(stream: bool) -> None:
    tree = ManualTree(limit=1)
    first = Exchange(tree)
    second = Exchange(tree, session="two", stream=stream)
    begin(tree.upstream.calls[0], b"first")
    tree.advance(3.0)
    finish(tree.upstream.calls[0])
    tree.settle()
    call = tree.upstream.calls[1]
    tree.advance(2.0)
    begin(call, b"second", stream=stream)
    finish(call)
    assert is_over(tree)
    assert first.responder.fields["x-exai-queued-ms"] == "0"
    assert second.responder.fields["x-exai-queued-ms"] == "3000"


def test_an_answer_does_not_count_its_attempts_as_waiting() -> None:
    tree = ManualTree()
    asked = Exchange(tree)
    tree.advance(2.0)
    tree.upstream.calls[0].fail(FailureKind.SERVER_ERROR)
    while len(tree.upstream.calls) == 1:
        tree.advance(0.5)
    begin(tree.upstream.calls[1], b"one")
    assert asked.responder.fields["x-exai-queued-ms"] == "0"


def test_a_repeat_of_a_request_that_runs_has_not_waited() -> None:
    tree = ManualTree()
    first = Exchange(tree)
    tree.advance(2.0)
    first.leave()
    tree.advance(1.0)
    repeat = Exchange(tree)
    begin(tree.upstream.calls[0], b"one")
    assert repeat.responder.fields["x-exai-queued-ms"] == "0"


def test_a_stream_was_promised_and_something_else_comes() -> None:
    tree = ManualTree()
    asked = Exchange(tree)
    tree.advance(11)
    begin(tree.upstream.calls[0], b"{}", stream=False)
    finish(tree.upstream.calls[0])
    assert is_over(tree)
    assert asked.responder.ended == "broken off"
    assert b"{}" not in asked.responder.body


@pytest.mark.parametrize(
    ("family", "end"),
    [
        ("chat", b'data: {"error":'),
        ("messages", b"event: error\ndata: "),
        ("responses", b"event: response.failed\ndata: "),
        ("embeddings", b'data: {"error":'),
    ],
)
def test_an_error_after_the_beginning_is_an_event(family: Family, end: bytes) -> None:
    tree = ManualTree(capacity=CapacitySettings(1, 10))
    asked = Exchange(tree, family=family)
    tree.advance(11)
    tree.upstream.calls[0].fail(FailureKind.REJECTED, "no such thing")
    assert is_over(tree)
    assert asked.responder.ended == "clean"
    last = asked.responder.body.split(b"\n\n")[-2]
    assert last.startswith(end)
    assert b"no such thing" in last
    content = orjson.loads(last.rpartition(b"data: ")[2])
    assert "error" in (content if family != "responses" else content["response"])


@pytest.mark.parametrize("family", ["chat", "messages", "responses"])
def test_a_deadline_that_passes_is_a_gateway_timeout(family: Family) -> None:
    tree = ManualTree()
    asked = Exchange(tree, family=family, stream=False, deadline_ms=5_000.0)
    tree.advance(5)
    tree.upstream.calls[0].close()
    tree.advance(1)
    assert is_over(tree)
    assert asked.responder.status == 504
    assert asked.responder.fields["x-should-retry"] == "false"
    assert "5 s" in asked.error["message"]


def test_a_full_queue_is_refused_with_the_time_to_wait() -> None:
    tree = ManualTree(limit=1, queue=1, exchange=NO_GRACE)
    running = [Exchange(tree, session=str(each)) for each in range(2)]
    refused = Exchange(tree, session="third")
    assert refused.responder.status == 429
    assert refused.error["code"] == "rate_limit_exceeded"
    assert int(refused.responder.fields["retry-after"]) >= 1
    assert int(refused.responder.fields["retry-after-ms"]) >= 1
    for each in running:
        each.leave()
    tree.upstream.calls[0].close(cut_off=False)
    assert is_over(tree)


def test_a_fallback_is_tried_before_the_first_byte_and_not_after() -> None:
    routes = (RouteSettings("both", ("moon", "star"), ("server_error",)),)
    tree = ManualTree(capacity=_once(), routes=routes)
    glm = tree.upstreams[ProviderName("glm")]
    asked = Exchange(tree, b'{"model":"both"}', model="both")
    tree.upstream.calls[0].fail(FailureKind.SERVER_ERROR)
    tree.settle()
    assert glm.calls[0].relayed.body == b'{"model":"star"}'
    begin(glm.calls[0], b"from glm")
    send(tree.upstream.calls[0], b"too late")
    finish(glm.calls[0])
    assert is_over(tree)
    assert asked.outcome == (200, b"from glm", "clean")
    asked = Exchange(tree, b'{"model":"both"}', model="both")
    begin(tree.upstream.calls[1], b"half")
    tree.upstream.calls[1].fail(FailureKind.SERVER_ERROR, text_sent=True)
    tree.settle()
    assert asked.outcome == (200, b"half", "broken off")
    assert len(glm.calls) == 1


def test_the_services_own_refusal_is_answered_as_it_came() -> None:
    tree = ManualTree(capacity=_once())
    asked = Exchange(tree)
    own = RelayedResponse(400, (("content-type", "text/odd"),), b"\xff\x00")
    tree.upstream.calls[0].fail(FailureKind.REJECTED, status=400, response=own)
    assert is_over(tree)
    assert asked.outcome == (400, b"\xff\x00", "clean")
    assert asked.responder.fields["content-type"] == "text/odd"


@pytest.mark.parametrize(
    ("kind", "status", "should_retry"),
    [
        (FailureKind.RATE_LIMITED, 429, None),
        (FailureKind.QUOTA, 429, "false"),
        (FailureKind.OVERLOADED, 503, None),
        (FailureKind.CONNECT, 503, None),
        (FailureKind.TIMEOUT, 504, "false"),
        (FailureKind.TRUNCATED, 502, "false"),
        (FailureKind.MALFORMED, 502, "false"),
        (FailureKind.SERVER_ERROR, 502, "false"),
    ],
)
def test_each_failure_has_a_status(
    kind: FailureKind, status: int, should_retry: str | None
) -> None:
    tree = ManualTree(capacity=_once())
    asked = Exchange(tree)
    tree.upstream.calls[0].fail(kind)
    assert is_over(tree)
    assert asked.responder.status == status
    assert asked.responder.fields.get("x-should-retry") == should_retry


@pytest.mark.parametrize("phase", ["waiting", "running", "streaming"])
def test_a_client_that_leaves_ends_its_request_in_every_phase(phase: str) -> None:
    tree = ManualTree(limit=1, exchange=NO_GRACE)
    first = Exchange(tree) if phase == "waiting" else None
    asked = Exchange(tree, session="two")
    if phase == "streaming":
        begin(tree.upstream.calls[0], b"half")
    asked.leave()
    if first is None:
        assert tree.upstream.calls[0].abort_asked
        tree.upstream.calls[0].close(cut_off=False)
    else:
        assert tree.statistics().queued == 0
        begin(tree.upstream.calls[0])
        finish(tree.upstream.calls[0])
    assert is_over(tree)
    assert len(tree.upstream.calls) == 1


# The fourth step after a wrong token is the response.
@pytest.mark.parametrize(
    ("step", "token"),
    [*((step, "secret") for step in range(10)), *((step, "wrong") for step in range(4))],
)
def test_news_for_a_client_that_has_left_are_no_dead_letters(step: int, token: str) -> None:
    tree = ManualTree(exchange=NO_GRACE, token="secret")
    steps = 0

    def leave_at_step(ready: Sequence[object]) -> int:
        nonlocal steps
        if steps == step:
            (name,) = [each for each in tree.connections() if each.startswith("http")]
            tree.actor(f"/connections/{name}").tell(SocketClosed(1006, ""))
        steps += 1
        return steps % len(ready)

    tree.system.scheduler.pick = leave_at_step
    for _ in range(2):
        steps = 0
        Exchange(tree, token=token)
    tree.settle()
    assert tree.system.dead_letters.recent() == ()


def test_a_client_that_leaves_after_the_whole_answer_was_served() -> None:
    tree = ManualTree(exchange=NO_GRACE)
    asked = Exchange(tree)
    (call,) = tree.upstream.calls
    begin(call, b"all")
    call.relayed.sink.whole()
    asked.leave()
    assert not call.abort_asked
    finish(call)
    assert is_over(tree)
    assert tree.statistics().completed == 1


class TestRepeats:
    def test_the_same_request_joins_the_call_of_a_client_that_has_left(self) -> None:
        tree = ManualTree()
        first = Exchange(tree)
        (call,) = tree.upstream.calls
        begin(call, b"one ")
        first.leave()
        tree.advance(1.9)
        second = Exchange(tree)
        assert second.outcome == (200, b"one ", "")
        tree.advance(60)
        finish(call, b"two")
        assert is_over(tree)
        assert second.outcome == (200, b"one two", "clean")
        assert tree.upstream.calls == [call]

    @pytest.mark.parametrize(
        ("first", "second", "joins"),
        [
            ([("x-stainless-retry-count", "0")], [("x-stainless-retry-count", "1")], True),
            ([("Anthropic-Beta", "a"), ("anthropic-version", "1")],) * 2 + (True,),
            ([("Anthropic-Beta", "a")], [("anthropic-beta", "a")], True),
            ([("anthropic-beta", "a")], [("anthropic-beta", "b")], False),
            ([("anthropic-version", "1")], [], False),
            ([], [("OpenAI-Beta", "responses=v1")], False),
        ],
    )
    @pytest.mark.parametrize("key", [None, "a key"])
    def test_headers_that_change_the_answer_make_another_request(
        self,
        first: list[tuple[str, str]],
        second: list[tuple[str, str]],
        joins: bool,
        key: str | None,
    ) -> None:
        tree = ManualTree(limit=2)
        Exchange(tree, headers=tuple(first), key=key).leave()
        again = Exchange(tree, headers=tuple(second), key=key)
        if key is not None and not joins:
            assert "already used in this session for a different call" in again.error["message"]
            return
        assert len(tree.upstream.calls) == (1 if joins else 2)
        begin(tree.upstream.calls[-1])
        finish(tree.upstream.calls[-1], b"done")
        tree.settle()
        assert again.outcome == (200, b"done", "clean")

    @pytest.mark.parametrize("key", [None, "a key"])
    def test_a_repeat_has_its_own_time(self, key: str | None) -> None:
        tree = ManualTree(limit=1)
        running = Exchange(tree, b'{"model":"moon","n":1}')
        first = Exchange(tree, stream=False, deadline_ms=1_000, key=key)
        tree.advance(0.8)
        first.leave()
        tree.advance(0.1)
        second = Exchange(tree, stream=False, deadline_ms=5_000, key=key)
        tree.advance(4)
        assert second.outcome == (0, b"", "")
        begin(tree.upstream.calls[0])
        finish(tree.upstream.calls[0])
        tree.settle()
        assert running.outcome == (200, b"", "clean")
        tree.advance(0.8)
        begin(tree.upstream.calls[1], b"late", stream=False)
        finish(tree.upstream.calls[1])
        assert is_over(tree)
        assert second.outcome == (200, b"late", "clean")

    def test_a_repeat_beside_the_first_request_ends_with_it(self) -> None:
        tree = ManualTree()
        both = [
            Exchange(tree, stream=False, deadline_ms=deadline_ms, key="a key")
            for deadline_ms in (1_000, 5_000)
        ]
        tree.advance(1.1)
        assert [each.responder.status for each in both] == [504, 504]

    def test_the_time_of_a_repeat_counts_for_another_attempt(self) -> None:
        tree = ManualTree()
        Exchange(tree, stream=False, deadline_ms=1_000).leave()
        second = Exchange(tree, stream=False, deadline_ms=60_000)
        tree.upstream.calls[0].fail(FailureKind.OVERLOADED, retry_after=5.0)
        tree.advance(6)
        begin(tree.upstream.calls[1], b"late", stream=False)
        finish(tree.upstream.calls[1])
        assert is_over(tree)
        assert second.outcome == (200, b"late", "clean")

    def test_a_repeat_keeps_the_place_in_the_queue(self) -> None:
        tree = ManualTree(limit=1, session=SessionSettings(window=1))
        running, first = Exchange(tree, b'{"model":"moon","n":1}'), Exchange(tree)
        first.leave()
        second, third = Exchange(tree), Exchange(tree, b'{"model":"moon","n":3}')
        begin(tree.upstream.calls[0])
        finish(tree.upstream.calls[0])
        tree.settle()
        begin(tree.upstream.calls[1], b"for the second")
        assert second.responder.body == b"for the second"
        assert (running.responder.ended, third.responder.starts) == ("clean", 0)

    @pytest.mark.parametrize("stream", [True, False])
    def test_a_request_that_is_queued_keeps_its_place_until_it_is_repeated(
        self, stream: bool
    ) -> None:
        tree = ManualTree(limit=1)
        Exchange(tree, session="running")
        first = Exchange(tree, b'{"model":"moon","n":1}', stream=stream)
        Exchange(tree, b'{"model":"moon","n":2}', session="behind")
        for _ in range(3):
            first.leave()
            tree.advance(1.9)
            first = Exchange(tree, b'{"model":"moon","n":1}', stream=stream)
        for call in tuple(tree.upstream.calls):
            begin(call)
            finish(call)
            tree.settle()
        begin(tree.upstream.calls[1], b"for the first")
        assert first.responder.body == b"for the first"
        assert len(tree.upstream.calls) == 2

    def test_others_take_its_turn_meanwhile_and_it_takes_the_next_one(self) -> None:
        tree = ManualTree(limit=1)
        Exchange(tree, session="running")
        first = Exchange(tree)
        others = [Exchange(tree, session=f"other-{n}") for n in range(3)]
        first.leave()
        begin(tree.upstream.calls[0])
        finish(tree.upstream.calls[0])
        tree.settle()
        begin(tree.upstream.calls[1], b"other")
        assert others[0].responder.body == b"other"
        again = Exchange(tree)
        finish(tree.upstream.calls[1])
        tree.settle()
        begin(tree.upstream.calls[2], b"first")
        assert again.responder.body == b"first"

    def test_a_request_that_is_not_repeated_is_never_sent_to_the_service(self) -> None:
        tree = ManualTree(limit=1)
        Exchange(tree, session="running")
        Exchange(tree).leave()
        begin(tree.upstream.calls[0])
        finish(tree.upstream.calls[0])
        tree.settle()
        assert tree.statistics().queued == 1
        tree.advance(2.0)
        assert is_over(tree)
        assert len(tree.upstream.calls) == 1

    def test_one_that_waited_in_its_session_is_not_started_before_its_client_is_back(self) -> None:
        tree = ManualTree(limit=2, session=SessionSettings(window=1))
        Exchange(tree, b'{"model":"moon","n":1}')
        Exchange(tree).leave()
        begin(tree.upstream.calls[0])
        finish(tree.upstream.calls[0])
        tree.settle()
        assert len(tree.upstream.calls) == 1
        again = Exchange(tree)
        begin(tree.upstream.calls[1], b"yours")
        assert again.responder.body == b"yours"

    def test_a_call_that_waits_for_another_attempt_keeps_its_place_too(self) -> None:
        tree = ManualTree(limit=1)
        first = Exchange(tree)
        tree.upstream.calls[0].fail(FailureKind.SERVER_ERROR)
        tree.settle()
        first.leave()
        Exchange(tree, session="other")
        Exchange(tree, session="behind")
        queued = tree.statistics().queued
        tree.advance(1.9)
        assert tree.statistics().queued == queued == 2
        tree.advance(0.1)
        assert tree.statistics().queued == 1

    def test_a_request_with_a_key_is_run_to_its_end_if_the_provider_finishes_calls(self) -> None:
        tree = ManualTree(limit=1, finish_on_disconnect=("kimi",))
        Exchange(tree, session="running")
        Exchange(tree, key="k").leave()
        begin(tree.upstream.calls[0])
        finish(tree.upstream.calls[0])
        tree.settle()
        assert len(tree.upstream.calls) == 1
        tree.advance(2.1)
        begin(tree.upstream.calls[1], b"kept")
        finish(tree.upstream.calls[1])
        tree.settle()
        assert Exchange(tree, key="k").outcome == (200, b"kept", "clean")

    @pytest.mark.parametrize("waits", ["before", "after"])
    def test_a_permit_that_others_wait_for_is_not_held_for_a_repeat(self, waits: str) -> None:
        tree = ManualTree(limit=1)
        first = Exchange(tree)
        (call,) = tree.upstream.calls
        other = Exchange(tree, session="other") if waits == "before" else None
        first.leave()
        if other is None:
            Exchange(tree, session="other")
            tree.advance(0.1)
        assert call.abort_asked

    @pytest.mark.parametrize("difference", ["body", "session", "time", "length", "reader"])
    def test_another_request_is_another_call(self, difference: str) -> None:
        tree = ManualTree(limit=2)
        first = Exchange(tree)
        (call,) = tree.upstream.calls
        begin(call, b"x" * (1_001 if difference == "length" else 10))
        if difference != "reader":
            first.leave()
        if difference == "time":
            tree.advance(2.1)
            assert call.abort_asked
            call.close(cut_off=False)
        second = Exchange(
            tree,
            b'{"model":"moon" }' if difference == "body" else b'{"model":"moon"}',
            session="two" if difference == "session" else "one",
        )
        assert len(tree.upstream.calls) == 2
        begin(tree.upstream.calls[1], b"own")
        assert second.responder.body == b"own"

    def test_a_repeat_that_leaves_too_ends_the_call(self) -> None:
        tree = ManualTree()
        for _ in range(3):
            Exchange(tree).leave()
            tree.advance(1.5)
        (call,) = tree.upstream.calls
        asked = [call.abort_asked]
        tree.advance(1.0)
        asked.append(call.abort_asked)
        assert asked == [False, True]
        call.close(cut_off=False)
        assert is_over(tree)

    @pytest.mark.parametrize(
        ("sent", "joins"),
        [
            (b'data: {"a":1}\n\ndata: [DONE]\n\n', True),
            (b': comment\n\nevent: ping\r\ndata: {"a": "\\ud83d"}\r\n\r\ndata: {"unf', True),
            (b'data: {"a":1}\n\ndata: {"a": oops\n\n', False),
            (b"data: <html>\n\n", False),
        ],
    )
    def test_a_client_that_leaves_at_an_event_that_is_no_json_gets_another_call(
        self, sent: bytes, joins: bool
    ) -> None:
        tree = ManualTree(limit=2)
        first = Exchange(tree)
        (call,) = tree.upstream.calls
        begin(call, sent)
        first.leave()
        assert call.abort_asked is not joins
        Exchange(tree)
        assert len(tree.upstream.calls) == (1 if joins else 2)

    def test_requests_with_one_key_are_one_call(self) -> None:
        tree = ManualTree(limit=2)
        first, second = Exchange(tree, key="k"), Exchange(tree, key="k")
        (call,) = tree.upstream.calls
        begin(call, b"one ")
        third = Exchange(tree, key="k")
        finish(call, b"two")
        assert is_over(tree)
        late = Exchange(tree, key="k")
        for each in (first, second, third, late):
            assert each.outcome == (200, b"one two", "clean")
        assert late.responder.fields["content-type"] == "text/event-stream"
        assert tree.upstream.calls == [call]

    def test_a_key_of_another_request_is_refused(self) -> None:
        tree = ManualTree()
        Exchange(tree, key="k")
        other = Exchange(tree, b'{"model":"moon","x":1}', key="k")
        assert other.responder.status == 422
        assert other.error["code"] == "duplicate"

    @pytest.mark.parametrize("ended", [False, True])
    def test_a_response_that_is_too_long_to_be_kept_cannot_be_repeated(self, ended: bool) -> None:
        tree = ManualTree(limit=2)
        first = Exchange(tree, key="k")
        (call,) = tree.upstream.calls
        begin(call, b"x" * 1_001)
        if ended:
            finish(call)
            tree.settle()
        second = Exchange(tree, key="k")
        assert second.responder.status == 422
        if not ended:
            finish(call)
        assert is_over(tree)
        assert first.outcome == (200, b"x" * 1_001, "clean")


def test_a_client_that_reads_slowly_pauses_its_own_call_only() -> None:
    tree = ManualTree(limit=2)
    slow, other = Exchange(tree), Exchange(tree, session="two")
    for call in tree.upstream.calls:
        begin(call, b"x")
    slow.falls_behind()
    assert [call.paused for call in tree.upstream.calls] == [True, False]
    slow.catches_up()
    assert not tree.upstream.calls[0].paused
    assert other.responder.ended == ""


def test_a_wrong_token_is_unauthorized() -> None:
    tree = ManualTree(tokens=(("secret-token-secret", Identity()),))
    asked = Exchange(tree, token="other", family="messages")
    assert asked.responder.status == 401
    assert asked.error["type"] == "authentication_error"
    assert Exchange(tree, token="secret-token-secret").responder.starts == 0


def test_no_place_is_a_refusal_that_ends_by_itself() -> None:
    tree = ManualTree(places=PlaceLimits(connections=1))
    Exchange(tree)
    refused = Exchange(tree)
    assert (refused.responder.status, refused.responder.fields["retry-after"]) == (429, "1")


def test_a_request_without_a_place_is_counted_for_its_tenant() -> None:
    tokens = (("token-of-ann", Identity(TenantName("ann"))),)
    tree = ManualTree(tokens=tokens, places=PlaceLimits(connections=1))
    Exchange(tree, token="token-of-ann")
    ends: list[RequestEnd] = []
    tree.request_board.observers = (ends.append,)
    refused = Exchange(tree, token="token-of-ann")
    assert refused.responder.status == 429
    (end,) = ends
    assert (end.tenant, end.outcome, end.api) == ("ann", "refused", "chat")
    ended = [tenant for tenant, *_ in tree.request_board.figures.series]
    assert ended == ["ann"]


@pytest.mark.parametrize("immediately", [False, True])
def test_a_broker_that_drains_finishes_or_refuses(immediately: bool) -> None:
    tree = ManualTree()
    asked = Exchange(tree)
    tree.drain(immediately=immediately)
    tree.settle()
    late = Exchange(tree, session="late")
    assert (late.responder.status, late.responder.fields["retry-after"]) == (503, "5")
    assert b"accepts no new requests" in late.outcome[1]
    assert late.responder.closes
    assert "x-exai-tenant" not in late.responder.fields
    if immediately:
        assert asked.responder.status == 503
        assert b"before this request had ended" in asked.outcome[1]
        tree.upstream.calls[0].close(cut_off=False)
    else:
        begin(tree.upstream.calls[0], b"all")
        finish(tree.upstream.calls[0])
    assert is_over(tree)
    assert tree.drained
    assert len(tree.system.dead_letters) == 0
    if not immediately:
        assert asked.outcome == (200, b"all", "clean")


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("actor", ["provider", "session", "broker", "exchange"])
def test_each_actor_may_fail(actor: str, begun: bool) -> None:
    tree = ManualTree(exchange=NO_GRACE)
    asked = Exchange(tree)
    (call,) = tree.upstream.calls
    if begun:
        begin(call, b"half")
    (session,) = [path for path in tree.system.paths() if path.startswith("/sessions/")]
    path = {
        "provider": paths.provider_path(ProviderName("kimi")),
        "session": session,
        "broker": paths.BROKER,
        "exchange": next(p for p in tree.system.paths() if p.startswith("/connections/http")),
    }[actor]
    tree.actor(path).tell("nonsense")
    tree.settle()
    if actor == "broker":
        if not begun:
            begin(call)
        finish(call, b"all")
        tree.settle()
        assert asked.responder.ended == "clean"
        assert is_over(tree)
        return
    assert call.abort_asked
    call.close(cut_off=False)
    tree.advance(1)
    assert is_over(tree)
    assert asked.responder.ended == ("broken off" if begun or actor == "exchange" else "clean")
    if not begun and actor != "exchange":
        assert asked.responder.status in {500, 503}


def test_a_request_that_only_waited_outlives_a_failure_of_its_session() -> None:
    tree = ManualTree(limit=1, session=SessionSettings(window=1))
    first, second = Exchange(tree), Exchange(tree, b'{"model":"moon","n":1}')
    (path,) = [path for path in tree.system.paths() if path.startswith("/sessions/")]
    tree.actor(path).tell("nonsense")
    tree.settle()
    assert (first.responder.status, second.responder.starts) == (500, 0)
    tree.upstream.calls[0].close(cut_off=False)
    tree.settle()
    begin(tree.upstream.calls[1], b"all")
    finish(tree.upstream.calls[1])
    assert is_over(tree)
    assert second.outcome == (200, b"all", "clean")


def test_operators_and_token_owners_end_exchanges() -> None:
    tree = ManualTree(exchange=NO_GRACE)
    for message, outcome in ((Disconnect(), (0, "broken off")), (TokenWithdrawn(), (401, "clean"))):
        asked = Exchange(tree)
        asked.ref.tell(message)
        tree.settle()
        assert (asked.responder.status, asked.responder.ended) == outcome
        tree.upstream.calls[-1].close(cut_off=False)
        assert is_over(tree)


def test_a_response_that_cannot_be_repeated_is_not_kept() -> None:
    tree = ManualTree()
    socket = Socket()
    for number in range(3):
        asked = Exchange(tree, socket=socket)
        begin(tree.upstream.calls[number])
        finish(tree.upstream.calls[number])
        tree.settle()
        assert asked.responder.ended == "clean"
        (session,) = tree.overview.sessions()
        assert (session.kept_bytes, session.text) == (0, 0)


def test_consoles_see_exchanges_among_the_connections() -> None:
    tree = ManualTree()
    Exchange(tree, family="messages", agent="reviewer")
    Exchange(tree, peer=Peer("192.0.2.7"))
    state, nameless = tree.overview.connections()
    assert state.agent == "desk/1 [reviewer]"
    assert (nameless.address, nameless.agent) == ("192.0.2.7", "")
    assert (state.protocol, state.calls, state.paused) == ("messages", 1, False)
    assert tree.overview.connection(state.connection) is not None


def test_a_relayed_request_that_kills_its_provider_twice_is_refused_and_no_other_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = ManualUpstream.start

    def failing(
        self: ManualUpstream, permit: Any, call: RelayCall, *more: Any, **named: Any
    ) -> Any:
        if b"poison" in call.body:
            raise RuntimeError("planted")
        return start(self, permit, call, *more, **named)

    monkeypatch.setattr(ManualUpstream, "start", failing)
    tree = ManualTree(limit=1)
    poison = Exchange(tree, b'{"model":"moon","poison":1}')
    tree.advance(5.0)
    assert poison.responder.status == 500
    assert "do not repeat it unchanged" in poison.error["message"]
    incarnation = tree.statistics().incarnation
    assert incarnation == 3
    assert Exchange(tree, b'{"model":"moon","poison":1}').responder.status == 500
    other = Exchange(tree, b'{"model":"moon"}')
    tree.advance(10.0)
    begin(tree.upstream.calls[0])
    finish(tree.upstream.calls[0])
    tree.settle()
    assert (other.responder.status, other.responder.ended) == (200, "clean")
    assert tree.statistics().incarnation == incarnation


def test_many_agents_of_one_session_weigh_as_one() -> None:
    tree = ManualTree(limit=1, session=SessionSettings(window=8))
    agents = [Exchange(tree, f'{{"model":"moon","n":{n}}}'.encode()) for n in range(142)]
    begin(tree.upstream.calls[0])
    interactive = Exchange(tree, session="interactive")
    finish(tree.upstream.calls[0])
    tree.settle()
    served = 1
    while not interactive.responder.starts:
        call = tree.upstream.calls[-1]
        begin(call, b"x")
        finish(call)
        tree.settle()
        served += 1
        assert served <= 3, "the interactive request waits for one call at most"
    assert not any(agent.responder.status >= 400 for agent in agents)


def test_a_request_that_comes_while_the_guardian_fails_is_served() -> None:
    tree = ManualTree()
    tree.actor(paths.BROKER).tell("nonsense")
    asked = Exchange(tree)
    begin(tree.upstream.calls[0], b"all")
    finish(tree.upstream.calls[0])
    assert is_over(tree)
    assert asked.outcome == (200, b"all", "clean")


def test_a_broker_that_gives_up_answers() -> None:
    tree = ManualTree()
    asked = Exchange(tree)
    asked.ref.tell_system(BrokerFailed())
    tree.settle()
    assert (asked.responder.status, asked.responder.fields["retry-after"]) == (500, "5")


def test_a_broker_that_stops_answers_what_is_left() -> None:
    tree = ManualTree()
    asked = Exchange(tree)
    tree.stop()
    tree.settle()
    assert asked.responder.status == 503
    assert asked.responder.ended == "clean"


def test_a_guesser_of_tokens_waits_for_each_answer() -> None:
    tree = ManualTree(tokens=(("secret-token-secret", Identity()),))
    guesses = [Exchange(tree, token=f"guess {each}") for each in range(30)]
    assert guesses[0].responder.status == 401
    assert guesses[-1].responder.starts == 0
    tree.advance(60)
    assert guesses[-1].responder.status == 401


def test_a_session_that_is_full_refuses() -> None:
    tree = ManualTree(session=SessionSettings(window=1, queue=1))
    for each in range(2):
        Exchange(tree, f'{{"model":"moon","n":{each}}}'.encode())
    refused = Exchange(tree, b'{"model":"moon","n":2}')
    assert (refused.responder.status, refused.error["code"]) == (429, "rate_limit_exceeded")


def test_a_session_that_ends_for_good_ends_its_exchanges() -> None:
    tree = ManualTree(exchange=NO_GRACE)
    asked = Exchange(tree)
    (path,) = [path for path in tree.system.paths() if path.startswith("/sessions/")]
    for _ in range(4):
        if tree.system.resolve(path) is not None:
            tree.actor(path).tell("nonsense")
            tree.settle()
    assert asked.responder.status == 500
    assert asked.error["code"] == "internal_error"


class TestTheNextRequest:
    """After a whole answer, on the same connection."""

    @pytest.mark.parametrize("stream", [False, True])
    def test_it_needs_no_actor_of_its_own(self, stream: bool) -> None:
        tree, socket = ManualTree(), Socket()
        first = _answered(tree, socket)
        second = Exchange(tree, b'{"model":"moon","n":2}', socket=socket, stream=stream)
        assert second.ref is first.ref
        begin(tree.upstream.calls[1], b"two", stream=stream)
        finish(tree.upstream.calls[1])
        tree.settle()
        assert first.outcome == (200, b"one", "clean")
        assert second.outcome == (200, b"two", "clean")
        assert first.responder.fields["x-request-id"] != second.responder.fields["x-request-id"]
        assert second.responder.fields["x-exai-tenant"] == "default"
        assert sum(tree.board.http_requests.values()) == 2
        assert _answered(tree, socket).ref is first.ref

    def test_it_is_waited_for_shortly(self) -> None:
        tree, socket = ManualTree(), Socket()
        first = _answered(tree, socket)
        tree.advance(0.9)
        assert _answered(tree, socket).ref is first.ref
        tree.advance(0.9)
        assert first.ref.is_alive()
        tree.advance(0.1)
        assert is_over(tree)
        assert _answered(tree, socket).ref is not first.ref

    @pytest.mark.parametrize("difference", ["session", "token", "socket"])
    def test_one_that_needs_another_admission_has_it(self, difference: str) -> None:
        tokens = tuple((f"token-{each}-token-{each}", Identity()) for each in "ab")
        tree, socket = ManualTree(tokens=tokens), Socket()
        first = _answered(tree, socket, token=tokens[0][0])
        second = _answered(
            tree,
            Socket() if difference == "socket" else socket,
            token=tokens[difference == "token"][0],
            session="two" if difference == "session" else "one",
        )
        assert second.ref is not first.ref
        assert second.outcome == (200, b"one", "clean")

    def test_a_wrong_token_gains_nothing_by_the_connection(self) -> None:
        tokens = (("secret-token-secret", Identity()),)
        tree, socket = ManualTree(tokens=tokens), Socket()
        _answered(tree, socket, token="secret-token-secret")
        refused = Exchange(tree, token="guess", socket=socket)
        assert refused.responder.status == 401
        assert len(tree.upstream.calls) == 1

    @pytest.mark.parametrize("committed", [False, True])
    def test_the_signs_of_life_of_a_stream_end_with_it(self, committed: bool) -> None:
        tree, socket = ManualTree(), Socket()
        first = Exchange(tree, socket=socket)
        tree.advance(19.5 if committed else 9.5)
        begin(tree.upstream.calls[0], b"one")
        finish(tree.upstream.calls[0])
        tree.settle()
        assert first.responder.body.count(b": exai") == committed
        second = Exchange(tree, b'{"model":"moon","n":2}', socket=socket)
        third = Exchange(tree, b'{"model":"moon","n":3}', stream=False)
        assert second.ref is first.ref
        tree.advance(9.9)
        assert second.responder.starts == 0
        tree.advance(0.1)
        assert second.outcome == (200, b": exai waiting\n\n", "")
        assert first.responder.ended == "clean"
        assert third.responder.starts == 0

    @pytest.mark.parametrize(
        "end", ["socket", "drain", "token", "operator", "session", "broker", "stop", "failure"]
    )
    def test_nothing_waits_for_it_after_an_end(self, end: str) -> None:
        tree, socket = ManualTree(), Socket()
        first = _answered(tree, socket)
        (session,) = [path for path in tree.system.paths() if path.startswith("/sessions/")]
        match end:
            case "socket":
                socket.close()
            case "drain":
                tree.drain()
                tree.settle()
            case "token":
                first.ref.tell_system(TokenWithdrawn())
            case "operator":
                first.ref.tell(Disconnect())
            case "session":
                tree.actor(session).tell("nonsense")
                tree.settle()
            case "broker":
                first.ref.tell_system(BrokerFailed())
            case "stop":
                first.ref.stop(block=False)
            case "failure":
                first.ref.tell("nonsense")
        # It may come before the end of the other one is known.
        late = Exchange(tree, b'{"model":"moon","n":2}', stream=False, socket=socket)
        assert not first.ref.is_alive()
        assert first.outcome == (200, b"one", "clean")
        if end == "drain":
            assert late.responder.status == 503
            assert tree.drained
        else:
            begin(tree.upstream.calls[1], b"two", stream=False)
            finish(tree.upstream.calls[1])
            tree.settle()
            assert late.outcome == (200, b"two", "clean")
        socket.close()
        assert is_over(tree)

    @pytest.mark.parametrize("failing", ["session", "broker"])
    def test_one_that_comes_during_a_failure_is_served(self, failing: str) -> None:
        tree, socket = ManualTree(), Socket()
        _answered(tree, socket)
        (session,) = [path for path in tree.system.paths() if path.startswith("/sessions/")]
        tree.actor(session if failing == "session" else paths.BROKER).tell("nonsense")
        late = _answered(tree, socket, body=b'{"model":"moon","n":2}')
        assert late.outcome == (200, b"one", "clean")
        socket.close()
        assert is_over(tree)

    def test_old_news_does_not_reach_it(self) -> None:
        tree, socket = ManualTree(), Socket()
        first = _answered(tree, socket)
        first.ref.tell(OutboxHigh())
        second = Exchange(tree, b'{"model":"moon","n":2}', stream=False, socket=socket)
        assert second.ref is not first.ref
        assert not tree.upstream.calls[1].paused

    def test_its_client_may_leave(self) -> None:
        tree, socket = ManualTree(exchange=NO_GRACE), Socket()
        _answered(tree, socket)
        second = Exchange(tree, b'{"model":"moon","n":2}', stream=False, socket=socket)
        second.leave()
        socket.close()
        assert tree.upstream.calls[1].abort_asked
        tree.upstream.calls[1].close(cut_off=False)
        assert is_over(tree)

    def test_its_failure_is_its_own(self) -> None:
        tree, socket = ManualTree(capacity=_once()), Socket()
        first = _answered(tree, socket)
        second = Exchange(tree, b'{"model":"moon","n":2}', stream=False, socket=socket)
        assert second.ref is first.ref
        tree.upstream.calls[1].fail(FailureKind.MALFORMED)
        assert is_over(tree)
        assert (second.responder.status, second.responder.starts) == (502, 1)
        assert _answered(tree, socket).outcome == (200, b"one", "clean")

    def test_what_waits_for_it_keeps_no_body(self) -> None:
        tree, socket = ManualTree(), Socket()
        body = b'{"model":"moon","x":"' + b"x" * 1_000 + b'"}'
        first = _answered(tree, socket, body=body)
        (state,) = tree.overview.connections()
        assert (state.calls, state.protocol) == (0, "chat")
        actor = tree.system.behaviours(HttpExchangeActor)[0]
        assert first.ref is actor.actor_ref
        assert body not in {
            each.body for each in gc.get_referents(actor.__dict__) if isinstance(each, RelayRequest)
        }


def _answered(
    tree: ManualTree,
    socket: Socket,
    *,
    body: bytes = b'{"model":"moon"}',
    session: str = "one",
    token: str | None = None,
) -> Exchange:
    """A request on this connection, with its answer in one piece."""
    asked = Exchange(tree, body, stream=False, socket=socket, session=session, token=token)
    call = tree.upstream.calls[-1]
    begin(call, b"one", stream=False)
    finish(call)
    tree.settle()
    return asked


def _once() -> CapacitySettings:
    """Capacity for one attempt of each request."""
    capacity = CapacitySettings(10, 10)
    return replace(capacity, retry=replace(capacity.retry, attempts=1))
