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
from exai_actors.messages.provider import ProviderMessage, UpstreamEnded
from exai_actors.ports import Upstream, UpstreamCall
from exai_actors.testing.probe import Probe

KEY = "sk-test-0123456789abcdef"


class PieceProbe:
    """Implements ``ports.PieceSink``; keeps the pieces, and if wanted the ``(reasoning)``."""

    def __init__(self, *, wants_reasoning: bool = False) -> None:
        self.pieces: list[str] = []
        self._wants_reasoning = wants_reasoning
        self._read = 0
        self._arrived = asyncio.Event()

    def write(self, text: str, /) -> None:
        assert text
        self.pieces.append(text)
        self._arrived.set()

    def write_reasoning(self, text: str, /) -> bool:
        assert text
        if self._wants_reasoning:
            self.write(f"({text})")
        return self._wants_reasoning

    async def next(self) -> str:
        """The first piece that this has not returned yet."""
        async with asyncio.timeout(10.0):
            while self._read == len(self.pieces):
                self._arrived.clear()
                await self._arrived.wait()
        self._read += 1
        return self.pieces[self._read - 1]


class StartedCall:
    """A call and its messages so far."""

    def __init__(
        self,
        permit: PermitId,
        call: UpstreamCall,
        probe: Probe[ProviderMessage],
        sink: PieceProbe,
    ) -> None:
        self.permit = permit
        self.call = call
        self.probe = probe
        self._sink = sink

    @property
    def pieces(self) -> list[str]:
        return self._sink.pieces

    @property
    def ends(self) -> list[UpstreamResult]:
        return [each.result for each in self.probe.messages if isinstance(each, UpstreamEnded)]

    async def piece(self) -> str:
        """The next chunk's text."""
        return await self._sink.next()

    async def end(self) -> UpstreamResult:
        """The result. Checks that there is one end with the permit, and that no piece follows."""
        ended = await self.probe.expect(UpstreamEnded)
        pieces = len(self._sink.pieces)
        await asyncio.sleep(0)
        assert self.probe.messages == [ended]
        assert ended.permit == self.permit
        assert len(self._sink.pieces) == pieces
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
        wants_reasoning: bool = False,
    ) -> StartedCall:
        permit = PermitId(next(self._permits))
        probe = probe or Probe()
        messages = (ChatMessage("user", prompt),)
        call = ChatCall(model, messages, stream=stream, max_tokens=max_tokens)
        sink = PieceProbe(wants_reasoning=wants_reasoning)
        started = self.upstream.start(permit, call, probe, sink=sink, fresh=fresh, trace=trace)
        return StartedCall(permit, started, probe, sink)


@asynccontextmanager
async def caller_for(base_url: str, **settings: Any) -> AsyncIterator[Caller]:
    upstream = HttpUpstream(
        name="kimi",
        base_url=base_url,
        api_key=KEY,
        settings=HttpSettings(**settings),
    )
    try:
        yield Caller(upstream)
    finally:
        await upstream.aclose()
