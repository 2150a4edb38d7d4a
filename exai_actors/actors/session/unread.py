"""The requests in the mailbox of a suspended session: they expire there without being handled."""

from __future__ import annotations

from exai_actors.core.session.pieces import Waiter
from exai_actors.core.tools.table import LocalRequest
from exai_actors.messages.session_requests import Submit

CHECK_EVERY_S = 0.25
"""How exact the deadlines of these requests are."""


class Unread:
    """Notes since when each waits; ``default_s`` is the time of a request that names none."""

    def __init__(self, default_s: float) -> None:
        self._default_s = default_s
        self._deadlines: dict[Waiter, tuple[float, float]] = {}

    def expired(self, submit: Submit, now: float) -> float | None:
        """The time that this request had if it is over; a request counts from its first look."""
        waiter = submit.connection_id, submit.request
        known = self._deadlines.get(waiter)
        if known is None:
            arguments, allowed_s = submit.arguments, self._default_s
            if not isinstance(arguments, LocalRequest):
                allowed_s = arguments.time_allowed(submit.options, allowed_s)
            self._deadlines[waiter] = now + allowed_s, allowed_s
            return None
        deadline, allowed_s = known
        if now < deadline:
            return None
        del self._deadlines[waiter]
        return allowed_s
