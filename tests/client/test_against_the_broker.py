"""The client with a real broker and a scripted upstream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from exai_actors.client import (
    BrokerClient,
    BrokerError,
    ConnectionLost,
    InvalidArguments,
    ModelNotFound,
    Progress,
    ProviderError,
    RequestCancelled,
    RequestTimeout,
    ToolNotFound,
    Unauthorized,
    connect,
)
from exai_actors.testing.broker import RunningBroker, running_broker
from exai_actors.testing.config import provider_at
from exai_actors.testing.scripted_replies import Gate, answer, failure
from exai_actors.testing.scripted_upstream import ScriptedUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
async def broker(upstream: ScriptedUpstream) -> AsyncIterator[RunningBroker]:
    async with running_broker({"provider": [provider_at(upstream.base_url)]}) as broker:
        yield broker


@pytest.fixture
async def client(broker: RunningBroker) -> AsyncIterator[BrokerClient]:
    async with broker.connect(call_timeout_s=20) as client:
        yield client


async def test_a_call_and_a_stream_give_the_same_answer(
    upstream: ScriptedUpstream, client: BrokerClient
) -> None:
    gate = Gate()
    upstream.then(answer("Hel", "lo"), answer("Hel", gate, "lo"))
    whole = await client.call("chat", prompt="hi")
    stream = client.stream("chat", prompt="hi")
    pieces = []
    async for piece in stream:
        pieces.append(piece)
        gate.open()
    assert pieces == ["Hel", "lo"]
    assert whole.text == stream.result.text == "Hello"
    assert whole.metadata["provider_used"] == "scripted"
    assert whole.metadata["model_used"] == "scripted-model"


async def test_a_continuation_id_continues_the_conversation(
    upstream: ScriptedUpstream, client: BrokerClient
) -> None:
    first = await client.call("chat", prompt="one")
    await client.call("chat", prompt="two", continuation_id=first.continuation_id)
    roles = [message["role"] for message in upstream.requests[1].body["messages"]]
    assert roles == ["user", "assistant", "user"]


async def test_calls_share_one_connection_and_wait_for_the_permit(
    upstream: ScriptedUpstream, client: BrokerClient
) -> None:
    answers = await asyncio.gather(*(client.call("chat", prompt=f"{n}") for n in range(8)))
    assert [result.text for result in answers] == [f"echo: {n}" for n in range(8)]
    assert upstream.max_in_flight == 1


async def test_a_waiting_call_gets_its_position(
    upstream: ScriptedUpstream, client: BrokerClient
) -> None:
    gate = Gate()
    upstream.then(answer(gate, "first"))
    reported: asyncio.Queue[Progress] = asyncio.Queue()
    first = asyncio.create_task(client.call("chat", prompt="one"))
    await gate.reached()
    second = asyncio.create_task(client.call("chat", prompt="two", on_progress=reported.put_nowait))
    while (await reported.get()).position != 1:
        pass
    gate.open()
    assert (await first).text == "first"
    assert (await second).text == "echo: two"


@pytest.mark.parametrize("way", ["break", "task", "id"])
async def test_abandoning_a_call_ends_it_upstream(
    upstream: ScriptedUpstream, broker: RunningBroker, client: BrokerClient, way: str
) -> None:
    gate = Gate()
    upstream.then(answer("one", gate, "two"))
    first_came = asyncio.Event()

    async def read() -> None:
        async for _ in client.stream("chat", prompt="hi", request_id="mine"):
            first_came.set()
            if way == "break":
                break

    reading = asyncio.create_task(read())
    await first_came.wait()
    if way == "break":
        await reading
    elif way == "task":
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    else:
        await client.cancel("mine")
        with pytest.raises(RequestCancelled):
            await reading
    await upstream.wait_for_disconnect()
    assert (await broker.settled()).in_flight == 0
    assert (await client.call("chat", prompt="next")).text == "echo: next"


async def test_errors_have_their_own_types(
    upstream: ScriptedUpstream, client: BrokerClient
) -> None:
    with pytest.raises(ToolNotFound):
        await client.call("no such tool")
    with pytest.raises(InvalidArguments) as invalid:
        await client.call("chat", prompt=3)
    assert invalid.value.field == "prompt"
    with pytest.raises(ModelNotFound) as unknown:
        await client.call("chat", prompt="hi", model="no-such-model")
    assert "scripted-model" in unknown.value.available
    upstream.then(failure(501, "broken"))
    with pytest.raises(ProviderError, match="501"):
        await client.call("chat", prompt="hi")


async def test_the_broker_enforces_a_deadline(
    upstream: ScriptedUpstream, client: BrokerClient
) -> None:
    upstream.then(answer(Gate(), "never"))
    with pytest.raises(RequestTimeout) as raised:
        await client.call("chat", prompt="hi", deadline_ms=100)
    assert not raised.value.by_client
    await upstream.wait_for_disconnect()


async def test_a_repeated_id_gets_the_same_outcome(
    upstream: ScriptedUpstream, broker: RunningBroker, client: BrokerClient
) -> None:
    first = await client.call("chat", prompt="hi", request_id="mine")
    async with broker.connect(session_id=client.session_id) as again:
        assert again.session_id == client.session_id
        repeated = await again.call("chat", prompt="hi", request_id="mine")
        streamed = [piece async for piece in again.stream("chat", prompt="hi", request_id="mine")]
    assert repeated == first
    assert streamed == [first.text]
    assert upstream.started == 1


async def test_a_lost_call_can_be_repeated_in_its_session(
    upstream: ScriptedUpstream, broker: RunningBroker
) -> None:
    upstream.then(answer(Gate(), "never"))
    async with broker.connect() as client:
        calling = asyncio.create_task(client.call("chat", prompt="hi", request_id="mine"))
        await upstream.wait_for_started()
    with pytest.raises(ConnectionLost) as raised:
        await calling
    lost = raised.value
    assert lost.request_ids == ("mine",)
    await upstream.wait_for_disconnect()
    async with broker.connect(session_id=lost.session_id) as again:
        repeated = await again.call("chat", prompt="hi", request_id="mine")
    assert repeated.text == "echo: hi"


async def test_outstanding_calls_fail_when_the_broker_stops(upstream: ScriptedUpstream) -> None:
    upstream.then(answer(Gate(), "never"))
    config = {"provider": [provider_at(upstream.base_url)]}
    async with running_broker(config) as broker, broker.connect() as client:
        calling = asyncio.create_task(client.call("chat", prompt="hi"))
        await upstream.wait_for_started()
        await broker.broker.abandon()
        with pytest.raises((BrokerError, ConnectionLost)):
            await calling


async def test_the_broker_describes_itself(client: BrokerClient) -> None:
    tools = await client.tools()
    assert "chat" in [tool.name for tool in tools]
    assert "prompt" in next(t for t in tools if t.name == "chat").input_schema["properties"]
    assert await client.models() == ("scripted-model",)
    assert (await client.health())["global_inflight"] == 0
    await client.ping()


async def test_a_configured_token_is_required() -> None:
    config = {
        "server": {"token": "a-token-of-the-test"},
        "provider": [provider_at("http://127.0.0.1:1/v1")],
    }
    async with running_broker(config) as broker:
        with pytest.raises(Unauthorized):
            async with connect(broker.url, token="another-token-quite-long"):
                pass
        async with broker.connect() as client:
            await client.ping()


async def test_a_thousand_calls_on_ten_connections_get_their_own_answers(
    upstream: ScriptedUpstream,
) -> None:
    config = {"provider": [provider_at(upstream.base_url, limit=20)]}

    async def hundred(broker: RunningBroker, worker: int) -> None:
        async with broker.connect(call_timeout_s=30) as client:
            for batch in range(20):
                nonces = [f"{worker}-{batch}-{n}" for n in range(5)]
                results = await asyncio.gather(
                    *(client.call("chat", prompt=nonce) for nonce in nonces)
                )
                assert [result.text for result in results] == [f"echo: {n}" for n in nonces]

    async with running_broker(config) as broker:
        await asyncio.gather(*(hundred(broker, worker) for worker in range(10)))
    assert upstream.max_in_flight <= 20
