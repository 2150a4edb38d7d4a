"""Coalescing: equal requests that run or wait at the same time share one call."""

from __future__ import annotations

from exai_actors.actors.provider.call import ProviderCall
from exai_actors.core.calls import IfBusy, RelayCall, UpstreamRequest
from exai_actors.messages.provider import RunCall


class Coalescing:
    """The calls that equal requests may join. Unless ``enabled`` there are none: do not ask.

    A stream cannot be joined after its first piece: half a stream is no answer. That counts a
    piece of reasoning only if one of its readers wants them.
    """

    __slots__ = ("_open", "enabled")

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self._open: dict[UpstreamRequest, ProviderCall] = {}

    def __len__(self) -> int:
        return len(self._open)

    def join(self, run: RunCall) -> ProviderCall | None:
        """The equal call that the request has joined; None if there is none to join."""
        if isinstance(run.call, RelayCall):
            return None
        call = self._open.get(run.call)
        if call is None or not call.live:
            return None
        if run.call.stream and (
            call.has_sent or (run.options.stream_reasoning and call.length_so_far)
        ):
            return None
        if run.options.if_busy is IfBusy.REFUSE and call.upstream_call is None:
            # It would wait with the call.
            return None
        call.runs = (*call.runs, run)
        if call.fan is not None and run.pieces is not None:
            call.fan.sinks.append(run.pieces)
        call.deadline = max(call.deadline, run.deadline)
        return call

    def open(self, call: ProviderCall) -> None:
        """Let equal requests join this call, which was not started, from now on; not if its
        response is relayed.
        """
        if isinstance(call.run.call, RelayCall):
            return
        self._open[call.run.call] = call

    def close(self, call: ProviderCall) -> None:
        """Let no request join this call any more."""
        if self._open.get(call.run.call) is call:
            del self._open[call.run.call]
