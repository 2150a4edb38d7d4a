"""The effect of a change on a provider, as its figures predict it."""

from __future__ import annotations

from typing import assert_never

from exai_actors.core.capacity.changes import DrainProvider, Pause, Reopen
from exai_actors.core.operations.action import Effect, Undo, counted
from exai_actors.core.statistics import ProviderStatistics

ModeChange = Pause | DrainProvider | Reopen


def effect_of(change: ModeChange, provider: ProviderStatistics) -> Effect:
    """The effect if the provider makes this change now."""
    in_flight = counted(provider.in_flight, "call in flight", "calls in flight")
    queued = counted(provider.queued, "queued request")
    match change:
        case Pause():
            text = f"{in_flight} continue; {queued} and new ones wait until it is resumed"
        case DrainProvider():
            text = f"{in_flight} and {queued} are finished; new requests are refused"
        case Reopen():
            free = counted(provider.free, "permit")
            text = f"requests are granted again: {queued} wait and {free} are free"
            if provider.held_for_s > 0:
                text += f"; the hold of {provider.held_for_s:.0f} s ends"
        case _:
            assert_never(change)
    return Effect(text, f"{provider.mode}, {in_flight}, {queued}", _undo(change, provider.mode))


def _undo(change: ModeChange, mode: str) -> Undo | None:
    match mode:
        case "paused":
            before = "provider.pause"
        case "draining":
            before = "provider.drain"
        case _:
            before = "provider.resume"
    now = {Pause: "provider.pause", DrainProvider: "provider.drain", Reopen: "provider.resume"}
    return None if now[type(change)] == before else Undo(before)
