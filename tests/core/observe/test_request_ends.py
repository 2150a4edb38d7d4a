"""Counts of all requests by how they ended."""

from __future__ import annotations

from exai_actors.core.calls import Outcome, ToolResult, Usage
from exai_actors.core.observe.request_ends import MAX_SERIES, OTHER, RequestFigures, Tally
from exai_actors.core.routing import Route
from exai_actors.errors import ErrorBody, ErrorCode
from exai_actors.ids import ProviderName, TenantName

ANN = TenantName("ann")
KIMI = ProviderName("kimi")


def completed(usage: Usage | None) -> Outcome:
    return Outcome("completed", ToolResult(("text",), usage=usage))


def test_requests_and_tokens_add_up_by_tenant_provider_model_and_end() -> None:
    figures = RequestFigures()
    for usage in (Usage(3, 4), Usage(30, 40), None):
        figures.ended(ANN, Route(KIMI, "moon"), completed(usage))
    figures.ended(TenantName("bob"), Route(KIMI, "moon"), completed(Usage(1, 1)))
    expired = Outcome("expired", error=ErrorBody(ErrorCode.TIMEOUT, "late"))
    figures.ended(ANN, Route(KIMI, "moon"), expired)
    failed = Outcome("failed", error=ErrorBody(ErrorCode.TIMEOUT, "slow service"))
    figures.ended(ANN, Route(KIMI, "moon"), failed)
    figures.unrouted(ANN, "refused", ErrorCode.OVER_CAPACITY)
    figures.unrouted(ANN, "refused", ErrorCode.OVER_CAPACITY)
    figures.unrouted(ANN, "completed", None, "status")
    assert figures.series == {
        (ANN, KIMI, "moon", "completed", None): Tally(3, 33, 44),
        (TenantName("bob"), KIMI, "moon", "completed", None): Tally(1, 1, 1),
        (ANN, KIMI, "moon", "expired", ErrorCode.TIMEOUT): Tally(1),
        (ANN, KIMI, "moon", "failed", ErrorCode.TIMEOUT): Tally(1),
        (ANN, "", "", "refused", ErrorCode.OVER_CAPACITY): Tally(2),
        (ANN, "", "status", "completed", None): Tally(1),
    }


def test_models_beyond_the_limit_are_counted_together_and_none_is_lost() -> None:
    figures = RequestFigures()
    for _ in range(2):
        for number in range(MAX_SERIES + 50):
            figures.ended(ANN, Route(KIMI, f"model-{number}"), completed(Usage(1, 2)))
    assert len(figures.series) == MAX_SERIES + 1
    assert figures.series[ANN, KIMI, OTHER, "completed", None] == Tally(100, 100, 200)
    assert figures.series[ANN, KIMI, "model-0", "completed", None] == Tally(2, 2, 4)
