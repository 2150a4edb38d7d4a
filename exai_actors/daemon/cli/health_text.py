"""The state of a running broker as text: tables, or blocks where those would be too wide."""

from __future__ import annotations

import textwrap
from typing import Any

from exai_actors.core.durations import format_seconds
from exai_actors.core.wait_reasons import round_up
from exai_actors.daemon.cli.columns import GAP, Row, aligned, indented

_RIGHT = frozenset({"running", "waiting", "minute", "day", "failed", "weight", "share"})
_NAME_WIDTH = 14


def health_text(found: dict[str, Any], width: int | None = None) -> str:
    """The broker in a line, a table of its providers with remarks, a table of its tenants.

    No line has more than ``width`` characters, unless a single word has.
    """
    providers, tenants = found["providers"], found["tenants"]
    lines = [
        f"exai {found['version']}, up {found['uptime_human']}, "
        f"{_counted(found['connections'], 'connection')}, {_counted(found['sessions'], 'session')}"
        + (", draining" if found["draining"] else ""),
        "",
        *_fitting(
            width,
            ("provider", "state", "running", "waiting", "minute", "day", "failed", "next"),
            [_provider_row(each) for each in providers],
        ),
    ]
    remarks = [remark for each in providers for remark in _remarks(each)]
    if remarks:
        lines += ["", *remarks]
    if tenants:
        lines += [
            "",
            *_fitting(
                width,
                ("tenant", "weight", "share", "running", "waiting"),
                [row for tenant in tenants for row in _tenant_rows(tenant)],
            ),
        ]
    return "\n".join(lines if width is None else _wrapped(lines, width))


def _wrapped(lines: list[str], width: int) -> list[str]:
    return [
        part
        for line in lines
        for part in (
            [line] if len(line) <= width else textwrap.wrap(line, width, subsequent_indent=GAP)
        )
    ]


def _fitting(width: int | None, titles: Row, rows: list[Row]) -> list[str]:
    """The rows as a table, or as a block each if that is wider than ``width``."""
    table = _table(titles, rows)
    if width is None or max(map(len, table)) <= width:
        return table
    return [
        line
        for row in rows
        for line in (
            f"{row[0]}  {row[1]}".rstrip(),
            GAP + ", ".join(f"{title} {cell}" for title, cell in _figures(titles, row)),
        )
    ]


def _figures(titles: Row, row: Row) -> list[tuple[str, str]]:
    return [each for each in zip(titles[2:], row[2:], strict=True) if each[1]]


def running_text(providers: list[dict[str, Any]]) -> str:
    """The statistics of a running broker's providers as text, a block each."""
    return "\n\n".join("\n".join(_running_block(each)) for each in providers)


def state_of(provider: dict[str, Any]) -> str:
    """``serving``, or why not: ``held 61 s``, ``down 5 s``, ``testing``, ``paused`` ..."""
    waits_for = provider["waits_for"] or {}
    ends_in_s = waits_for.get("ends_in_s")
    ends = "" if ends_in_s is None else f" {_short(ends_in_s)}"
    if provider["mode"] != "open":
        return str(provider["mode"])
    match waits_for.get("code"):
        case "hold":
            return f"held{ends}"
        case "circuit":
            return f"down{ends}" if ends else "testing"
    if provider["circuit"] != "closed":
        return "testing"
    if provider["trouble"] and not provider["models"]:
        return "no models"
    return "serving"


def _provider_row(provider: dict[str, Any]) -> Row:
    return (
        _clipped(provider["name"]),
        state_of(provider),
        f"{provider['in_flight']}/{provider['limit']}",
        f"{provider['queued']}",
        _fullest(provider["gates"], "_per_minute"),
        _fullest(provider["gates"], "_per_day"),
        f"{provider['failed']}",
        _next_free(provider["next_free_s"]),
    )


