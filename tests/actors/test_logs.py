"""What the log says about clients, requests and the capacity of providers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from msgspec.structs import replace

from exai_actors.core.authentication import Identity
from exai_actors.core.calls import FailureKind, LimitHolder
from exai_actors.core.capacity.settings import CapacitySettings, CircuitSettings, RetrySettings
from exai_actors.core.places import PlaceLimits
from exai_actors.core.routing import RouteSettings
from exai_actors.ids import ProviderName, TenantName
from exai_actors.messages.connection import SocketClosed
from exai_actors.testing.tree import ManualTree

Entries = list[dict[str, Any]]
SECRETS = ("secret prompt", "secret answer", "e" * 16)
TOKENS = (("e" * 16, Identity(TenantName("editor"))),)


@pytest.fixture
def entries() -> Iterator[Entries]:
    with structlog.testing.capture_logs() as found:
        yield found  # type: ignore[misc]


@pytest.fixture
def details(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def of(entries: Entries, event: str) -> Entries:
    return [entry for entry in entries if entry["event"] == event]


def only(entries: Entries, event: str) -> dict[str, Any]:
    (entry,) = of(entries, event)
    assert not any(secret in str(entries) for secret in SECRETS)
    return entry


@pytest.mark.usefixtures("details")
def test_each_request_is_logged_with_its_way_times_and_tokens(entries: Entries) -> None:
    tree = ManualTree(tokens=TOKENS)
    client = tree.client("a-very-long-session-name", token="e" * 16)
    client.call("first", "secret prompt")
    client.call("second", "secret prompt", op="tool_call")
    tree.advance(2.0)
    tree.upstream.calls[0].complete("secret answer")
    tree.advance(3.0)
    tree.upstream.calls[1].complete("secret answer")
    tree.settle()
    first, second = of(entries, "request.ended")
    assert first == {
        "event": "request.ended",
        "log_level": "debug",
        "request": "first",
        "session": "a-very-long-...",
        "tenant": "editor",
        "model": "moon",
        "provider": "kimi",
        "outcome": "completed",
        "waited_s": 0.0,
        "took_s": 2.0,
        "tokens": 3,
    }
    assert (second["waited_s"], second["took_s"]) == (2.0, 5.0)
    assert not any(secret in str(entries) for secret in SECRETS)


@pytest.mark.usefixtures("details")
@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (lambda tree, client: tree.advance(1.0), "expired"),
        (lambda tree, client: client.send({"op": "cancel", "request_id": "a"}), "cancelled"),
        (lambda tree, client: client.vanish(), "cancelled"),
        (lambda tree, client: tree.upstream.calls[0].fail(FailureKind.REJECTED), "failed"),
    ],
)
def test_every_end_of_a_request_is_logged(entries: Entries, end: Any, outcome: str) -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a", "secret prompt", deadline_ms=1000)
    end(tree, client)
    tree.settle()
    assert only(entries, "request.ended")["outcome"] == outcome


def test_without_debug_neither_requests_nor_connections_are_logged(entries: Entries) -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("a")
    tree.upstream.calls[0].complete()
    client.vanish()
    assert entries == []


@pytest.mark.usefixtures("details")
def test_each_connection_is_logged(entries: Entries) -> None:
    tree = ManualTree(tokens=TOKENS)
    client = tree.client(token="e" * 16)
    tree.advance(4.0)
    client.event(SocketClosed(1001, "going away"))
    opened, closed = only(entries, "connection.opened"), only(entries, "connection.closed")
    assert (opened["address"], opened["tenant"]) == ("127.0.0.1", "editor")
    assert opened["connection"] == closed["connection"]
    assert (closed["code"], closed["reason"], closed["seconds"]) == (1001, "going away", 4.0)


@pytest.mark.parametrize(
    ("token", "presented"), [("x" * 16, "another token"), (None, "no token"), ("", "no token")]
)
def test_a_rejected_token_is_logged_without_it(
    entries: Entries, token: str | None, presented: str
) -> None:
    tree = ManualTree(tokens=TOKENS)
    client = tree.connect()
    client.send({"op": "hello", "token": token})
    entry = only(entries, "client.rejected")
    assert (entry["log_level"], entry["address"]) == ("info", "127.0.0.1")
    assert (entry["reason"], entry["presented"]) == ("unauthorized", presented)
    assert "x" * 16 not in str(entries)


def test_a_client_without_a_place_is_logged_with_the_reason(entries: Entries) -> None:
    tree = ManualTree(places=PlaceLimits(connections=1))
    tree.client()
    tree.connect().send({"op": "hello"})
    entry = only(entries, "client.rejected")
    assert (entry["reason"], entry["address"]) == ("overloaded", "127.0.0.1")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("twelve-signs", "twelve-signs"),
        ("thirteen-char", "thirteen-cha..."),
    ],
)
def test_only_the_beginning_of_a_sessions_name_is_logged(
    entries: Entries, name: str, shown: str
) -> None:
    tree = ManualTree(tokens=TOKENS)
    client = tree.client(name, token="e" * 16)
    client.call("a")
    tree.upstream.calls[0].fail(FailureKind.REJECTED)
    tree.settle()
    failed = only(entries, "request.failed")
    assert (failed["session"], failed["tenant"]) == (shown, "editor")


def test_strangers_cannot_fill_the_log(entries: Entries) -> None:
    tree = ManualTree(tokens=TOKENS)
    for _ in range(50):
        tree.connect().send({"op": "hello", "token": "guess"})
    assert len(of(entries, "client.rejected")) == 5
    tree.advance(10.0)
    tree.connect().send({"op": "hello", "token": "guess"})
    assert of(entries, "client.rejected")[-1]["suppressed"] == 45


def routed_tree(**more: Any) -> ManualTree:
    routes = (RouteSettings("any", ("kimi/moon", "glm/star"), ("overloaded", "busy")),)
    return ManualTree(routes=routes, **more)


def test_a_fallback_is_logged_with_its_cause(entries: Entries) -> None:
    tree = routed_tree(capacity=CapacitySettings(1, retry=RetrySettings(attempts=1)))
    client = tree.client()
    client.call("a", "secret prompt", arguments={"model": "any"})
    tree.upstream.calls[0].fail(FailureKind.OVERLOADED, "HTTP 503: too many")
    tree.settle()
    entry = only(entries, "request.rerouted")
    assert (entry["left"], entry["next"]) == ("kimi/moon", "glm/star")
    assert "HTTP 503: too many" in entry["cause"]
    assert not of(entries, "request.failed")


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        (FailureKind.UNAUTHORIZED, "provider 'kimi': HTTP 400: secret words"),
        (FailureKind.TIMEOUT, "provider 'kimi': HTTP 400: secret words"),
        (FailureKind.REJECTED, "HTTP 400, rejected"),
        (FailureKind.TOO_LARGE, "HTTP 400, too_large"),
        (FailureKind.MALFORMED, "HTTP 400, malformed"),
    ],
)
def test_a_failed_request_is_logged_without_quoting_the_prompt(
    entries: Entries, kind: FailureKind, cause: str
) -> None:
    tree = ManualTree(capacity=CapacitySettings(1, retry=RetrySettings(attempts=1)))
    tree.client().call("a", "secret prompt")
    tree.upstream.calls[0].fail(kind, "HTTP 400: secret words", status=400)
    tree.settle()
    entry = only(entries, "request.failed")
    assert (entry["log_level"], entry["request"], entry["cause"]) == ("info", "a", cause)
    assert entry["tenant"] == "default"
    assert (entry["model"], entry["provider"], entry["outcome"]) == ("moon", "kimi", "failed")


def test_refusals_and_timeouts_are_logged(entries: Entries) -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("runs")
    client.call("refused", if_busy="refuse")
    client.call("late", deadline_ms=1000, if_busy="wait")
    client.call("unknown", arguments={"model": "gpt"})
    tree.advance(1.0)
    found = {(entry["request"], entry["outcome"]) for entry in of(entries, "request.failed")}
    assert found == {("refused", "refused"), ("late", "expired")}
    assert only(entries, "request.refused")["code"] == "MODEL_NOT_FOUND"


def test_one_session_cannot_fill_the_log(entries: Entries) -> None:
    tree = ManualTree()
    client = tree.client()
    for number in range(50):
        client.call(f"{number}", arguments={"model": "gpt"})
    assert len(of(entries, "request.refused")) == 5


ONE_FAILURE = CapacitySettings(
    1, retry=RetrySettings(attempts=1), circuit=CircuitSettings(failures_in_a_row=1, open_s=5.0)
)


def test_a_hold_is_logged_from_its_start_to_its_end(entries: Entries) -> None:
    tree = ManualTree(capacity=ONE_FAILURE)
    tree.client().call("a")
    tree.upstream.calls[0].fail(FailureKind.QUOTA, "HTTP 429: suspended", retry_after=60.0)
    tree.settle()
    held = only(entries, "provider.held")
    assert (held["provider"], held["model"], held["seconds"]) == ("kimi", "all", 62.5)
    assert (held["log_level"], held["cause"]) == ("warning", "HTTP 429: suspended")
    tree.advance(62.0)
    assert not of(entries, "provider.hold_ended")
    tree.advance(1.0)
    ended = only(entries, "provider.hold_ended")
    assert (ended["log_level"], ended["cause"]) == ("info", "its time is over")


def test_the_hold_of_a_model_names_it(entries: Entries) -> None:
    tree = ManualTree(capacity=ONE_FAILURE)
    tree.client().call("a")
    tree.upstream.calls[0].fail(
        FailureKind.RATE_LIMITED, "slow down", retry_after=5.0, holder=LimitHolder.MODEL
    )
    tree.advance(10.0)
    assert only(entries, "provider.held")["model"] == "moon"
    assert only(entries, "provider.hold_ended")["model"] == "moon"


def test_a_hold_that_a_probe_ends_is_logged(entries: Entries) -> None:
    tree = ManualTree(capacity=replace(ONE_FAILURE, hold_probe_s=10.0))
    client = tree.client()
    client.call("a")
    tree.upstream.calls[0].fail(FailureKind.QUOTA, "suspended", retry_after=600.0)
    client.call("b", if_busy="wait")
    tree.advance(10.0)
    tree.upstream.calls[1].complete()
    tree.settle()
    assert only(entries, "provider.hold_ended")["cause"] == "a probe was answered"


def test_a_circuit_is_logged_from_its_opening_to_its_closing(entries: Entries) -> None:
    tree = ManualTree(capacity=ONE_FAILURE)
    client = tree.client()
    client.call("a")
    tree.upstream.calls[0].fail(FailureKind.SERVER_ERROR, "HTTP 500")
    client.call("b", if_busy="wait")
    opened = only(entries, "provider.circuit_opened")
    assert (opened["seconds"], opened["log_level"]) == (5.0, "warning")
    assert opened["cause"] == "1 calls failed in a row: HTTP 500"
    tree.advance(5.0)
    tree.upstream.calls[1].complete()
    tree.settle()
    assert only(entries, "provider.circuit_closed")["log_level"] == "info"
    assert ProviderName("kimi") == only(entries, "provider.circuit_closed")["provider"]


def test_a_limit_that_adapts_to_refusals_is_logged(entries: Entries) -> None:
    tree = ManualTree(capacity=replace(ONE_FAILURE, limit=4, adaptive=True))
    client = tree.client()
    for name in "abcd":
        client.call(name)
    tree.upstream.calls[0].fail(FailureKind.OVERLOADED, "too many calls")
    tree.settle()
    adapted = only(entries, "provider.limit_adapted")
    assert (adapted["provider"], adapted["log_level"]) == ("kimi", "info")
    assert adapted["change"]
