"""The page `/metrics` for Prometheus; needs the extra ``metrics``.

Everything on it is read when it is asked for. The families are a table, from which the reference
page is made.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from exai_actors.core.health import reasons_not_ready, unusable_because
from exai_actors.core.observe.alarms import Alarm
from exai_actors.core.observe.call_figures import CallFigures
from exai_actors.core.observe.histogram import Histogram
from exai_actors.core.observe.request_ends import OTHER, RequestFigures
from exai_actors.core.operators import Operators
from exai_actors.core.statistics import BrokerStatistics, ProviderStatistics
from exai_actors.edges.http_server.server import Page, PageRequest, Response
from exai_actors.ids import ProviderName, shown_tenant
from exai_actors.runtime import MailboxFigures

if TYPE_CHECKING:
    from prometheus_client.core import Metric

MAX_TOKEN_SERIES = 200
"""Pairs of tenant and model that have series of their own."""

TOP = "top"
"""The kind of actors that have no folder in their path."""

MISSING = "/metrics needs the extra 'metrics': pip install 'exai-actors[metrics]'\n"

Kind = Literal["gauge", "counter", "histogram"]
Sample = tuple[tuple[str, ...], float | Histogram]
"""Values of the labels, and the value."""


class Family(msgspec.Struct, frozen=True):
    """A metric. ``name`` is that of its samples, except that a histogram's have endings."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


_PROVIDER = ("provider",)

FAMILIES = (
    Family("exai_info", "gauge", ("version",), "1, with the version of the broker."),
    Family("exai_uptime_seconds", "gauge", (), "Seconds since the broker started."),
    Family("exai_ready", "gauge", (), "1 if new requests can be answered, as at /readyz."),
    Family("exai_draining", "gauge", (), "1 while the broker refuses new requests to end."),
    Family("exai_connections", "gauge", (), "Connections of admitted clients."),
    Family("exai_http_requests_total", "counter", ("api",), "Requests to models over HTTP."),
    Family("exai_strangers", "gauge", (), "Sockets that are not admitted."),
    Family("exai_sessions", "gauge", (), "Sessions."),
    Family("exai_clients_refused_total", "counter", (), "Hellos for which there was no place."),
    Family("exai_wrong_tokens_total", "counter", (), "Hellos with a token that is not valid."),
    Family(
        "exai_requests_total",
        "counter",
        ("tenant", "provider", "outcome", "code"),
        "Requests with an outcome; code is that of the error. Without a provider: refused or lost "
        "before they had one, or local tools.",
    ),
    Family(
        "exai_tokens_total",
        "counter",
        ("tenant", "model", "kind"),
        "LLM tokens of answered requests; kind is prompt or completion. The first 200 pairs of "
        'tenant and model have series of their own, the rest is in the model "other".',
    ),
    Family("exai_provider_usable", "gauge", _PROVIDER, "1 if the provider serves calls."),
    Family("exai_provider_held_seconds", "gauge", _PROVIDER, "How much longer it is held."),
    Family("exai_circuit_open", "gauge", _PROVIDER, "1 while its circuit is open."),
    Family("exai_limit", "gauge", _PROVIDER, "Calls that may be in flight at the same time."),
    Family(
        "exai_permits",
        "gauge",
        ("provider", "state"),
        "Permits by state: held, free, quarantined or reserved; over are those held above the "
        "limit. held + free + quarantined + reserved = limit + over.",
    ),
    Family("exai_conserved", "gauge", _PROVIDER, "1 if permits and calls add up."),
    Family("exai_queued", "gauge", _PROVIDER, "Requests that wait for the provider."),
    Family("exai_queue_limit", "gauge", _PROVIDER, "Requests that may wait for the provider."),
    Family("exai_gate_used", "gauge", ("provider", "gate"), "The part in use of a rate gate."),
    Family("exai_gate_limit", "gauge", ("provider", "gate"), "The limit of a rate gate."),
    Family(
        "exai_calls_total",
        "counter",
        ("provider", "event"),
        "Calls by event: granted, completed, failed, aborted, refused, displaced, retried, shared.",
    ),
    Family(
        "exai_failures_total",
        "counter",
        ("provider", "kind"),
        "Attempts that failed, by kind, such as rate_limited or timeout.",
    ),
    Family(
        "exai_refusals_total",
        "counter",
        ("provider", "cause"),
        "Calls that a provider refused: full, displaced (gave its place to others), too_late (for "
        "its deadline), no_waiting, closed (by a hold, circuit or pause), draining or poison.",
    ),
    Family(
        "exai_wait_seconds", "histogram", _PROVIDER, "From the arrival of a call to its permit."
    ),
    Family(
        "exai_service_seconds", "histogram", _PROVIDER, "For how long attempts held their permits."
    ),
    Family(
        "exai_first_piece_seconds",
        "histogram",
        _PROVIDER,
        "From a permit to the first piece of a streamed answer, of attempts that have ended.",
    ),
    Family("exai_anomalies_total", "counter", _PROVIDER, "Releases of permits that were not held."),
    Family("exai_violations_total", "counter", _PROVIDER, "Violated invariants of its own books."),
    Family(
        "exai_actors",
        "gauge",
        ("kind",),
        'Living actors by the first part of their path; those at the top of the tree are "top".',
    ),
    Family("exai_mailbox_messages", "gauge", ("kind",), "Messages that wait in mailboxes."),
    Family(
        "exai_mailbox_age_seconds",
        "gauge",
        ("kind",),
        "At most how long the oldest message of these actors has waited (mailbox time).",
    ),
    Family("exai_mailbox_share", "gauge", ("kind",), "The taken part of the fullest mailbox."),
    Family("exai_restarts_total", "counter", (), "Actors that were started again after a failure."),
    Family("exai_dead_letters_total", "counter", (), "Messages to actors that had ended."),
    Family("exai_loop_lag_seconds", "histogram", (), "How late timers of the event loop were."),
    Family(
        "exai_memory_bytes",
        "gauge",
        ("kind",),
        "Memory: resident, buffered (messages and answers), kept (outcomes and conversations).",
    ),
    Family("exai_memory_short", "gauge", (), "1 while buffers are above their limit."),
    Family(
        "exai_alarm_raised",
        "gauge",
        ("alarm", "subject", "severity"),
        "1 for each alarm of the broker that is raised.",
    ),
)


