"""llmock injects faults as real providers have them, sees every attempt, and judges its client.

Its client is the broker together with a user who acts on what the broker tells: waits as long as
told, tries again what can succeed, and leaves the rest. The verdict must hold nothing at all, not
even a warning.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from exai_actors.core.calls import FailureKind
from tests.real.conftest import StartBroker
from tests.real.frame_client import Answer, FrameClient, session

# What never succeeds by being sent again; the broker says which of these it was.
HOPELESS = frozenset(
    {
        FailureKind.UNAUTHORIZED,
        FailureKind.NOT_FOUND,
        FailureKind.QUOTA,
        FailureKind.REJECTED,
        FailureKind.TOO_LARGE,
    }
)
PATIENCE = 6
# So long that a client which leaves at a broken chunk is gone before llmock has sent it all:
# llmock takes a stream it sent to the end for one that was read to the end.
LONG_REPLY = " ".join(f"word{number}" for number in range(60))
FIRST_BACKOFF_S = 0.1


class Llmock:
    """Scripts llmock's faults and reads what it saw, over its own HTTP interface."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.http = http

    async def _ask(self, method: str, path: str, body: object = None) -> Any:
        async with self.http.request(method, f"{self.url}/_llmock/{path}", json=body) as response:
            answer = await response.json()
            assert response.status < 300, answer
            return answer

    async def reset(self) -> None:
        await self._ask("POST", "reset")

    async def will(self, *behaviors: dict[str, object]) -> None:
        """Queue faults; each is used up by one upstream call unless it says ``times``."""
        await self._ask("POST", "scenario", {"behaviors": behaviors})

    async def statuses(self) -> list[int]:
        """The HTTP status of every attempt it saw, in order."""
        return [seen["status"] for seen in (await self._ask("GET", "requests"))["requests"]]

    async def findings(self) -> list[str]:
        """What its verdict finds, errors and warnings alike."""
        verdict = await self._ask("GET", "verdict")
        return [f"{found['code']}: {found['title']}" for found in verdict["findings"]]


@pytest.fixture
async def llmock(llmock_server: str) -> AsyncIterator[Llmock]:
    async with aiohttp.ClientSession() as http:
        llmock = Llmock(llmock_server, http)
        await llmock.reset()
        yield llmock


@pytest.fixture(scope="module")
def broker(llmock_server: str, start_broker: StartBroker) -> str:
    return start_broker(
        f'[[provider]]\nname = "mock"\nkind = "openai"\nbase_url = "{llmock_server}/v1"\n'
        'models = ["gpt-4o"]\nlimit = 4\n'
    )


async def ask_as_told(client: FrameClient, prompt: str, *, stream: bool) -> list[Answer]:
    """Ask until there is an answer or no hope; all answers in order, the last one final."""
    answers: list[Answer] = []
    for attempt in range(PATIENCE):
        answer = await client.chat(prompt=prompt, stream=stream)
        answers.append(answer)
        if "error" not in answer.result or answer.error["details"]["kind"] in HOPELESS:
            break
        # A real wait: how long the client waits is what is being judged.
        await asyncio.sleep(
            answer.error["details"].get("retry_after", FIRST_BACKOFF_S * 2**attempt)
        )
    return answers


