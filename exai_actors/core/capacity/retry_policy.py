"""What a failure means: whether the request is tried again, and whether the rest has to wait."""

from __future__ import annotations

from collections import deque
from typing import assert_never

import msgspec

from exai_actors.core.calls import FailureKind, UpstreamFailure
from exai_actors.core.capacity.settings import RetrySettings

BUDGET_SLICES = 60
QUOTA_HOLD_S = 60.0
HOLD_JITTER = 0.1


class Verdict(msgspec.Struct, frozen=True):
    """``again``: this request may be tried again at the same provider.

    ``hold``: nobody else is to be sent for a while. ``shrink``: fewer at once. ``counts``: towards
    the circuit. ``reached``: the provider has seen the request and may have counted it.
    ``spent``: it may have worked on an answer, and nobody will tell what that took.
    """

    again: bool = False
    hold: bool = False
    shrink: bool = False
    counts: bool = False
    reached: bool = True
    spent: bool = False


_RATE_LIMITED = Verdict(again=True, hold=True, shrink=True)
_OVERLOADED = Verdict(again=True, hold=True, shrink=True)
_QUOTA = Verdict(hold=True)
_CONNECT = Verdict(again=True, counts=True, reached=False)
_SERVER_ERROR = Verdict(again=True, counts=True)
_UNSUPPORTED = Verdict(counts=True)
_UNDECIDED = Verdict(counts=True, spent=True)
_FINAL = Verdict()


def judge(failure: UpstreamFailure) -> Verdict:
    """The meaning of a failure.

    One that may have been answered and billed although nothing arrived (a timeout, a broken or
    malformed answer) is not tried again at the same provider. Once text has gone out to the client
    nothing is tried again anywhere: it would get two answers in one.
    """
    verdict = _by_kind(failure)
    if failure.text_sent:
        return msgspec.structs.replace(verdict, again=False, spent=True)
    return verdict


def _by_kind(failure: UpstreamFailure) -> Verdict:
    match failure.kind:
        case FailureKind.RATE_LIMITED:
            return _RATE_LIMITED
        case FailureKind.OVERLOADED:
            return _OVERLOADED
        case FailureKind.QUOTA:
            return _QUOTA
        case FailureKind.CONNECT:
            return _CONNECT
        case FailureKind.SERVER_ERROR:
            # 501 and 505 say that it will never be done.
            return _UNSUPPORTED if failure.status in (501, 505) else _SERVER_ERROR
        case (
            FailureKind.TIMEOUT | FailureKind.MALFORMED | FailureKind.TRUNCATED | FailureKind.BROKEN
        ):
            return _UNDECIDED
        case (
            FailureKind.UNAUTHORIZED
            | FailureKind.NOT_FOUND
            | FailureKind.REJECTED
            | FailureKind.TOO_LARGE
        ):
            return _FINAL
        case _:
            assert_never(failure.kind)


def backoff_s(attempt: int, draw: float, settings: RetrySettings) -> float:
    """Full jitter: U(0, min(cap, base * 2**attempt)), after so many attempts from 1.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog (2015).
    """
    return draw * min(settings.cap_s, settings.base_s * 2.0 ** min(attempt, 32))


def hold_s(failure: UpstreamFailure, in_a_row: int, draw: float, settings: RetrySettings) -> float:
    """For how long nobody is sent: what the provider told, or longer each time it did not.

    Never shorter than told; up to a tenth longer, so that not everybody who was told comes at once.
    "Now" is no time told: whoever says so while refusing has a clock that is wrong.
    """
    if failure.retry_after:
        return failure.retry_after * (1 + HOLD_JITTER * draw)
    if failure.kind is FailureKind.QUOTA:
        return QUOTA_HOLD_S * (1 + HOLD_JITTER * draw)
    return max(settings.base_s / 2, backoff_s(in_a_row, draw, settings))


class RetryBudget:
    """At most max(reserve, budget * requests) tries again within the window, counted in slices."""

    __slots__ = ("_began", "_log", "_settings", "_slice_s", "_slices")

    def __init__(self, settings: RetrySettings) -> None:
        self._settings = settings
        self._slice_s = settings.budget_window_s / BUDGET_SLICES
        # Each slice: when it began, requests, tries again.
        self._slices: deque[list[float]] = deque()
        self._began = -1.0
        self._log: list[float] = []

    def note_request(self, now: float) -> None:
        """A request was sent for the first time; what is refused here is none."""
        if now - self._began >= self._slice_s or not self._log:
            self._open(now)
        self._log[1] += 1

    def take(self, now: float) -> bool:
        """Whether one more may be tried again; it is counted if so."""
        if now - self._began >= self._slice_s or not self._log:
            self._open(now)
        requests = sum(each[1] for each in self._slices)
        again = sum(each[2] for each in self._slices)
        if again + 1 > max(self._settings.reserve, self._settings.budget * requests):
            return False
        self._log[2] += 1
        return True

    def _open(self, now: float) -> None:
        self._began = now
        self._log = [now, 0, 0]
        slices = self._slices
        slices.append(self._log)
        while slices[0][0] <= now - self._settings.budget_window_s:
            slices.popleft()