class Figures(msgspec.Struct, frozen=True):
    """The sources of the page; each is read when the page is asked for."""

    statistics: Callable[[], BrokerStatistics]
    calls: Callable[[], Mapping[ProviderName, CallFigures]]
    requests: RequestFigures
    mailboxes: Callable[[], Iterable[MailboxFigures]]
    restarts: Callable[[], int]
    loop_lag: Histogram
    alarms: Callable[[], tuple[Alarm, ...]]
    http_requests: Mapping[str, int]


def samples(figures: Figures) -> Iterator[tuple[str, Sample]]:
    """The samples of all families at this moment, by the name of the family."""
    now = figures.statistics()
    for name, value in (
        ("exai_uptime_seconds", now.uptime_s),
        ("exai_ready", not reasons_not_ready(now)),
        ("exai_draining", now.draining),
        ("exai_connections", now.connections),
        ("exai_strangers", now.strangers),
        ("exai_sessions", now.sessions),
        ("exai_clients_refused_total", now.refused),
        ("exai_wrong_tokens_total", now.wrong_tokens),
        ("exai_restarts_total", figures.restarts()),
        ("exai_dead_letters_total", now.dead_letters),
        ("exai_memory_short", now.memory.alarm),
    ):
        yield name, ((), float(value))
    yield "exai_info", ((now.version,), 1.0)
    yield "exai_loop_lag_seconds", ((), figures.loop_lag)
    for kind in ("resident", "buffered", "kept"):
        yield "exai_memory_bytes", ((kind,), float(getattr(now.memory, kind)))
    for api, count in figures.http_requests.items():
        yield "exai_http_requests_total", ((api,), float(count))
    for alarm in figures.alarms():
        yield "exai_alarm_raised", ((alarm.rule, alarm.subject, alarm.severity.value), 1.0)
    yield from of_requests(figures.requests)
    yield from _of_mailboxes(figures.mailboxes())
    calls = figures.calls()
    for provider in now.providers:
        yield from _of_provider(provider)
        yield from _of_calls(provider.name, calls.get(ProviderName(provider.name)))


def _of_provider(each: ProviderStatistics) -> Iterator[tuple[str, Sample]]:
    name = (each.name,)
    for family, value in (
        ("exai_provider_usable", unusable_because(each) is None),
        ("exai_provider_held_seconds", each.held_for_s),
        ("exai_circuit_open", each.circuit == "open"),
        ("exai_limit", each.limit),
        ("exai_conserved", each.is_conserved),
        ("exai_queued", each.queued),
        ("exai_queue_limit", each.queue_limit),
        ("exai_anomalies_total", each.anomalies),
        ("exai_violations_total", each.violations),
    ):
        yield family, (name, float(value))
    for state, count in (
        ("held", each.in_flight),
        ("free", each.free),
        ("quarantined", each.quarantined),
        ("reserved", each.reserved),
        ("over", each.over),
    ):
        yield "exai_permits", ((each.name, state), float(count))
    for event, count in (
        ("granted", each.granted),
        ("completed", each.completed),
        ("failed", each.failed),
        ("aborted", each.aborted),
        ("refused", each.refused),
        ("displaced", each.displaced),
        ("retried", each.retried),
        ("shared", each.shared),
    ):
        yield "exai_calls_total", ((each.name, event), float(count))
    for gate in each.gates:
        yield "exai_gate_used", ((each.name, gate.name), gate.used)
        yield "exai_gate_limit", ((each.name, gate.name), float(gate.limit))


