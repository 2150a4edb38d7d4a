"""A hold: no calls until an instant that the service named, except for a probe now and then.

A service may name a wrong instant, and one far away would close an account until the broker is
restarted. So a single call may pass from time to time: if it is answered, the hold is over.
"""

from __future__ import annotations

from exai_actors.core.calls import LimitScope, UpstreamFailure

WINDOW_PROBES = 4
"""How much rarer than others are the probes of a hold that lasts until a plan's window ends."""


class Hold:
    """A hold on ``model``, or on the whole account if that is None.

    ``until`` is when it ends (in the past: there is none), ``because`` the reason in the words of a
    route, ``words`` those of the service. ``refusals_in_a_row`` counts the refusals since the last
    answer; those of calls that were in flight together count once.
    """

    __slots__ = (
        "_began",
        "_probe_at",
        "_probing",
        "_refused_at",
        "because",
        "model",
        "probe_every_s",
        "refusals_in_a_row",
        "until",
        "words",
    )

    def __init__(self, model: str | None = None) -> None:
        self.model = model
        self.until = 0.0
        self.because = ""
        self.words = ""
        self.probe_every_s = 0.0
        self.refusals_in_a_row = 0
        self._began = 0.0
        self._probe_at = 0.0
        self._probing = False
        self._refused_at = -1.0

    @property
    def subject(self) -> str:
        """The held model, in words; empty for the account."""
        return "" if self.model is None else f"model {self.model}"

    def is_active(self, now: float) -> bool:
        return self.until > now

    def opens_at(self, now: float) -> float:
        """When a call may pass, if only as a probe; ``now`` if it may."""
        if self.until <= now or self._probing:
            return max(now, self.until)
        return max(now, min(self.until, self._probe_at))

    def note_refusal(self, granted_at: float, now: float) -> None:
        """Count the refusal of a call that was granted then."""
        if granted_at > self._refused_at:
            self.refusals_in_a_row += 1
            self._refused_at = now

    def extend(
        self, until: float, because: str, now: float, probe_every_s: float, words: str = ""
    ) -> bool:
        """Hold until then at least; returns whether that is later than before."""
        if until <= self.until:
            return False
        if not self.is_active(now):
            self._began = now
            self._probe_at = now + probe_every_s
            self._probing = False
        self.until = until
        self.because = because
        self.words = words
        self.probe_every_s = probe_every_s
        return True

    def start_probe(self) -> None:
        """Note that a call was granted although the hold is active."""
        self._probing = True

    def probe_refused(
        self,
        granted_at: float,
        until: float,
        because: str,
        now: float,
        probe_every_s: float,
        words: str = "",
    ) -> None:
        """The service's latest word replaces the earlier one; the next probe is due in a while."""
        if self._is_current(granted_at):
            self.until = 0.0
        self.extend(until, because, now, probe_every_s, words)

    def probe_failed(self, granted_at: float, now: float) -> None:
        """A probe failed without a word about limits; the next one is due in a while."""
        if self._is_current(granted_at):
            self._probing = False
            self._probe_at = now + self.probe_every_s

    def probe_abandoned(self, granted_at: float) -> None:
        """A probe ended without a sign of the service's state; another call may be one."""
        if self._is_current(granted_at):
            self._probing = False

    def probe_answered(self, granted_at: float) -> bool:
        """End the hold; False if the probe was that of an earlier hold."""
        if not self._is_current(granted_at):
            return False
        self.end()
        return True

    def end(self) -> None:
        self.until = 0.0
        self._probing = False

    def forget_probe(self) -> None:
        """Forget a probe in flight, after a restart of the actor that would see its end."""
        self._probing = False

    def _is_current(self, granted_at: float) -> bool:
        return self._probing and granted_at >= self._began


def probe_interval_s(configured_s: float, failure: UpstreamFailure) -> float:
    """How often a hold is probed: rarely if the service named the end of a plan's window."""
    named_window = failure.scope is LimitScope.WINDOW and failure.retry_after is not None
    return configured_s * WINDOW_PROBES if named_window else configured_s
