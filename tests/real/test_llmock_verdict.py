"""llmock injects realistic faults, records every attempt and judges its client.

The client is the broker with a user that acts on its errors: waits for ``retry_after``,
retries temporary failures and gives up on others. The verdict must be empty, even of warnings.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from exai_actors.core.calls import FailureKind
from tests.real.conftest import StartBroker
from tests.real.frame_client import Answer, FrameClient, session
from tests.real.llmock import (
    FIRST_BACKOFF_S,
    LONG_REPLY,
    MIXED_FAULTS,
    PATIENCE,
    STREAM_FAULTS,
    Llmock,
)

# Failures that no retry can cure, as the broker reports them.
PERMANENT = frozenset(
    {
        FailureKind.UNAUTHORIZED,
        FailureKind.NOT_FOUND,
        FailureKind.QUOTA,
        FailureKind.REJECTED,
        FailureKind.TOO_LARGE,
    }
)


@pytest.fixture(scope="module")
def broker(llmock_server: str, start_broker: StartBroker) -> str:
    return start_broker(
        f'[[provider]]\nname = "mock"\nkind = "openai"\nbase_url = "{llmock_server}/v1"\n'
        'models = ["gpt-4o"]\nlimit = 4\n'
    )


async def call_with_retries(client: FrameClient, prompt: str, *, stream: bool) -> list[Answer]:
    """Call until success or a permanent failure; returns all answers in order."""
    answers: list[Answer] = []
    for attempt in range(PATIENCE):
        answer = await client.chat(prompt=prompt, stream=stream)
        answers.append(answer)
        if "error" not in answer.result or answer.error["details"]["kind"] in PERMANENT:
            break
        # A real wait, since llmock judges its length.
        await asyncio.sleep(
            answer.error["details"].get("retry_after", FIRST_BACKOFF_S * 2**attempt)
        )
    return answers


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_answer_without_faults_passes(broker: str, llmock: Llmock, stream: bool) -> None:
    await llmock.will({"type": "reply", "text": "one two three four five"})
    async with session(broker) as client:
        (answer,) = await call_with_retries(client, "no faults", stream=stream)
    assert answer.text == "one two three four five"
    assert await llmock.statuses() == [200]
    assert await llmock.findings() == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_retry_after_is_long_enough(broker: str, llmock: Llmock, stream: bool) -> None:
    await llmock.will({"type": "fail", "status": 429, "retry_after": 1})
    async with session(broker) as client:
        answers = await call_with_retries(client, "rate limited", stream=stream)
    assert answers[-1].text
    assert await llmock.statuses() == [429, 200]
    assert await llmock.findings() == []


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, 529])
async def test_a_temporary_failure_is_retried(broker: str, llmock: Llmock, status: int) -> None:
    # Only once: the verdict wants growing pauses, but jitter may space two retries equally.
    await llmock.will({"type": "fail", "status": status})
    async with session(broker) as client:
        answers = await call_with_retries(client, f"passing trouble {status}", stream=True)
    assert answers[-1].text
    assert await llmock.statuses() == [status, 200]
    assert await llmock.findings() == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_a_permanent_failure_is_not_retried(broker: str, llmock: Llmock, status: int) -> None:
    await llmock.will({"type": "fail", "status": status, "times": 2})
    async with session(broker) as client:
        (answer,) = await call_with_retries(client, f"hopeless {status}", stream=False)
    assert answer.error["details"]["status"] == status
    assert await llmock.statuses() == [status]
    assert await llmock.findings() == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", STREAM_FAULTS)
async def test_a_broken_stream_is_a_failure(
    broker: str, llmock: Llmock, fault: str, stream: bool
) -> None:
    await llmock.will(
        # The broker may fetch a plain call as one response, where this fault cannot happen.
        {"type": "stream_fault", **STREAM_FAULTS[fault]},
        {"type": "reply", "text": LONG_REPLY, "times": PATIENCE},
    )
    async with session(broker) as client:
        answers = await call_with_retries(client, fault, stream=stream)
    completed = [answer for answer in answers if "error" not in answer.result]
    assert [answer.text for answer in completed] == [LONG_REPLY]
    if stream:
        assert len(answers) == 2
        assert "".join(answers[-1].pieces) == LONG_REPLY
    assert await llmock.findings() == []


async def test_a_stalled_stream_is_aborted_at_the_deadline(broker: str, llmock: Llmock) -> None:
    await llmock.will(
        {"type": "stream_fault", "kind": "stall", "stall_seconds": 20, "after_chunks": 3}
    )
    async with session(broker) as client:
        await client.send(
            {
                "op": "call_tool",
                "request_id": "stalled",
                "name": "chat",
                "arguments": {"prompt": "stall"},
                "stream": True,
                "deadline_ms": 1500,
            }
        )
        ended = await client.until(op="call_tool_res", request_id="stalled")
    assert ended["error"]["code"] == "TIMEOUT"
    # llmock lists only ended requests, so the connection of this one is closed.
    assert await llmock.statuses() == [200]
    assert await llmock.findings() == []


async def test_the_strict_report_passes_after_mixed_faults(
    broker: str,
    llmock: Llmock,
    llmock_command: list[str | Path],
    llmock_environment: dict[str, str],
) -> None:
    await llmock.will(*MIXED_FAULTS, {"type": "reply", "text": LONG_REPLY, "times": None})

    async def one_user(number: int) -> Answer:
        async with session(broker) as client:
            return (await call_with_retries(client, f"user {number}", stream=True))[-1]

    answers = await asyncio.gather(*(one_user(number) for number in range(12)))
    assert {answer.text for answer in answers} == {LONG_REPLY}

    await llmock.report_strictly(llmock_command, llmock_environment)


async def test_the_verdict_notices_a_client_that_retries_too_early(llmock: Llmock) -> None:
    await llmock.will({"type": "fail", "status": 429, "retry_after": 5})
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "impatient"}]}
    for expected in (429, 200):
        async with llmock.http.post(f"{llmock.url}/v1/chat/completions", json=body) as response:
            await response.read()
            assert response.status == expected
    (finding,) = await llmock.findings()
    assert finding.startswith("retry_after_ignored")
