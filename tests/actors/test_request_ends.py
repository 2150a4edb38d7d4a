"""The end of each request, as the access log, metrics and traces see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from exai_actors.actors.session.actor import SessionActor
from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.authentication import Identity
from exai_actors.core.calls import FailureKind, IfBusy, Usage
from exai_actors.core.capacity.settings import CapacitySettings, RetrySettings
from exai_actors.core.observe.request_ends import RequestEnd
from exai_actors.core.observe.usage import SLICE_S
from exai_actors.core.routing import RouteSettings
from exai_actors.core.trace_context import TraceContext
from exai_actors.ids import ProviderName, TenantName
from exai_actors.messages.session import LimitText
from exai_actors.ports import Peer
from exai_actors.testing.tree import ManualClient, ManualTree

HOUR_S = 3600.0
TOKEN = "e" * 16
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER_PARENT = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-00"


def observed(
    *, routes: tuple[RouteSettings, ...] = (), attempts: int = 1, window: int = 8
) -> tuple[ManualTree, ManualClient, list[RequestEnd]]:
    tree = ManualTree(
        tokens=((TOKEN, Identity(TenantName("ann"))),),
        capacity=CapacitySettings(1, 10, retry=RetrySettings(attempts=attempts)),
        session=SessionSettings(window=window),
        routes=routes,
    )
    ends: list[RequestEnd] = []
    tree.request_board.observers = (ends.append,)
    return tree, tree.client("the-name-of-a-session", token=TOKEN), ends


def test_an_answered_request_shows_where_its_time_and_its_tokens_went() -> None:
    tree, client, ends = observed()
    client.call("first")
    client.call("second", op="tool_call")
    tree.advance(2.0)
    tree.upstream.calls[0].complete("one two")
    tree.advance(3.0)
    tree.upstream.calls[1].complete("one")
    tree.settle()
    first, second = ends
    assert first == RequestEnd(
        request="first",
        session="the-name-of-...",
        tenant="ann",
        provider="kimi",
        model="moon",
        outcome="completed",
        code="",
        waited_s=0.0,
        service_s=2.0,
        attempts=1,
        usage=Usage(1, 2),
    )
    assert (second.request, second.waited_s, second.service_s) == ("second", 2.0, 3.0)


def test_the_wait_in_the_session_counts_too() -> None:
    tree, client, ends = observed(window=1)
    client.call("first")
    client.call("second")
    tree.advance(4.0)
    tree.upstream.calls[0].complete()
    tree.advance(1.0)
    tree.upstream.calls[1].complete()
    tree.settle()
    assert (ends[1].waited_s, ends[1].service_s) == (4.0, 1.0)


@pytest.mark.parametrize(
    ("end", "outcome", "code", "service_s"),
    [
        (lambda tree, client: tree.advance(3.0), "expired", "TIMEOUT", 5.0),
        (
            lambda tree, client: client.send({"op": "cancel", "request_id": "a"}),
            "cancelled",
            "CANCELLED",
            2.0,
        ),
        (lambda tree, client: client.vanish(), "cancelled", "CANCELLED", 2.0),
        (
            lambda tree, client: tree.upstream.calls[0].fail(FailureKind.REJECTED),
            "failed",
            "PROVIDER_ERROR",
            2.0,
        ),
    ],
)
def test_a_request_without_an_answer_shows_its_times_as_well(
    end: Callable[[ManualTree, ManualClient], object], outcome: str, code: str, service_s: float
) -> None:
    tree, client, ends = observed()
    client.call("a", deadline_ms=5000)
    tree.advance(2.0)
    end(tree, client)
    tree.settle()
    (only,) = ends
    assert (only.outcome, only.code, only.attempts) == (outcome, code, 1)
    assert (only.waited_s, only.service_s) == (0.0, service_s)
    assert only.usage is None


def test_a_request_that_never_ran_has_only_waited() -> None:
    tree, client, ends = observed()
    client.call("runs")
    client.call("waits")
    tree.advance(7.0)
    client.send({"op": "cancel", "request_id": "waits"})
    assert (ends[0].waited_s, ends[0].service_s, ends[0].attempts) == (7.0, 0.0, 0)


def test_a_refused_request_is_reported_by_its_session_or_its_provider() -> None:
    tree, client, ends = observed()
    figures = tree.board.call_figures[ProviderName("kimi")]
    client.call("nowhere", arguments={"model": "unknown"})
    client.call("runs")
    client.call("impatient", if_busy=IfBusy.REFUSE.value)
    assert [(each.request, each.outcome, each.code, each.provider) for each in ends] == [
        ("nowhere", "refused", "MODEL_NOT_FOUND", ""),
        ("impatient", "refused", "OVER_CAPACITY", "kimi"),
    ]
    assert sum(tally.requests for tally in tree.request_board.figures.series.values()) == 2
    assert figures.refusals == {"no_waiting": 1}


def test_attempts_at_all_targets_count_and_time_before_the_last_is_waiting() -> None:
    route = RouteSettings("any", ("kimi/moon", "glm/star"), ("server_error",))
    tree, client, ends = observed(routes=(route,))
    client.call("a", arguments={"model": "any"})
    tree.advance(2.0)
    tree.upstream.calls[0].fail(FailureKind.SERVER_ERROR)
    tree.advance(1.0)
    tree.upstreams[ProviderName("glm")].calls[0].complete()
    tree.settle()
    (only,) = ends
    assert (only.provider, only.attempts) == ("glm", 2)
    assert (only.waited_s, only.service_s) == (2.0, 1.0)


def test_every_request_is_counted_once_without_an_observer() -> None:
    tree = ManualTree(limit=2)
    client = tree.client()
    for name in "abc":
        client.call(name)
    tree.upstream.calls[0].complete("one two three")
    tree.upstream.calls[1].fail(FailureKind.REJECTED)
    tree.settle()
    client.vanish()
    counted = {series[3]: tally for series, tally in tree.request_board.figures.series.items()}
    assert {kind: tally.requests for kind, tally in counted.items()} == {
        "completed": 1,
        "failed": 1,
        "cancelled": 1,
    }
    assert (counted["completed"].prompt_tokens, counted["completed"].completion_tokens) == (1, 3)


def test_a_provider_keeps_histograms_of_waits_and_services_and_counts_failures() -> None:
    tree = ManualTree(limit=1)
    client = tree.client()
    client.call("a")
    client.call("b")
    began = tree.clock.now()
    tree.advance(4.0)
    tree.upstream.calls[0].complete(first_piece_at=began + 1.5)
    tree.settle()
    tree.advance(0.2)
    tree.upstream.calls[1].fail(FailureKind.REJECTED)
    tree.settle()
    figures = tree.board.call_figures[ProviderName("kimi")]
    assert (figures.waits.count, figures.waits.total) == (2, 4.0)
    assert (figures.services.count, round(figures.services.total, 6)) == (2, 4.2)
    assert (figures.first_pieces.count, round(figures.first_pieces.total, 6)) == (1, 1.5)
    assert figures.failures == {FailureKind.REJECTED: 1}


@pytest.mark.parametrize(
    ("peer", "frame", "passed_on"),
    [
        (None, {}, None),
        (None, {"traceparent": PARENT, "tracestate": "a=b"}, TraceContext(PARENT, "a=b")),
        (TraceContext(OTHER_PARENT), {}, TraceContext(OTHER_PARENT)),
        (TraceContext(OTHER_PARENT), {"traceparent": PARENT}, TraceContext(PARENT)),
        (TraceContext(OTHER_PARENT), {"traceparent": "nonsense"}, TraceContext(OTHER_PARENT)),
    ],
)
def test_the_trace_of_the_client_reaches_the_service(
    peer: TraceContext | None, frame: dict[str, str], passed_on: TraceContext | None
) -> None:
    tree = ManualTree()
    client = tree.connect(Peer("127.0.0.1", trace=peer))
    client.send({"op": "hello"})
    client.call("a", **frame)
    assert tree.upstream.calls[0].trace == passed_on


def test_a_call_of_json_rpc_has_its_trace_where_mcp_puts_it() -> None:
    tree = ManualTree()
    client = tree.client()
    params = {
        "name": "chat",
        "arguments": {"prompt": "hi"},
        "_meta": {"traceparent": PARENT, "tracestate": "a=b"},
    }
    client.send({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    assert tree.upstream.calls[0].trace == TraceContext(PARENT, "a=b")


def test_a_request_that_is_lost_with_its_session_has_one_end_and_a_returned_one_has_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receive = SessionActor.on_receive

    def failing(self: SessionActor, message: Any) -> Any:
        if isinstance(message, LimitText):
            raise RuntimeError("planted")
        return receive(self, message)

    monkeypatch.setattr(SessionActor, "on_receive", failing)
    tree, client, ends = observed(window=1)
    client.call("at the provider")
    client.call("in the session")
    tree.advance(2.0)
    (path,) = (path for path in tree.system.paths() if path.startswith("/sessions/"))
    tree.actor(path).tell(LimitText(is_short=False))
    tree.settle()
    (lost,) = ends
    assert (lost.request, lost.outcome, lost.code) == (
        "at the provider",
        "failed",
        "INTERNAL_ERROR",
    )
    assert (lost.waited_s, lost.service_s) == (0.0, 2.0)
    tree.upstream.calls[0].close(cut_off=False)
    tree.settle()
    tree.upstream.calls[1].complete()
    tree.settle()
    assert [(each.request, each.outcome) for each in ends[1:]] == [("in the session", "completed")]


def test_tokens_and_usage_are_counted_by_model_tenant_and_slice_of_time() -> None:
    tokens = {name: name * 6 for name in ("ann", "bob")}
    tree = ManualTree(
        models=("moon", "sun"),
        tokens=tuple((token, Identity(TenantName(name))) for name, token in tokens.items()),
    )
    clients = {name: tree.client(f"of {name}", token=token) for name, token in tokens.items()}

    def answered(tenant: str, model: str, text: str) -> None:
        clients[tenant].call(f"r-{len(tree.upstream.calls)}", arguments={"model": model})
        tree.upstream.calls[-1].complete(text)
        tree.settle()

    answered("ann", "moon", "1 2 3")
    answered("ann", "sun", "1 2 3 4")
    answered("bob", "moon", "1")
    tree.advance(HOUR_S + 2 * SLICE_S)
    answered("ann", "sun", "1 2 3 4 5")
    tree.advance(SLICE_S)
    answered("ann", "moon", "1 2")
    completed = {
        series[:3]: (tally.requests, tally.completion_tokens)
        for series, tally in tree.request_board.figures.series.items()
    }
    assert completed == {
        ("ann", "kimi", "moon"): (2, 5),
        ("ann", "kimi", "sun"): (2, 9),
        ("bob", "kimi", "moon"): (1, 1),
    }
    now = tree.system.driver.now()
    assert {
        (user[0], user[2]): (hour.calls, day.calls)
        for user, hour, day in tree.accounts[ProviderName("kimi")].usage.users(now)
    } == {("ann", "moon"): (1, 2), ("ann", "sun"): (1, 2), ("bob", "moon"): (0, 1)}
