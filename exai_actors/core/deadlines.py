"""Which requests are out of time.

Nearly every deadline is forgotten long before it is due, so keeping and forgetting one is a single
step; looking for the earliest walks over all of them, which a session does once per timer.
"""

from __future__ import annotations

from exai_actors.ids import RequestKey


class Deadlines:
    """Instants, in seconds of the caller's clock, one for each request."""

    __slots__ = ("_deadlines",)

    def __init__(self) -> None:
        self._deadlines: dict[RequestKey, float] = {}

    def __len__(self) -> int:
        return len(self._deadlines)

    def add(self, request: RequestKey, deadline: float) -> None:
        """Keep a request's deadline in place of an earlier one."""
        self._deadlines[request] = deadline

    def discard(self, request: RequestKey) -> None:
        """Forget a request; harmless when it is not known."""
        self._deadlines.pop(request, None)

    def next(self) -> float | None:
        """The earliest deadline; None when nothing is kept."""
        return min(self._deadlines.values(), default=None)

    def due(self, now: float) -> tuple[RequestKey, ...]:
        """Remove and give all requests whose deadline has passed, the earliest first."""
        passed = sorted(
            (deadline, order, request)
            for order, (request, deadline) in enumerate(self._deadlines.items())
            if deadline <= now
        )
        for _, _, request in passed:
            del self._deadlines[request]
        return tuple(request for _, _, request in passed)