def _fullest(gates: list[dict[str, Any]], ending: str) -> str:
    """The gate of which the largest part is used, of those for requests and for LLM tokens."""
    found = [gate for gate in gates if gate["name"].endswith(ending)]
    if not found:
        return "-"
    gate = max(found, key=lambda each: each["used"] / each["limit"])
    unit = " tok" if gate["name"].startswith("tokens") else ""
    return f"{_compact(gate['used'])}/{_compact(gate['limit'])}{unit}"


def _next_free(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return "now" if seconds <= 0 else f"in {_short(seconds)}"


def _remarks(provider: dict[str, Any]) -> list[str]:
    remarks = []
    if provider["waits_for"]:
        remarks.append(provider["waits_for"]["text"])
    name = provider["name"]
    remarks += [
        f"{name}: model {held['model']} held for {_short(held['held_for_s'])} ({held['because']})"
        for held in provider["model_holds"]
    ]
    if provider["trouble"]:
        remarks.append(f"{name}: could not list its models: {provider['trouble']}")
    if provider["violations"]:
        remarks.append(
            f"{name}: {provider['violations']} violated invariants; see the broker's log"
        )
    return remarks


def _running_block(each: dict[str, Any]) -> list[str]:
    state = state_of(each)
    rows = [
        ("in flight", f"{each['in_flight']} of {each['limit']}"),
        ("queued", f"{each['queued']} of {each['queue_limit']}"),
        ("completed", f"{each['completed']}"),
        ("failed", f"{each['failed']}, {each['retried']} retried"),
        ("aborted", f"{each['aborted']}"),
        ("refused", f"{each['refused']}, {each['displaced']} for the queue's fair shares"),
        ("anomalies", f"{each['anomalies']}"),
    ]
    if each["violations"]:
        rows.append(
            ("violations", f"{each['violations']} of the broker's own invariants; see its log")
        )
    if each["configured_limit"] != each["limit"]:
        rows.insert(1, ("configured", f"{each['configured_limit']}"))
    if each["waits_for"]:
        rows.append(("waits for", each["waits_for"]["text"].removeprefix(f"{each['name']}: ")))
    rows += [
        (f"held {held['model']}", f"for {format_seconds(held['held_for_s'])}: {held['because']}")
        for held in each["model_holds"]
    ]
    if each["trouble"]:
        rows.append(("trouble", each["trouble"]))
    rows += [
        (gate["name"].replace("_", " "), f"{gate['used']:,.0f} of {gate['limit']:,} used")
        for gate in each["gates"]
    ]
    rows += [
        (each_model["model"], f"{each_model['in_flight']} of {each_model['limit']} in flight")
        for each_model in each["model_limits"]
    ]
    rows += [(event["what"], event["cause"]) for event in each["events"][-5:]]
    return [f"{each['name']}  {each['kind']}, {state}", *indented(rows)]


def _tenant_rows(tenant: dict[str, Any]) -> list[Row]:
    share = "-" if tenant["share"] is None else f"{tenant['share']:.0%}"
    figures = (f"{tenant['in_flight']}", f"{tenant['queued']}")
    rows: list[Row] = [
        (_clipped(tenant["name"] or "default"), f"{tenant['weight']:g}", share, *figures)
    ]
    rows += [
        (f"  {each['session']}", "", "", f"{each['in_flight']}", f"{each['queued']}")
        for each in tenant["sessions"]
    ]
    return rows


def _table(titles: Row, rows: list[Row]) -> list[str]:
    return aligned((titles, *rows), [title in _RIGHT for title in titles])


def _short(seconds: float) -> str:
    """``61 s``, ``14 min``, ``6.5 h``: at most seven characters."""
    for limit, unit, name in ((100, 1, "s"), (6000, 60, "min"), (360_000, 3600, "h")):
        if seconds < limit:
            return f"{format_seconds(round_up(seconds / unit)).removesuffix(' s')} {name}"
    return f"{seconds / 86_400:,.0f} d"


def _compact(figure: float) -> str:
    for size, name in ((1_000_000, "M"), (1_000, "k")):
        if figure >= size * 10 or (figure >= size and figure % size == 0):
            return f"{figure / size:.3g}{name}"
    return f"{figure:.0f}"


def _clipped(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 1]}…"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
