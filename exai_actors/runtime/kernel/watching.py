"""Death watch: a Down for each watched incarnation that ends, exactly once.

A notice waits in the watcher's system lane unopened. It becomes a Down on arrival, with the tag of
the latest watch, unless the incarnation is no longer watched.
"""

from __future__ import annotations

from typing import Any

from exai_actors.runtime.kernel.cell import ActorCell, Wrapper
from exai_actors.runtime.kernel.signals import Down, ExitReason


class DownNotice(Wrapper):
    """A watched incarnation has ended."""

    __slots__ = ("reason", "target")

    def __init__(self, target: ActorCell | str, reason: ExitReason) -> None:
        self.target = target
        """The incarnation that ended, or the path at which none was alive."""
        self.reason = reason

    def message_type(self) -> str:
        return Down.__name__

    def deliver(self, cell: ActorCell, /) -> Any:
        target = self.target
        if not cell.watching or target not in cell.watching:
            return
        tag = _forget(cell, target)
        if isinstance(target, str):
            down = Down(target, 0, self.reason, tag)
        else:
            down = Down(target.path, target.incarnation, self.reason, tag)
        cell.receive(down)


def watch(watcher: ActorCell, target: ActorCell | str, tag: object) -> None:
    """Have one Down sent to the watcher when the target ends, or now if it has ended.

    A path stands for a target that was not found. Watching a target again changes only the tag.
    """
    if watcher.watching is None:
        watcher.watching = {}
    watcher.watching[target] = tag
    if isinstance(target, str):
        watcher.offer_system(DownNotice(target, ExitReason.NOT_FOUND))
    elif target.exit_reason is not None:
        watcher.offer_system(DownNotice(target, target.exit_reason))
    else:
        watchers = target.watchers
        if watchers is None:
            # Most actors have one watcher at most, and a set takes 216 bytes.
            target.watchers = watcher
        elif isinstance(watchers, set):
            watchers.add(watcher)
        elif watchers is not watcher:
            target.watchers = {watchers, watcher}


def unwatch_all(watcher: ActorCell) -> None:
    """End all watches of an actor that ends itself."""
    for target in list(watcher.watching or ()):
        _forget(watcher, target)
    watcher.watching = None


def notify_watchers(target: ActorCell, reason: ExitReason) -> None:
    """Send each watcher its notice that the target has ended."""
    watchers, target.watchers = target.watchers, None
    if isinstance(watchers, ActorCell):
        watchers = {watchers}
    for watcher in watchers or ():
        watcher.offer_system(DownNotice(target, reason))


def _forget(watcher: ActorCell, target: ActorCell | str) -> object:
    if not isinstance(target, str):
        if isinstance(target.watchers, set):
            target.watchers.discard(watcher)
        elif target.watchers is watcher:
            target.watchers = None
    return None if watcher.watching is None else watcher.watching.pop(target, None)
