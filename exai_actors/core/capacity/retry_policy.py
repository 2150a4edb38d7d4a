"""The meaning of a failure: whether its request is retried, and whether other calls must wait."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import assert_never

import msgspec

from exai_actors.core.calls import FailureKind, LimitHolder, UpstreamFailure
from exai_actors.core.capacity.settings import RetrySettings

BUDGET_SLICES = 60
QUOTA_HOLD_S = 60.0
HOLD_JITTER = 0.1
MAX_HOLD_JITTER_S = 5.0


class Verdict(msgspec.Struct, frozen=True):
    """The consequences of a failure.

    ``retriable``: the same provider may get the request again. ``holds``: no call is sent for a
    while. ``shrinks_limit``: an adaptive limit falls. ``counts_for_circuit``: it says that the
    service does not work. ``reached_service``: the service may have counted the request.
    ``may_have_cost``: it may have worked on an answer, of unknown cost.
    """

    retriable: bool = False
    holds: bool = False
    shrinks_limit: bool = False
    counts_for_circuit: bool = False
    reached_service: bool = True
    may_have_cost: bool = False


_RATE_LIMITED = Verdict(retriable=True, holds=True, shrinks_limit=True)
_OVERLOADED = Verdict(retriable=True, holds=True, shrinks_limit=True)
_QUOTA = Verdict(holds=True)
_CONNECT = Verdict(retriable=True, counts_for_circuit=True, reached_service=False)
_SERVER_ERROR = Verdict(retriable=True, counts_for_circuit=True)
_UNSUPPORTED = Verdict(counts_for_circuit=True)
_UNDECIDED = Verdict(counts_for_circuit=True, may_have_cost=True)
# Says more about the form of one answer than about the service's health: the next may be readable.
_UNREADABLE = Verdict(may_have_cost=True)
_FINAL = Verdict()


def judge(failure: UpstreamFailure) -> Verdict:
    """The verdict on a failure.

    A request that may have been answered and billed although no answer arrived (a timeout, a broken
    or malformed answer) is not sent again to the same provider. After the first chunk no request is
    sent again anywhere: its client would get two answers in one. A request beyond what the account
    ever allows (LimitHolder.REQUEST) holds nothing: smaller ones may pass.
    """
    verdict = _FINAL if failure.holder is LimitHolder.REQUEST else _by_kind(failure)
    if failure.text_sent:
        return msgspec.structs.replace(verdict, retriable=False, may_have_cost=True)
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
            # 501 and 505 are permanent.
            return _UNSUPPORTED if failure.status in (501, 505) else _SERVER_ERROR
        case FailureKind.TIMEOUT | FailureKind.TRUNCATED | FailureKind.BROKEN:
            return _UNDECIDED
        case FailureKind.MALFORMED:
            return _UNREADABLE
        case (
            FailureKind.UNAUTHORIZED
            | FailureKind.NOT_FOUND
            | FailureKind.MODEL_NOT_FOUND
            | FailureKind.REJECTED
            | FailureKind.TOO_LARGE
        ):
            return _FINAL
        case _:
            assert_never(failure.kind)


def backoff_s(attempt: int, draw: float, settings: RetrySettings) -> float:
    """Full jitter: U(0, min(cap, base * 2**attempt)), where ``attempt`` counts from 1.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog (2015).
    """
    return draw * min(settings.cap_s, settings.base_s * 2.0 ** min(attempt, 32))


def hold_s(failure: UpstreamFailure, in_a_row: int, draw: float, settings: RetrySettings) -> float:
    """How long no call is sent: the service's Retry-After, or a backoff if it gave none.

    A Retry-After is never shortened, and extended by up to a tenth, at most MAX_HOLD_JITTER_S, so
    that waiting clients do not all return together. A Retry-After of 0 beside a refusal is
    taken for a clock error and ignored.
    """
    named_s = failure.retry_after or (QUOTA_HOLD_S if failure.kind is FailureKind.QUOTA else 0.0)
    if named_s:
        return named_s + min(HOLD_JITTER * named_s, MAX_HOLD_JITTER_S) * draw
    return max(settings.base_s / 2, backoff_s(in_a_row, draw, settings))


class RetryBudget:
    """At most max(reserve, budget * requests) retries within the window, counted in slices."""

    __slots__ = ("_settings", "_slice_ends", "_slice_s", "_slices")

    def __init__(self, settings: RetrySettings) -> None:
        self._settings = settings
        self._slice_s = settings.budget_window_s / BUDGET_SLICES
        self._slices: deque[_Slice] = deque()
        self._slice_ends = -inf

    def note_request(self, now: float) -> None:
        """Count the first attempt of a request."""
        if now >= self._slice_ends:
            self._begin_slice(now)
        self._slices[-1].requests += 1

    def take(self, now: float) -> bool:
        """Whether one more retry is allowed; if so, it is counted."""
        slices = self._slices
        if now >= self._slice_ends:
            self._begin_slice(now)
        requests = sum(each.requests for each in slices)
        retries = sum(each.retries for each in slices)
        if retries + 1 > max(self._settings.reserve, self._settings.budget * requests):
            return False
        slices[-1].retries += 1
        return True

    def _begin_slice(self, now: float) -> None:
        slices = self._slices
        slices.append(_Slice(now))
        self._slice_ends = now + self._slice_s
        while slices[0].began <= now - self._settings.budget_window_s:
            slices.popleft()


class _Slice:
    __slots__ = ("began", "requests", "retries")

    def __init__(self, began: float) -> None:
        self.began = began
        self.requests = 0
        self.retries = 0
