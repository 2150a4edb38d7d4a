"""Suspending an actor: its user lane rests while its system lane is served.

So a suspended actor still ends, meets its deadlines and learns about the ends of others. Its user
lane stays bounded, and refuses beyond its limit as always.
"""

from __future__ import annotations

from exai_actors.runtime.kernel.cell import RUNNING, SUSPENDED, ActorCell, Wrapper


class Suspension(Wrapper):
    """Suspends or resumes the actor."""

    __slots__ = ("resumes",)

    def __init__(self, *, resumes: bool) -> None:
        self.resumes = resumes

    def message_type(self) -> str:
        return "resume" if self.resumes else "suspend"

    def deliver(self, cell: ActorCell, /) -> None:
        if self.resumes:
            if cell.state == SUSPENDED:
                cell.state = RUNNING
                cell.behaviour.on_resume()
        elif cell.state == RUNNING:
            suspend(cell)


def suspend(cell: ActorCell) -> None:
    """Let the user lane of a running actor rest; in its own turn only."""
    cell.state = SUSPENDED
    cell.behaviour.on_suspend()


class Suspended:
    """The paths at which an actor that starts begins suspended."""

    def __init__(self) -> None:
        self._subtrees: dict[str, bool] = {}
        """For each suspended path, whether the paths below it are suspended with it."""

    def add(self, path: str, *, subtree: bool) -> None:
        """Suspend a path."""
        self._subtrees[path] = subtree or self._subtrees.get(path, False)

    def discard(self, path: str, *, subtree: bool) -> None:
        """Resume a path, with ``subtree`` also all below it."""
        for each in tuple(self._subtrees):
            if covers(path, each, subtree=subtree):
                del self._subtrees[each]

    def __contains__(self, path: str) -> bool:
        return bool(self._subtrees) and any(
            covers(each, path, subtree=subtree) for each, subtree in self._subtrees.items()
        )


def covers(path: str, other: str, *, subtree: bool) -> bool:
    """Whether ``other`` is this path or, with ``subtree``, below it."""
    return other == path or (subtree and other.startswith(path.rstrip("/") + "/"))