STREAM_FAULTS = {
    "cut off before any text": {"kind": "truncate", "after_chunks": 1},
    "cut off after some text": {"kind": "truncate", "after_chunks": 4},
    "disconnected before any text": {"kind": "disconnect", "after_chunks": 0},
    "disconnected after some text": {"kind": "disconnect", "after_chunks": 4},
    "malformed at once": {"kind": "malformed", "after_chunks": 0},
    "malformed after some text": {"kind": "malformed", "after_chunks": 4},
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_answer_without_faults_passes(broker: str, llmock: Llmock, stream: bool) -> None:
    await llmock.will({"type": "reply", "text": "one two three four five"})
    async with session(broker) as client:
        (answer,) = await ask_as_told(client, "no faults", stream=stream)
    assert answer.text == "one two three four five"
    assert await llmock.statuses() == [200]
    assert await llmock.findings() == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_client_told_when_to_come_back_is_told_the_truth(
    broker: str, llmock: Llmock, stream: bool
) -> None:
    await llmock.will({"type": "fail", "status": 429, "retry_after": 1})
    async with session(broker) as client:
        answers = await ask_as_told(client, "rate limited", stream=stream)
    assert answers[-1].text
    assert await llmock.statuses() == [429, 200]
    assert await llmock.findings() == []


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, 529])
async def test_what_may_succeed_later_is_tried_again(
    broker: str, llmock: Llmock, status: int
) -> None:
    # Only once: of two tries again, which jitter may space alike, the judge wants growing pauses.
    await llmock.will({"type": "fail", "status": status})
    async with session(broker) as client:
        answers = await ask_as_told(client, f"passing trouble {status}", stream=True)
    assert answers[-1].text
    assert await llmock.statuses() == [status, 200]
    assert await llmock.findings() == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_what_never_succeeds_is_tried_exactly_once(
    broker: str, llmock: Llmock, status: int
) -> None:
    await llmock.will({"type": "fail", "status": status, "times": 2})
    async with session(broker) as client:
        (answer,) = await ask_as_told(client, f"hopeless {status}", stream=False)
    assert answer.error["details"]["status"] == status
    assert await llmock.statuses() == [status]
    assert await llmock.findings() == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", STREAM_FAULTS)
async def test_a_broken_stream_is_a_failure_and_never_a_short_answer(
    broker: str, llmock: Llmock, fault: str, stream: bool
) -> None:
    await llmock.will(
        # A call that is not streamed may be fetched whole, where such a fault cannot happen.
        {"type": "stream_fault", **STREAM_FAULTS[fault]},
        {"type": "reply", "text": LONG_REPLY, "times": PATIENCE},
    )
    async with session(broker) as client:
        answers = await ask_as_told(client, fault, stream=stream)
    completed = [answer for answer in answers if "error" not in answer.result]
    assert [answer.text for answer in completed] == [LONG_REPLY]
    if stream:
        assert len(answers) == 2
        assert "".join(answers[-1].pieces) == LONG_REPLY
    assert await llmock.findings() == []


async def test_a_stalled_stream_is_left_when_the_deadline_has_come(
    broker: str, llmock: Llmock
) -> None:
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
    # Only requests that have ended are listed, so this one's connection is closed.
    assert await llmock.statuses() == [200]
    assert await llmock.findings() == []


async def test_its_own_strict_report_passes_after_a_day_of_all_that(
    broker: str,
    llmock: Llmock,
    llmock_command: list[str | Path],
    llmock_environment: dict[str, str],
) -> None:
    await llmock.will(
        {"type": "fail", "status": 429, "retry_after": 1, "times": 2},
        {"type": "fail", "status": 503},
        *({"type": "stream_fault", **fault} for fault in STREAM_FAULTS.values()),
        {"type": "reply", "text": LONG_REPLY, "times": None},
    )

    async def one_user(number: int) -> Answer:
        async with session(broker) as client:
            return (await ask_as_told(client, f"user {number}", stream=True))[-1]

    answers = await asyncio.gather(*(one_user(number) for number in range(12)))
    assert {answer.text for answer in answers} == {LONG_REPLY}

    report = [*llmock_command, "report", "--strict", "--url", llmock.url]
    process = await asyncio.create_subprocess_exec(
        *map(str, report), env=llmock_environment, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def test_its_judge_does_notice_a_client_that_comes_back_too_early(llmock: Llmock) -> None:
    await llmock.will({"type": "fail", "status": 429, "retry_after": 5})
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "impatient"}]}
    for expected in (429, 200):
        async with llmock.http.post(f"{llmock.url}/v1/chat/completions", json=body) as response:
            await response.read()
            assert response.status == expected
    (finding,) = await llmock.findings()
    assert finding.startswith("retry_after_ignored")
