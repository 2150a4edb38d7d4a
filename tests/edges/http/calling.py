"""Calls an upstream as a ProviderActor would, for the tests of upstreams."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from exai_actors.core.calls import ChatCall, ChatMessage, UpstreamFailure, UpstreamResult
from exai_actors.core.trace_context import TraceContext
from exai_actors.edges.http.call import HttpCall
from exai_actors.edges.http.settings import HttpSettings
from exai_actors.edges.http.upstream import HttpUpstream
from exai_actors.ids import PermitId
from exai_actors.messages.provider import ProviderMessage, UpstreamChunk, UpstreamEnded
from exai_actors.ports import Upstream, UpstreamCall
from exai_actors.testing.probe import Probe

KEY = "sk-test-0123456789abcdef"


class StartedCall:
    """A call and its messages so far."""

    def __init__(self, permit: PermitId, call: UpstreamCall, probe: Probe[ProviderMessage]) -> None:
        self.permit = permit
        self.call = call
        self.probe = probe

    @property
    def pieces(self) -> list[str]:
        return [each.text for each in self.probe.messages if isinstance(each, UpstreamChunk)]

    @property
    def ends(self) -> list[UpstreamResult]:
        return [each.result for each in self.probe.messages if isinstance(each, UpstreamEnded)]

    async def piece(self) -> str:
        """The next chunk's text."""
        return (await self.probe.expect(UpstreamChunk)).text

    async def end(self) -> UpstreamResult:
        """The result. Checks that all messages have the permit and that the end is the last."""
        ended = await self.probe.expect_eventually(UpstreamEnded)
        assert self.probe.messages[-1] is ended
        assert {getattr(each, "permit", None) for each in self.probe.messages} == {self.permit}
        return ended.result

    async def failure(self) -> UpstreamFailure:
        """The result, which must be a failure."""
        result = await self.end()
        assert isinstance(result, UpstreamFailure), result
        assert KEY not in result.message
        return result


async def wait_for_response(started: StartedCall) -> None:
    """Give the loop turns until the head of the response has been read."""
    assert isinstance(started.call, HttpCall)
    for _ in range(10_000):
        if started.call.has_response:
            return
        await asyncio.sleep(0)
    raise AssertionError("no response began")


class Caller:
    """Starts calls, each with another permit."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self._permits = itertools.count(1)

    def start(
        self,
        prompt: str = "hi",
        *,
        stream: bool = True,
        model: str = "scripted-model",
        max_tokens: int | None = None,
        fresh: bool = False,
        trace: TraceContext | None = None,
        probe: Probe[ProviderMessage] | None = None,
    ) -> StartedCall:
        permit = PermitId(next(self._permits))
        probe = probe or Probe()
        messages = (ChatMessage("user", prompt),)
        call = ChatCall(model, messages, stream=stream, max_tokens=max_tokens)
        started = self.upstream.start(permit, call, probe, fresh=fresh, trace=trace)
        return StartedCall(permit, started, probe)


@asynccontextmanager
async def caller_for(base_url: str, connections: int = 0, **settings: Any) -> AsyncIterator[Caller]:
    upstream = HttpUpstream(
        name="kimi",
        base_url=base_url,
        api_key=KEY,
        settings=HttpSettings(**settings),
        connections=connections,
    )
    try:
        yield Caller(upstream)
    finally:
        await upstream.aclose()
