"""The scripted upstream follows its script and logs its requests."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from exai_actors.errors import UsageError
from exai_actors.testing.scripted_replies import (
    CUT,
    HANG,
    RESET,
    Gate,
    Reasoning,
    Reply,
    answer,
    body,
    failure,
    hang,
    hang_up,
    html,
    socket_bytes,
)
from exai_actors.testing.scripted_upstream import ScriptedUpstream, refusing_base_url
from exai_actors.testing.upstream_log import Fate, SeenRequest
from exai_actors.testing.upstream_thread import upstream_in_thread


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(wait_s=5) as started:
        yield started


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def post(
    http: aiohttp.ClientSession, upstream: ScriptedUpstream, prompt: str = "hi", **extra: object
) -> "aiohttp.client._RequestContextManager":
    asked = {"model": "m", "messages": [{"role": "user", "content": prompt}], **extra}
    return http.post(upstream.base_url + "/chat/completions", json=asked)


async def test_an_unscripted_request_is_echoed(
    upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    async with post(http, upstream, "nonce 17") as response:
        answered = await response.json()
    assert answered["choices"][0]["message"]["content"] == "echo: nonce 17"
    assert answered["choices"][0]["finish_reason"] == "stop"
    assert [seen.prompt for seen in upstream.requests] == ["nonce 17"]


async def test_a_stream_has_one_event_per_piece_then_finish_usage_and_done(
    upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    upstream.then(answer(Reasoning("hm"), "Hel", "lo"))
    async with post(
        http, upstream, stream=True, stream_options={"include_usage": True}
    ) as response:
        text = await response.text()
    events = text.strip().split("\n\n")
    assert response.content_type == "text/event-stream"
    assert len(events) == 7
    assert '"reasoning_content":"hm"' in events[1]
    assert '"content":"Hel"' in events[2]
    assert '"finish_reason":"stop"' in events[4]
    assert '"usage"' in events[5]
    assert events[6] == "data: [DONE]"


async def test_a_gate_reports_arrival_and_waits_until_opened(
    upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    gate = Gate()
    upstream.then(answer("Hel", gate, "lo"))
    async with post(http, upstream, stream=True) as response:
        await gate.reached()
        assert upstream.in_flight == 1
        gate.open()
        text = await response.text()
    assert '"content":"lo"' in text
    await upstream.wait_until_idle()
    assert upstream.completed == 1


async def test_a_disconnected_client_is_logged(
    upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    upstream.then(hang(), answer("Hel", HANG))
    waiting = asyncio.create_task(post(http, upstream).__aenter__())
    await upstream.wait_for_started()
    waiting.cancel()
    await upstream.wait_for_disconnect()
    async with post(http, upstream, stream=True):
        await upstream.wait_for_steps(1, request=2)
    await upstream.wait_for_disconnect(2)
    assert upstream.in_flight == 0


@pytest.mark.parametrize("end", [CUT, RESET])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_reply_can_break_off_half_way(
    upstream: ScriptedUpstream, http: aiohttp.ClientSession, end: object, stream: bool
) -> None:
    upstream.then(answer("Hel", CUT if end is CUT else RESET, "lo"))
    with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
        async with post(http, upstream, stream=stream) as response:
            await response.read()
    await upstream.wait_until_idle()
    assert upstream.requests[0].fate is Fate.BROKEN_OFF


async def test_a_connection_can_be_closed_without_a_byte(
    upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    upstream.then(hang_up())
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await post(http, upstream)


async def test_statuses_pages_and_headers_are_as_scripted(
    upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    upstream.then(
        failure(429, "slow down", code="rate_limit", headers={"Retry-After": "2"}),
        html(),
        body(b"{", b"}", status=202, headers={"X-Told": "yes"}),
        socket_bytes("HTTP/1.1 204 No Content\r\n\r\n"),
    )
    async with post(http, upstream) as response:
        assert response.status == 429
        assert response.headers["Retry-After"] == "2"
        assert (await response.json())["error"]["message"] == "slow down"
    async with post(http, upstream) as response:
        assert response.content_type == "text/html"
    async with post(http, upstream) as response:
        assert (response.status, await response.text()) == (202, "{}")
        assert response.headers["X-Told"] == "yes"
    async with post(http, upstream) as response:
        assert response.status == 204


async def test_the_models_are_listed_and_the_key_is_required(
    http: aiohttp.ClientSession,
) -> None:
    async with ScriptedUpstream(models=("a", "b"), api_key="right") as upstream:
        url = upstream.base_url + "/models"
        async with http.get(url) as response:
            assert response.status == 401
        async with http.get(url, headers={"Authorization": "Bearer right"}) as response:
            assert [model["id"] for model in (await response.json())["data"]] == ["a", "b"]
        async with post(http, upstream) as response:
            assert response.status == 401
        assert upstream.model_requests == 2


async def test_the_log_counts_concurrency_and_reused_connections(
    upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    gate = Gate()
    upstream.then(answer(gate, "a"), answer(gate, "b"))
    both = [asyncio.create_task(post(http, upstream).__aenter__()) for _ in range(2)]
    await upstream.wait_for_started(2)
    gate.open()
    for response in await asyncio.gather(*both):
        await response.read()
    async with post(http, upstream) as response:
        await response.read()
    assert upstream.max_in_flight == 2
    assert upstream.connections == 2


async def test_a_wait_that_times_out_shows_the_log() -> None:
    async with ScriptedUpstream(wait_s=0.01) as upstream:
        with pytest.raises(AssertionError, match="3 started; the upstream saw"):
            await upstream.wait_for_started(3)


async def test_waiting_for_an_unreached_gate_times_out() -> None:
    with pytest.raises(AssertionError, match=r"did not reach this gate within"):
        await Gate().reached(within_s=0.01)


def test_a_wait_for_a_gate_that_times_out_shows_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    async def in_vain(gate: Gate) -> None:
        raise AssertionError("waited in vain")

    monkeypatch.setattr(Gate, "reached", in_vain)
    vain = pytest.raises(AssertionError, match="waited in vain; it saw:\n  nothing")
    with upstream_in_thread() as upstream, vain:
        upstream.reached(Gate())


async def test_an_invalid_reply_is_refused_immediately(upstream: ScriptedUpstream) -> None:
    wrong: Any = "hello"
    with pytest.raises(UsageError, match="'hello' is not a reply"):
        upstream.then(wrong)
    with pytest.raises(UsageError, match="'hello' is not a reply"):
        ScriptedUpstream(default=wrong)
    number: Any = 5
    with pytest.raises(UsageError, match="5 is not a step of a reply"):
        answer("one", number)
    with pytest.raises(UsageError, match="'early' cannot come before the status line"):
        answer(before=["early"])


async def test_a_script_that_fails_fails_the_test(http: aiohttp.ClientSession) -> None:
    def checking(seen: SeenRequest) -> Reply:
        assert seen.prompt == "bye"
        return answer("bye")

    upstream = ScriptedUpstream(checking)
    with pytest.raises(AssertionError, match=r"a script of the upstream failed: .*'bye'"):
        async with upstream, post(http, upstream, "hi") as response:
            assert response.status == 500
    assert "a script failed: AssertionError" in str(upstream)


async def test_a_script_that_returns_no_reply_fails_the_test(http: aiohttp.ClientSession) -> None:
    nothing: Any = lambda seen: None  # noqa: E731
    with pytest.raises(AssertionError, match="a script returned None instead of a reply"):
        async with ScriptedUpstream(nothing) as upstream, post(http, upstream):
            pass


def test_a_failed_script_is_reported_by_the_fixture() -> None:
    failing = pytest.raises(AssertionError, match="a script of the upstream failed")
    with failing, upstream_in_thread() as upstream:
        upstream.upstream.script_failed(ValueError("odd"))


async def test_the_refusing_base_url_refuses_connections(http: aiohttp.ClientSession) -> None:
    with refusing_base_url() as base_url, pytest.raises(aiohttp.ClientConnectorError):
        await http.get(base_url + "/models")


async def test_a_reply_that_was_never_asked_for_fails_the_test() -> None:
    with pytest.raises(AssertionError, match=r"^1 scripted reply was never asked for \(clear_"):
        async with ScriptedUpstream(answer("one")):
            pass
    upstream = ScriptedUpstream(answer("one"), answer("two"))
    upstream.then(answer("three"))
    with pytest.raises(AssertionError, match=r"^3 scripted replies were never asked for"):
        async with upstream:
            pass


async def test_replies_that_were_dropped_on_purpose_are_no_failure() -> None:
    async with ScriptedUpstream(answer("one")) as upstream:
        upstream.clear_scripts()


def test_a_reply_that_was_never_asked_for_fails_on_its_thread_too() -> None:
    with (
        pytest.raises(AssertionError, match="1 scripted reply was never asked for"),
        upstream_in_thread(answer("one")),
    ):
        pass
    with upstream_in_thread(answer("one")) as upstream:
        upstream.clear_scripts()


async def test_an_error_of_the_test_is_not_hidden_by_a_reply_that_was_left() -> None:
    with pytest.raises(ValueError, match="mine"):
        async with ScriptedUpstream(answer("one")):
            raise ValueError("mine")
