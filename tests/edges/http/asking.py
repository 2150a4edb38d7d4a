"""Asking an upstream as a ProviderActor would, for the tests of upstreams."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from exai_actors.core.calls import ChatCall, ChatMessage, UpstreamFailure, UpstreamResult
from exai_actors.edges.http.call import HttpCall
from exai_actors.edges.http.upstream import HttpUpstream
from exai_actors.edges.settings import HttpSettings
from exai_actors.ids import PermitId
from exai_actors.messages.provider import ProviderMessage, UpstreamChunk, UpstreamEnded
from exai_actors.ports import Upstream, UpstreamCall
from exai_actors.testing.probe import Probe

KEY = "sk-test-0123456789abcdef"


class Asked:
    """One call that was started, with what it told so far."""

    def __init__(self, permit: PermitId, call: UpstreamCall, probe: Probe[ProviderMessage]) -> None:
        self.permit = permit
        self.call = call
        self.probe = probe

    @property
    def pieces(self) -> list[str]:
        return [told.text for told in self.probe.messages if isinstance(told, UpstreamChunk)]

    @property
    def ends(self) -> list[UpstreamResult]:
        return [told.result for told in self.probe.messages if isinstance(told, UpstreamEnded)]

    async def piece(self) -> str:
        """The next chunk's text."""
        return (await self.probe.expect(UpstreamChunk)).text

    async def end(self) -> UpstreamResult:
        """The result; everything told bears the permit, and the end is the last of it."""
        ended = await self.probe.expect_eventually(UpstreamEnded)
        assert self.probe.messages[-1] is ended
        assert {getattr(told, "permit", None) for told in self.probe.messages} == {self.permit}
        return ended.result

    async def failure(self) -> UpstreamFailure:
        """The result, which must be a failure."""
        result = await self.end()
        assert isinstance(result, UpstreamFailure), result
        assert KEY not in result.message
        return result


async def response_begun(asked: Asked) -> None:
    """Give the loop turns until the head of the response has been read."""
    assert isinstance(asked.call, HttpCall)
    for _ in range(10_000):
        if asked.call.has_response:
            return
        await asyncio.sleep(0)
    raise AssertionError("no response began")


class Asker:
    """Starts calls with permits of its own."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self._permits = itertools.count(1)

    def ask(
        self,
        prompt: str = "hi",
        *,
        stream: bool = True,
        probe: Probe[ProviderMessage] | None = None,
    ) -> Asked:
        permit = PermitId(next(self._permits))
        probe = probe or Probe()
        call = ChatCall("scripted-model", (ChatMessage("user", prompt),), stream=stream)
        return Asked(permit, self.upstream.start(permit, call, probe), probe)


@asynccontextmanager
async def asker_of(base_url: str, connections: int = 0, **settings: Any) -> AsyncIterator[Asker]:
    upstream = HttpUpstream(
        name="kimi",
        base_url=base_url,
        api_key=KEY,
        settings=HttpSettings(**settings),
        connections=connections,
    )
    try:
        yield Asker(upstream)
    finally:
        await upstream.aclose()
