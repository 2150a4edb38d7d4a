"""The page for Prometheus: its families, its values, its access, and the files built on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from exai_actors.client import BrokerError
from exai_actors.core.calls import Outcome, ToolResult, Usage
from exai_actors.core.observe.request_ends import RequestFigures
from exai_actors.core.routing import Route
from exai_actors.daemon.observing.metrics import (
    FAMILIES,
    MAX_TOKEN_SERIES,
    of_requests,
    reference,
)
from exai_actors.ids import DEFAULT_TENANT, ProviderName, TenantName
from exai_actors.testing.broker import running_broker
from exai_actors.testing.tree import ManualTree

ROOT = Path(__file__).parents[3]
TOKEN = "0123456789abcdef"
LOADED = {
    "provider": [
        {"kind": "synthetic", "name": "kimi", "models": ["moon"], "tokens_per_minute": 9000},
        {"kind": "synthetic", "name": "glm", "models": ["star"], "failure_rate": 1.0},
    ],
    "alarms": {"ignore": ["loop_lag"]},
}

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples_in(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


async def fetch(port: int, **headers: str) -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics", headers=headers) as response,
    ):
        return response.status, response.headers["Content-Type"], await response.text()


async def test_the_page_shows_the_work_of_the_broker() -> None:
    async with running_broker(LOADED) as running, running.connect() as client:
        for _ in range(3):
            await client.call("chat", prompt="hello", model="moon")
        with pytest.raises(BrokerError):
            await client.call("chat", prompt="hello", model="star")
        with pytest.raises(BrokerError):
            await client.call("chat", prompt="hello", model="nowhere")
        status, content_type, text = await fetch(running.port)
        accept = "application/openmetrics-text; version=1.0.0"
        _, _, as_open_metrics = await fetch(running.port, Accept=accept)
    assert (status, content_type.partition(";")[0]) == (200, "text/plain")
    found = samples_in(text)
    answered = {"tenant": "default", "provider": "kimi", "outcome": "completed", "code": ""}
    assert of(found, "exai_requests_total", **answered) == 3
    failed = {"tenant": "default", "provider": "glm", "outcome": "failed", "code": "PROVIDER_ERROR"}
    assert of(found, "exai_requests_total", **failed) == 1
    refused = {"tenant": "default", "provider": "", "outcome": "refused", "code": "MODEL_NOT_FOUND"}
    assert of(found, "exai_requests_total", **refused) == 1
    assert of(found, "exai_tokens_total", tenant="default", model="moon", kind="completion") > 3
    assert of(found, "exai_wait_seconds_count", provider="kimi") == 3
    assert of(found, "exai_wait_seconds_bucket", provider="kimi", le="+Inf") == 3
    assert of(found, "exai_service_seconds_count", provider="glm") == 3
    # None of the answers was streamed.
    assert of(found, "exai_first_piece_seconds_count", provider="kimi") == 0
    assert of(found, "exai_failures_total", provider="glm", kind="server_error") == 3
    assert of(found, "exai_calls_total", provider="glm", event="retried") == 2
    states = ("held", "free", "quarantined", "reserved", "over")
    permits = {state: of(found, "exai_permits", provider="kimi", state=state) for state in states}
    assert permits == {"held": 0, "free": 4, "quarantined": 0, "reserved": 0, "over": 0}
    assert of(found, "exai_conserved", provider="kimi") == 1
    assert of(found, "exai_gate_limit", provider="kimi", gate="tokens_per_minute") == 9000
    assert of(found, "exai_actors", kind="sessions") == 1
    assert of(found, "exai_mailbox_share", kind="providers") == 0
    assert of(found, "exai_connections") == of(found, "exai_ready") == 1
    assert of(found, "process_resident_memory_bytes") > 10_000_000
    families = open_metrics(as_open_metrics)  # type: ignore[no-untyped-call]
    assert "exai_requests" in {family.name for family in families}


async def test_the_page_has_exactly_the_families_of_the_table() -> None:
    async with running_broker(LOADED) as running:
        _, _, text = await fetch(running.port)
    typed = {line.split()[2]: line.split()[3] for line in text.splitlines() if "# TYPE" in line}
    own = {name: kind for name, kind in typed.items() if name.startswith("exai_")}
    assert own == {family.name: family.kind for family in FAMILIES}


def test_the_reference_is_made_from_the_table() -> None:
    assert reference() in (ROOT / "docs" / "reference" / "metrics.md").read_text("utf-8")


def test_series_of_tokens_are_bounded_and_none_is_lost() -> None:
    requests = RequestFigures()
    answered = Outcome("completed", ToolResult(("hi",), usage=Usage(1, 2)))
    for number in range(MAX_TOKEN_SERIES + 10):
        requests.ended(DEFAULT_TENANT, Route(ProviderName("kimi"), f"m{number}"), answered)
    found = dict(sample for name, sample in of_requests(requests) if name == "exai_tokens_total")
    completion = {labels: value for labels, value in found.items() if labels[2] == "completion"}
    assert len(completion) == MAX_TOKEN_SERIES + 1
    assert sum(v for v in completion.values() if isinstance(v, float)) == 2 * MAX_TOKEN_SERIES + 20
    assert completion["default", "other", "completion"] == 20


HOSTILE = ["a\nb", 'a"} 1\n# EOF', "a\\", "a,b=c", "", " ", "ü\u2028", "\x1b[31m", "x" * 4_096]


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_no_name_can_change_the_page_around_it(hostile: str) -> None:
    async with running_broker(LOADED) as running:
        figures = running.broker._tree.request_board.figures
        answered = Outcome("completed", ToolResult(("hi",), usage=Usage(1, 2)))
        figures.ended(TenantName(hostile or "t"), Route(ProviderName("kimi"), hostile), answered)
        _, _, text = await fetch(running.port)
        accept = "application/openmetrics-text; version=1.0.0"
        _, _, as_open_metrics = await fetch(running.port, Accept=accept)
    found = samples_in(text)
    labels = {"tenant": hostile or "t", "model": hostile}
    assert of(found, "exai_tokens_total", kind="completion", **labels) == 2
    assert of(found, "exai_uptime_seconds") > 0
    assert list(open_metrics(as_open_metrics))  # type: ignore[no-untyped-call]


def test_names_that_clients_choose_add_no_series() -> None:
    tree = ManualTree(limit=1)

    def series() -> int:
        return sum(1 for _ in of_requests(tree.request_board.figures))

    def call_under_other_names(number: int) -> None:
        client = tree.client(f"session {number}")
        client.call(f"id {number}", arguments={"model": f"model {number}"})
        client.send({"op": "call_tool", "request_id": "b", "name": f"tool {number}"})
        client.call("c", deadline_ms=1_000 + number)
        tree.advance(3.0)
        client.vanish()

    call_under_other_names(0)
    before = series()
    for number in range(1, 50):
        call_under_other_names(number)
    assert series() == before


OPERATOR = {"operator": [{"name": "vi", "token_env": "VI_TOKEN", "role": "viewer"}]}
METRICS = {"metrics": {"token_env": "SCRAPER_TOKEN"}}
VI, SCRAPER = "v" * 16, "s" * 16


@pytest.mark.parametrize(
    ("config", "token", "status"),
    [
        ({}, None, 200),
        ({}, "anything", 200),
        (OPERATOR, None, 401),
        (OPERATOR, VI, 200),
        (OPERATOR, SCRAPER, 401),
        (METRICS, None, 401),
        (METRICS, SCRAPER, 200),
        (METRICS, VI, 401),
        (OPERATOR | METRICS, SCRAPER, 200),
        (OPERATOR | METRICS, VI, 200),
        (OPERATOR | METRICS, SCRAPER[:-1], 401),
    ],
)
async def test_the_page_is_for_holders_of_a_token_where_there_is_one(
    config: dict[str, Any], token: str | None, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VI_TOKEN", VI)
    monkeypatch.setenv("SCRAPER_TOKEN", SCRAPER)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with running_broker(config) as running:
        found, _, text = await fetch(running.port, **headers)
    assert found == status
    assert ("exai_ready" in text) is (status == 200)
    assert VI not in text
    assert SCRAPER not in text


async def test_beyond_loopback_the_page_is_closed_without_a_token() -> None:
    config = {"server": {"host": "0.0.0.0", "token": TOKEN}}
    async with running_broker(config) as running:
        assert (await fetch(running.port))[0] == 401


async def test_a_page_of_another_origin_gets_no_figures() -> None:
    async with running_broker() as running:
        status, _, text = await fetch(running.port, Origin="https://evil.example")
    assert status == 403
    assert "exai_ready" not in text


async def test_without_the_extra_the_page_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    async with running_broker() as running:
        status, _, text = await fetch(running.port)
    assert status == 501
    assert "exai-actors[metrics]" in text