def _of_calls(name: str, figures: CallFigures | None) -> Iterator[tuple[str, Sample]]:
    if figures is None:
        return
    yield "exai_wait_seconds", ((name,), figures.waits)
    yield "exai_service_seconds", ((name,), figures.services)
    yield "exai_first_piece_seconds", ((name,), figures.first_pieces)
    for kind, count in figures.failures.items():
        yield "exai_failures_total", ((name, kind.value), float(count))
    for cause, count in figures.refusals.items():
        yield "exai_refusals_total", ((name, cause), float(count))


def of_requests(figures: RequestFigures) -> Iterator[tuple[str, Sample]]:
    """The samples of requests and tokens; those of tokens are bounded."""
    ends: Counter[tuple[str, ...]] = Counter()
    tokens: dict[tuple[str, str], tuple[int, int]] = {}
    for (tenant_name, provider, model, outcome, code), tally in figures.series.items():
        tenant = shown_tenant(tenant_name)
        ends[tenant, provider, outcome, "" if code is None else code.value] += tally.requests
        if tally.prompt_tokens or tally.completion_tokens:
            pair = (tenant, model)
            if pair not in tokens and len(tokens) >= MAX_TOKEN_SERIES:
                pair = (tenant, OTHER)
            prompt, completion = tokens.get(pair, (0, 0))
            tokens[pair] = prompt + tally.prompt_tokens, completion + tally.completion_tokens
    for labels, count in ends.items():
        yield "exai_requests_total", (labels, float(count))
    for pair, (prompt, completion) in tokens.items():
        yield "exai_tokens_total", ((*pair, "prompt"), float(prompt))
        yield "exai_tokens_total", ((*pair, "completion"), float(completion))


def _of_mailboxes(mailboxes: Iterable[MailboxFigures]) -> Iterator[tuple[str, Sample]]:
    found: dict[str, list[float]] = {}
    for path, depth, share, age_s in mailboxes:
        folder = path.split("/", 2)
        kind = TOP if len(folder) < 3 else folder[1]
        sums = found.setdefault(kind, [0.0, 0.0, 0.0, 0.0])
        sums[0] += 1
        sums[1] += depth
        sums[2] = max(sums[2], age_s)
        sums[3] = max(sums[3], share)
    for kind, (actors, messages, age_s, share) in found.items():
        for family, value in (
            ("exai_actors", actors),
            ("exai_mailbox_messages", messages),
            ("exai_mailbox_age_seconds", age_s),
            ("exai_mailbox_share", share),
        ):
            yield family, ((kind,), value)


class _Collector:
    """Implements the collector of prometheus-client."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        """No names to check: ours are a table."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All families, also those without a sample."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        by_name: dict[str, list[Sample]] = {family.name: [] for family in FAMILIES}
        for name, sample in samples(self._figures):
            by_name[name].append(sample)
        makers = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}
        for family in FAMILIES:
            found: Any
            if family.kind == "histogram":
                found = HistogramMetricFamily(family.name, family.help, labels=family.labels)
                for labels, value in by_name[family.name]:
                    assert isinstance(value, Histogram)
                    found.add_metric(labels, _buckets(value), value.total)
            else:
                found = makers[family.kind](family.name, family.help, labels=family.labels)
                for labels, value in by_name[family.name]:
                    found.add_metric(labels, value)
            yield found


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    found, count = [], 0
    for bound, within in zip((*histogram.bounds, None), histogram.counts, strict=True):
        count += within
        found.append(("+Inf" if bound is None else f"{bound:g}", float(count)))
    return found


_UNAUTHORIZED = Response(
    401,
    b"This page needs a token: Authorization: Bearer TOKEN, of [metrics] or of an [[operator]].\n",
    fields=(("WWW-Authenticate", "Bearer"),),
)


def metrics_page(figures: Figures, operators: Operators, token: str) -> Page:
    """The page. It needs ``token``, unless that is empty, or the token of an operator."""

    def answer(request: PageRequest) -> Response:
        scheme, _, presented = (request.head.field("Authorization") or "").partition(" ")
        presented = presented.strip() if scheme.lower() == "bearer" else ""
        given = presented.encode("utf-8", "surrogatepass")
        is_known = bool(token) and hmac.compare_digest(given, token.encode())
        # With a token of its own the page is not open to anonymous operators.
        accepts_operators = operators.exist or not token
        if not is_known and not (accepts_operators and operators.identify(presented)):
            return _UNAUTHORIZED
        try:
            from prometheus_client import CollectorRegistry, ProcessCollector
            from prometheus_client.exposition import choose_encoder
        except ImportError:
            return Response(501, MISSING.encode())
        registry = CollectorRegistry()
        registry.register(_Collector(figures))
        ProcessCollector(registry=registry)
        encode, content_type = choose_encoder(request.head.field("Accept") or "")
        return Response(200, encode(registry), content_type)

    return Page(answer)


def reference() -> str:
    """The table of ``docs/reference/metrics.md``."""
    rows = []
    for each in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in each.labels)
        rows.append(f"| `{each.name}` | {each.kind} | {labels} | {each.help} |")
    return "\n".join(["| metric | kind | labels | meaning |", "|---|---|---|---|", *rows, ""])
