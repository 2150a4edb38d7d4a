"""Calls on one connection: matched by id, ended exactly once, cancelled when abandoned."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from exai_actors.client import (
    BrokerClient,
    BrokerError,
    ConnectionLost,
    ConversationNotFound,
    InternalError,
    InvalidArguments,
    ModelNotFound,
    OverCapacity,
    Progress,
    RequestCancelled,
    RequestTimeout,
    ServiceUnavailable,
    ToolNotFound,
    Unauthorized,
    UsageError,
    connect,
)
from tests.client.scripted_peer import ScriptedPeer, scripted_peer


@pytest.fixture
async def peer() -> AsyncIterator[ScriptedPeer]:
    async with scripted_peer() as peer:
        yield peer


@pytest.fixture
async def broker(peer: ScriptedPeer) -> AsyncIterator[BrokerClient]:
    async with connect(peer.url) as broker:
        await peer.receive("hello")
        yield broker


async def test_a_call_sends_its_keywords_and_returns_the_answer(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    calling = asyncio.create_task(broker.call("chat", prompt="hi", model="m", deadline_ms=900))
    frame = await peer.receive("call_tool")
    assert frame["name"] == "chat"
    assert frame["arguments"] == {"prompt": "hi", "model": "m"}
    assert frame["deadline_ms"] == 900
    assert "stream" not in frame
    await peer.answer(frame["request_id"], "hello", continuation_id="c-1")
    result = await calling
    assert (result.text, result.outputs) == ("hello", ("hello",))
    assert result.continuation_id == "c-1"
    assert result.request_id == frame["request_id"]


async def test_a_call_sends_its_trace_and_nothing_else_of_the_carrier(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    for carrier in ({"traceparent": "00-a-b-01", "baggage": "x=1"}, {"tracestate": "a=b"}, {}):
        calling = asyncio.create_task(broker.call("chat", prompt="hi", trace=carrier))
        frame = await peer.receive("call_tool")
        sent = {name: value for name, value in frame.items() if name in (*carrier, "baggage")}
        assert sent == {name: value for name, value in carrier.items() if name != "baggage"}
        assert frame["arguments"] == {"prompt": "hi"}
        await peer.answer(frame["request_id"], "")
        await calling


async def test_a_call_sends_if_busy_and_idempotency_key(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    calling = asyncio.create_task(
        broker.call("chat", prompt="hi", if_busy="refuse", idempotency_key="order 7")
    )
    frame = await peer.receive("call_tool")
    assert (frame["if_busy"], frame["idempotency_key"]) == ("refuse", "order 7")
    assert frame["arguments"] == {"prompt": "hi"}
    await peer.answer(frame["request_id"], "")
    await calling


async def test_an_argument_named_like_an_option_goes_into_the_mapping(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    calling = asyncio.create_task(
        broker.call("report", {"priority": "high", "name": "n"}, title="t", priority=3)
    )
    frame = await peer.receive("call_tool")
    assert frame["arguments"] == {"priority": "high", "name": "n", "title": "t"}
    assert (frame["name"], frame["priority"]) == ("report", 3)
    await peer.answer(frame["request_id"], "")
    await calling


async def test_a_repeated_argument_is_an_error(broker: BrokerClient) -> None:
    with pytest.raises(UsageError, match=r"given both.*title"):
        await broker.call("report", {"title": "a"}, title="b")


async def test_a_call_that_json_cannot_express_is_not_sent(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    for bad in (object(), "\ud800", 1 << 70):
        with pytest.raises(UsageError, match="JSON cannot express the call of 'chat'"):
            await broker.call("chat", prompt=bad)
    peer.expect_silence()


@dataclass
class Settings:
    temperature: float


@pytest.mark.parametrize(
    ("keywords", "reason"),
    [
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": -math.inf}, "temperature is -inf"),
        (
            {"note": None, "options": {"stops": [1.0, (math.inf,)]}},
            r"options.stops\[1\]\[0\] is",
        ),
        ({"settings": Settings(math.nan)}, "settings.temperature is nan"),
        ({"deadline_ms": math.nan}, "deadline_ms is nan"),
        ({"priority": math.nan}, "priority is nan"),
        ({"tags": {"a"}}, "'tags': .*set"),
        ({"image": b"png"}, "'image': .*bytes"),
    ],
)
async def test_an_argument_that_json_cannot_express_is_named(
    peer: ScriptedPeer, broker: BrokerClient, keywords: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=f"JSON cannot express the call of 'chat': {reason}"):
        await broker.call("chat", prompt="null", timeout_s=1, **keywords)
    peer.expect_silence()


async def test_none_and_the_word_null_are_sent(peer: ScriptedPeer, broker: BrokerClient) -> None:
    calling = asyncio.create_task(broker.call("chat", prompt="null", model=None))
    frame = await peer.receive("call_tool")
    assert frame["arguments"] == {"prompt": "null", "model": None}
    await peer.answer(frame["request_id"], "")
    await calling


@pytest.mark.parametrize("request_id", [5, b"five", "\ud800"])
async def test_an_id_that_is_not_text_is_refused(
    peer: ScriptedPeer, broker: BrokerClient, request_id: Any
) -> None:
    calling = asyncio.create_task(broker.call("chat", request_id="good"))
    await peer.receive("call_tool")
    with pytest.raises(UsageError, match="request_id"):
        await broker.call("chat", request_id=request_id, timeout_s=1)
    with pytest.raises(UsageError, match="request_id"):
        await broker.cancel(request_id)
    await peer.answer("good", "one")
    assert (await calling).text == "one"
    peer.expect_silence()


async def test_a_prompt_in_place_of_the_arguments_is_an_error(
    broker: BrokerClient,
) -> None:
    prompt: Any = "Hello"
    with pytest.raises(UsageError, match=r'not str: call\("chat", prompt='):
        await broker.call("chat", prompt, timeout_s=1)


async def test_a_timeout_of_nan_is_refused(peer: ScriptedPeer, broker: BrokerClient) -> None:
    with pytest.raises(UsageError, match="timeout_s is nan"):
        await broker.call("chat", prompt="hi", timeout_s=math.nan)
    peer.expect_silence()


async def test_answers_find_their_calls_in_any_order(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    calls = [asyncio.create_task(broker.call("chat", prompt=str(n))) for n in range(20)]
    frames = [await peer.receive("call_tool") for _ in calls]
    assert len({frame["request_id"] for frame in frames}) == 20
    for frame in reversed(frames):
        await peer.answer(frame["request_id"], "answer " + frame["arguments"]["prompt"])
    assert [result.text for result in await asyncio.gather(*calls)] == [
        f"answer {n}" for n in range(20)
    ]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("OVER_CAPACITY", OverCapacity),
        ("MODEL_NOT_FOUND", ModelNotFound),
        ("TOOL_NOT_FOUND", ToolNotFound),
        ("VALIDATION_ERROR", InvalidArguments),
        ("TIMEOUT", RequestTimeout),
        ("CANCELLED", RequestCancelled),
        ("UNAUTHORIZED", Unauthorized),
        ("SERVICE_UNAVAILABLE", ServiceUnavailable),
        ("NOT_FOUND", ConversationNotFound),
        ("RESEND_PROMPT", InternalError),
    ],
)
async def test_each_code_raises_its_own_error(
    peer: ScriptedPeer, broker: BrokerClient, code: str, kind: type[BrokerError]
) -> None:
    calling = asyncio.create_task(broker.call("chat", prompt="hi"))
    frame = await peer.receive("call_tool")
    await peer.refuse(frame["request_id"], code)
    with pytest.raises(kind, match=code) as raised:
        await calling
    assert type(raised.value) is kind
    assert raised.value.request_id == frame["request_id"]


async def test_errors_have_the_details_to_act_on(peer: ScriptedPeer, broker: BrokerClient) -> None:
    async def refused(code: str, **details: Any) -> BrokerError:
        calling = asyncio.create_task(broker.call("chat"))
        frame = await peer.receive("call_tool")
        await peer.refuse(frame["request_id"], code, **details)
        with pytest.raises(BrokerError) as raised:
            await calling
        return raised.value

    over = await refused("OVER_CAPACITY", retry_after=1.5)
    assert isinstance(over, OverCapacity)
    assert over.retry_after == 1.5
    assert (await refused("DRAINING", retry_after=5)).retry_after == 5.0
    assert (await refused("DRAINING")).retry_after is None
    unknown = await refused("MODEL_NOT_FOUND", available_models=["a", "b"])
    assert isinstance(unknown, ModelNotFound)
    assert unknown.available == ("a", "b")
    invalid = await refused("VALIDATION_ERROR", field="prompt")
    assert isinstance(invalid, InvalidArguments)
    assert invalid.field == "prompt"


async def test_cancelling_the_waiting_task_cancels_the_call(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    calling = asyncio.create_task(broker.call("chat", prompt="hi"))
    frame = await peer.receive("call_tool")
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert (await peer.receive("cancel"))["request_id"] == frame["request_id"]


async def test_late_frames_of_a_cancelled_call_are_ignored(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    calling = asyncio.create_task(broker.call("chat", prompt="hi"))
    gone = (await peer.receive("call_tool"))["request_id"]
    calling.cancel()
    await peer.receive("cancel")
    await peer.chunk(gone, 0, "late")
    await peer.refuse(gone, "CANCELLED")
    second = asyncio.create_task(broker.call("chat", prompt="again"))
    await peer.answer((await peer.receive("call_tool"))["request_id"], "fine")
    assert (await second).text == "fine"


async def test_cancelling_by_id_ends_the_call_with_the_brokers_answer(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    calling = asyncio.create_task(broker.call("chat", request_id="mine"))
    await peer.receive("call_tool")
    await broker.cancel("mine")
    assert (await peer.receive("cancel"))["request_id"] == "mine"
    await peer.refuse("mine", "CANCELLED")
    with pytest.raises(RequestCancelled):
        await calling


async def test_a_call_from_another_loop_is_an_error(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    async def elsewhere(doing: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        with pytest.raises(UsageError, match="another event loop"):
            await asyncio.wait_for(doing(), 1)

    for doing in (lambda: broker.call("chat"), broker.ping, lambda: broker.cancel("id")):
        await asyncio.to_thread(asyncio.run, elsewhere(doing))
    peer.expect_silence()


async def test_a_cancel_that_cannot_be_sent_is_an_error(broker: BrokerClient) -> None:
    await broker.aclose()
    with pytest.raises(ConnectionLost):
        await broker.cancel("long-running")


async def test_a_timed_out_call_is_cancelled_at_the_broker(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    with pytest.raises(RequestTimeout, match=r"within 0\.05 s") as raised:
        await broker.call("chat", timeout_s=0.05)
    assert raised.value.by_client
    sent = await peer.receive("call_tool")
    assert (await peer.receive("cancel"))["request_id"] == sent["request_id"]


async def test_a_lost_connection_fails_and_names_every_outstanding_call(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    calls = [asyncio.create_task(broker.call("chat", request_id=name)) for name in ("a", "b")]
    for _ in calls:
        await peer.receive("call_tool")
    (await peer.socket()).transport.abort()
    for name, calling in zip(("a", "b"), calls, strict=True):
        with pytest.raises(ConnectionLost) as raised:
            await calling
        lost = raised.value
        assert (lost.request_id, lost.request_ids) == (name, ("a", "b"))
        assert (lost.code, lost.session_id) == (1006, "session-1")
    with pytest.raises(ConnectionLost):
        await broker.call("chat")


async def test_the_brokers_close_reason_is_reported(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    calling = asyncio.create_task(broker.call("chat"))
    await peer.receive("call_tool")
    await (await peer.socket()).close(1008, "slow consumer")
    with pytest.raises(ConnectionLost, match="1008 slow consumer"):
        await calling


async def test_closing_the_client_fails_outstanding_calls(peer: ScriptedPeer) -> None:
    async with connect(peer.url) as broker:
        await peer.receive("hello")
        calling = asyncio.create_task(broker.call("chat"))
        await peer.receive("call_tool")
    with pytest.raises(ConnectionLost, match="closed by this client"):
        await calling
    with pytest.raises(ConnectionLost):
        await broker.ping()


@pytest.mark.parametrize("nonsense", ["{", "[]", '{"op": 7}', '{"op":"progress","position":"x"}'])
async def test_an_invalid_frame_ends_the_connection(
    peer: ScriptedPeer, broker: BrokerClient, nonsense: str
) -> None:
    calling = asyncio.create_task(broker.call("chat"))
    await peer.receive("call_tool")
    await peer.send(nonsense)
    with pytest.raises(ConnectionLost, match="not a frame"):
        await calling


async def test_progress_has_position_and_estimate(peer: ScriptedPeer, broker: BrokerClient) -> None:
    reported: asyncio.Queue[Progress] = asyncio.Queue()
    calling = asyncio.create_task(broker.call("chat", on_progress=reported.put_nowait))
    request_id = (await peer.receive("call_tool"))["request_id"]
    await peer.send(
        {"op": "progress", "request_id": request_id, "position": 3, "estimate_s": 1.5, "t": 0.1}
    )
    assert await reported.get() == Progress(request_id, position=3, estimate_s=1.5)
    await peer.answer(request_id, "done")
    await calling


async def test_an_outstanding_id_is_refused(peer: ScriptedPeer, broker: BrokerClient) -> None:
    calling = asyncio.create_task(broker.call("chat", request_id="same"))
    await peer.receive("call_tool")
    with pytest.raises(UsageError, match="'same' is already outstanding"):
        await broker.call("chat", request_id="same")
    await peer.answer("same", "one")
    assert (await calling).text == "one"
    peer.expect_silence()


async def test_calls_above_max_outstanding_are_refused(peer: ScriptedPeer) -> None:
    async with connect(peer.url, max_outstanding=1) as broker:
        await peer.receive("hello")
        calling = asyncio.create_task(broker.call("chat", request_id="first"))
        await peer.receive("call_tool")
        with pytest.raises(UsageError, match="max_outstanding"):
            await broker.call("chat")
        await peer.answer("first", "one")
        assert (await calling).text == "one"


async def test_an_oversized_frame_is_refused(
    peer: ScriptedPeer,
) -> None:
    async with connect(peer.url, max_frame_bytes=1_000) as broker:
        await peer.receive("hello")
        calling = asyncio.create_task(broker.call("chat", request_id="small"))
        await peer.receive("call_tool")
        with pytest.raises(UsageError, match="max_frame_bytes, 1000"):
            await broker.call("chat", prompt="x" * 2_000)
        await peer.answer("small", "fine")
        assert (await calling).text == "fine"


async def test_tools_health_and_ping_are_answered_beside_calls(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    asking = asyncio.create_task(broker.tools())
    request_id = (await peer.receive("list_tools"))["request_id"]
    tool = {"name": "chat", "description": "Talk", "inputSchema": {"type": "object"}}
    await peer.send({"op": "list_tools_res", "request_id": request_id, "tools": [tool]})
    assert [(tool.name, tool.input_schema) for tool in await asking] == [
        ("chat", {"type": "object"})
    ]
    looking = asyncio.create_task(broker.health())
    request_id = (await peer.receive("health"))["request_id"]
    await peer.send({"op": "health_res", "request_id": request_id, "health": {"sessions": 1}})
    assert await looking == {"sessions": 1}
    pinging = asyncio.create_task(broker.ping())
    await peer.send({"op": "pong", "request_id": (await peer.receive("ping"))["request_id"]})
    await pinging


async def test_a_ping_without_answer_times_out(
    peer: ScriptedPeer,
) -> None:
    async with connect(peer.url, reply_timeout_s=0.05) as broker:
        with pytest.raises(RequestTimeout):
            await broker.ping()


async def test_a_broker_that_does_not_read_blocks_no_call(
    peer: ScriptedPeer,
) -> None:
    async with connect(peer.url, max_outstanding=2, close_timeout_s=0.1) as broker:
        await peer.receive("hello")
        (await peer.socket()).transport.pause_reading()
        for _ in range(2):
            with pytest.raises(RequestTimeout):
                await broker.call("chat", prompt="x" * 8_000_000, timeout_s=0.05)
        with pytest.raises(UsageError, match="does not read"):
            await broker.call("chat", prompt="x")


async def test_an_answer_that_arrived_while_the_process_stood_still_is_not_a_timeout(
    peer: ScriptedPeer, broker: BrokerClient
) -> None:
    calling = asyncio.create_task(broker.call("chat", prompt="hi", timeout_s=50))
    frame = await peer.receive("call_tool")
    await peer.answer(frame["request_id"], "fine")
    # In the same turn: the answer has arrived and is unread when the timeout is due.
    loop = asyncio.get_running_loop()
    real = loop.time
    loop.time = lambda: real() + 51  # type: ignore[method-assign]
    assert (await calling).text == "fine"
