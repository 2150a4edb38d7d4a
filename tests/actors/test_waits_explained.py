"""What clients learn about a wait: the limit, its figure and its end, in each place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from exai_actors.actors.session.settings import SessionSettings
from exai_actors.core.authentication import Identity
from exai_actors.core.calls import FailureKind, LimitHolder
from exai_actors.core.capacity.changes import Pause
from exai_actors.core.capacity.settings import (
    CapacitySettings,
    CircuitSettings,
    GateSettings,
    RetrySettings,
)
from exai_actors.ids import TenantName
from exai_actors.testing.tree import ManualClient, ManualTree

CAPACITY = CapacitySettings(
    1, retry=RetrySettings(attempts=1), circuit=CircuitSettings(failures_in_a_row=1, open_s=5.0)
)


def hold_permit(tree: ManualTree) -> None:
    tree.client().call("holder")


def fill_gates(tree: ManualTree) -> None:
    hold_permit(tree)
    tree.upstream.calls[0].complete()


def fail(tree: ManualTree, kind: FailureKind, **more: Any) -> None:
    hold_permit(tree)
    tree.upstream.calls[0].fail(kind, "HTTP 429: account is suspended", **more)


def suspend(tree: ManualTree) -> None:
    fail(tree, FailureKind.QUOTA, retry_after=60.0)


def limit_model(tree: ManualTree) -> None:
    fail(tree, FailureKind.RATE_LIMITED, retry_after=60.0, holder=LimitHolder.MODEL)


def open_circuit(tree: ManualTree) -> None:
    fail(tree, FailureKind.SERVER_ERROR)


def pause(tree: ManualTree) -> None:
    tree.change(Pause())


def gated(**gates: int) -> CapacitySettings:
    return replace(CAPACITY, gates=GateSettings(**gates))


CASES = [
    (hold_permit, CAPACITY, {"code": "permit", "limit": 1, "used": 1}, "1 of 1 calls in flight"),
    (
        fill_gates,
        gated(requests_per_minute=1),
        {"code": "requests_per_minute", "limit": 1, "used": 1, "ends_in_s": 60.0},
        "1 of 1 requests this minute used, next in ",
    ),
    (
        fill_gates,
        gated(requests_per_day=1),
        {"code": "requests_per_day", "limit": 1, "used": 1, "ends_in_s": 86_400.0},
        "1 of 1 requests this day used, next in 86,4",
    ),
    (
        fill_gates,
        gated(tokens_per_minute=2),
        {"code": "tokens_per_minute", "limit": 2, "used": 2, "ends_in_s": 60.0},
        "2 of 2 tokens this minute used, next in ",
    ),
    (
        fill_gates,
        gated(tokens_per_day=2, requests_per_minute=1),
        {"code": "tokens_per_day", "limit": 2, "used": 2, "ends_in_s": 86_400.0},
        "2 of 2 tokens this day used, next in 86,4",
    ),
    (
        suspend,
        CAPACITY,
        {"code": "hold", "kind": "quota", "cause": "HTTP 429: account is suspended"},
        "account refused for quota, trying again in 63 s (HTTP 429: account is suspended)",
    ),
    (
        limit_model,
        CAPACITY,
        {"code": "hold", "model": "moon", "kind": "rate_limited"},
        "model moon refused for its rate limit, trying again in 63 s",
    ),
    (
        open_circuit,
        CAPACITY,
        {"code": "circuit", "ends_in_s": 5.0},
        "failed too often (1 calls failed in a row: HTTP 429: account is suspended), next try in",
    ),
    (pause, CAPACITY, {"code": "paused"}, "paused by its operator"),
]


def last(frames: list[dict[str, Any]], op: str = "progress") -> dict[str, Any]:
    return [frame for frame in frames if frame["op"] == op][-1]


def is_part(part: dict[str, Any], whole: dict[str, Any]) -> bool:
    return all(
        whole[key] == (pytest.approx(value, abs=0.5) if key == "ends_in_s" else value)
        for key, value in part.items()
    )


@pytest.mark.parametrize(("block", "capacity", "facts", "text"), CASES)
def test_progress_names_the_limit_its_figure_and_its_end(
    block: Callable[[ManualTree], None],
    capacity: CapacitySettings,
    facts: dict[str, Any],
    text: str,
) -> None:
    tree = ManualTree(capacity=capacity)
    block(tree)
    tree.settle()
    client = tree.client()
    client.call("waits", if_busy="wait")
    tree.advance(0.25)
    progress = last(client.received())
    assert progress["position"] == 1
    assert is_part({"provider": "kimi", **facts}, progress["waits_for"])
    assert progress["waits_for"]["text"].startswith(f"kimi: {text}")


@pytest.mark.parametrize(("block", "capacity", "facts", "text"), CASES)
def test_a_refusal_names_it_too(
    block: Callable[[ManualTree], None],
    capacity: CapacitySettings,
    facts: dict[str, Any],
    text: str,
) -> None:
    tree = ManualTree(capacity=capacity)
    block(tree)
    tree.settle()
    (answer,) = tree.client().call("refused", if_busy="refuse")
    assert text in answer["error"]["message"]
    assert is_part(facts, answer["error"]["details"]["waits_for"])


@pytest.mark.parametrize(("block", "capacity", "facts", "text"), CASES)
@pytest.mark.parametrize("op", ["call_tool", "tool_call"])
def test_a_timeout_names_what_the_request_still_waited_for(
    op: str,
    block: Callable[[ManualTree], None],
    capacity: CapacitySettings,
    facts: dict[str, Any],
    text: str,
) -> None:
    tree = ManualTree(capacity=capacity)
    block(tree)
    tree.settle()
    client = tree.client()
    client.call("late", op=op, if_busy="wait", deadline_ms=500)
    tree.advance(0.5)
    error = last(client.received(), "call_tool_res")["error"]
    assert error["code"] == "TIMEOUT"
    start = "no answer within 0.5 s; it was still waiting at position 1 (kimi: "
    assert error["message"].startswith(start + text[:20])
    assert error["details"]["waits_for"]["code"] == facts["code"]


def test_a_timeout_of_a_running_call_says_so() -> None:
    tree = ManualTree()
    client = tree.client()
    client.call("slow", deadline_ms=500)
    tree.advance(0.5)
    error = last(client.received(), "call_tool_res")["error"]
    assert error["message"] == "no answer within 0.5 s; provider 'kimi' was still working on it"


def waits_in_session(window: int) -> tuple[ManualTree, ManualClient, dict[str, str]]:
    """A session whose next request waits, if it belongs to the conversation or the window is 1."""
    tree = ManualTree(limit=4, session=SessionSettings(window=window))
    client = tree.client()
    client.call("begin")
    tree.upstream.calls[0].complete()
    answer = last(client.received(), "call_tool_res")
    talk = {"continuation_id": answer["continuation_id"]}
    client.call("first", arguments=talk)
    return tree, client, talk


@pytest.mark.parametrize(
    ("window", "code", "text"),
    [
        (1, "session_window", "this session: 1 of 1 requests with providers"),
        (
            8,
            "conversation",
            "this session: an earlier request of this conversation is not answered yet",
        ),
    ],
)
def test_a_wait_in_the_session_is_explained_in_each_place(
    window: int, code: str, text: str
) -> None:
    _, client, talk = waits_in_session(window)
    arguments = talk if code == "conversation" else {}
    accepted = last(client.call("second", arguments=arguments))
    assert accepted["note"].startswith("accepted")
    assert (accepted["waits_for"]["code"], accepted["waits_for"]["text"]) == (code, text)
    (refused,) = client.call("third", arguments=arguments, if_busy="refuse")
    assert text.removeprefix("this session: ") in refused["error"]["message"]
    assert refused["error"]["details"]["waits_for"]["code"] == code


def test_a_timeout_in_the_session_is_explained() -> None:
    tree, client, _ = waits_in_session(1)
    client.call("second", deadline_ms=1000)
    tree.advance(1.0)
    error = last(client.received(), "call_tool_res")["error"]
    assert error["message"].endswith(
        "it was still waiting (this session: 1 of 1 requests with providers)"
    )


def test_a_reason_ends_with_the_wait() -> None:
    tree, client, _ = waits_in_session(1)
    client.call("second")
    tree.upstream.calls[1].complete()
    client.received()
    tree.advance(8.0)
    assert "waits_for" not in last(client.received())


def test_the_time_left_shrinks_from_one_heartbeat_to_the_next() -> None:
    tree = ManualTree(capacity=CAPACITY)
    suspend(tree)
    client = tree.client()
    client.call("waits", if_busy="wait")
    tree.advance(0.25)
    first = last(client.received())["waits_for"]["ends_in_s"]
    tree.advance(8.0)
    assert last(client.received())["waits_for"]["ends_in_s"] == pytest.approx(first - 8.0, abs=0.3)


def test_a_tenant_with_its_share_waits_for_others() -> None:
    tokens = tuple((name * 16, Identity(TenantName(name))) for name in "ab")
    tree = ManualTree(limit=2, tokens=tokens)
    greedy = tree.client(token="a" * 16)
    for name in ("1", "2", "3"):
        greedy.call(name)
    other = tree.client(token="b" * 16)
    other.call("4")
    tree.advance(0.25)
    assert last(greedy.received())["waits_for"]["code"] == "tenant_share"
    assert last(other.received())["waits_for"]["code"] == "permit"


def test_a_small_request_behind_a_large_one_waits_its_turn() -> None:
    capacity = CapacitySettings(3, gates=GateSettings(tokens_per_minute=4000))
    tree = ManualTree(capacity=capacity)
    client = tree.client()
    client.call("first", "x" * 8000, arguments={"max_tokens": 1500})
    client.call("large", "x" * 8000, arguments={"max_tokens": 1500}, if_busy="wait")
    client.call("small", "x", arguments={"max_tokens": 1}, if_busy="wait")
    tree.advance(0.25)
    codes = {
        frame["request_id"]: frame["waits_for"]["code"]
        for frame in client.received()
        if frame["op"] == "progress" and "waits_for" in frame
    }
    assert codes == {"large": "tokens_per_minute", "small": "turn"}


def test_json_rpc_clients_get_the_reason_too() -> None:
    tree = ManualTree(capacity=CAPACITY)
    hold_permit(tree)
    client = tree.client()
    params = {"name": "chat", "arguments": {"prompt": "x"}, "_meta": {"progressToken": "p"}}
    client.send({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    tree.advance(0.25)
    told = client.received()[-1]["params"]
    assert told["_meta"]["waits_for"]["code"] == "permit"
    assert told["message"] == "queued at position 1; kimi: 1 of 1 calls in flight"
