"""The files for deployments name only metrics that the broker has, and can be read."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from exai_actors.core.alarm_readings import Thresholds, rules
from exai_actors.daemon.observing.metrics import FAMILIES
from tests.docs.blocks import ROOT

FOLDER = ROOT / "docs" / "deploy"
DASHBOARD = FOLDER / "grafana-dashboard.json"
ALERTS = FOLDER / "prometheus-alerts.yml"

# Added by the scrape, or by prometheus-client for the process.
OF_OTHERS = {
    "up": frozenset({"job", "instance"}),
    "process_cpu_seconds_total": frozenset(),
    "process_resident_memory_bytes": frozenset(),
    "process_open_fds": frozenset(),
}
OF_A_TARGET = frozenset({"job", "instance"})
WORDS = frozenset(
    {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool"}
)
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"\{([^}]*)\}")
_NAME = re.compile(r"(?<![\w$])[a-zA-Z_:][\w:]*+(?!\s*\()")


def known() -> dict[str, frozenset[str]]:
    """The names of all samples with their labels."""
    found = {name: labels | OF_A_TARGET for name, labels in OF_OTHERS.items()}
    for family in FAMILIES:
        labels = frozenset(family.labels) | OF_A_TARGET
        if family.kind == "histogram":
            found |= {f"{family.name}{end}": labels for end in ("_sum", "_count")}
            found[f"{family.name}_bucket"] = labels | {"le"}
        else:
            found[family.name] = labels
    return found


def problems(expression: str) -> Iterator[str]:
    """The metrics and labels of an expression that do not exist, and open brackets."""
    metrics = known()
    plain = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    for opening, closing in ("()", "{}", "[]"):
        if plain.count(opening) != plain.count(closing):
            yield f"{opening} and {closing} do not match"
    grouped = [
        label.strip() for found in _GROUPING.findall(plain) for label in found.split(",") if label
    ]
    selected = [
        re.split(r"[=!~]", matcher)[0].strip()
        for found in _SELECTOR.findall(plain)
        for matcher in found.split(",")
        if matcher
    ]
    rest = re.sub(r"\[[^\]]*\]", "", _SELECTOR.sub("", _GROUPING.sub("", plain)))
    names = {name for name in _NAME.findall(rest) if name not in WORDS}
    if not names:
        yield "no metric"
    for name in sorted(names - metrics.keys()):
        yield f"no metric {name}"
    labels = frozenset[str]().union(*(metrics[name] for name in names & metrics.keys()))
    for label in sorted({*grouped, *selected} - labels):
        yield f"no label {label}"


def expressions_of_the_dashboard() -> list[tuple[str, str]]:
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    return [
        (panel["title"], target["expr"])
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    rules_of_group: list[dict[str, Any]] = group["rules"]
    return rules_of_group


@pytest.mark.parametrize(("title", "expression"), expressions_of_the_dashboard())
def test_a_panel_shows_metrics_that_exist(title: str, expression: str) -> None:
    assert list(problems(expression)) == []


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_rule_is_about_metrics_that_exist(rule: dict[str, Any]) -> None:
    assert list(problems(rule["expr"])) == []
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert re.fullmatch(r"\d+[sm]", rule.get("for", "1m"))
    assert rule["annotations"]["summary"].endswith(".")


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("exai_missing > 1", "no metric exai_missing"),
        ('rate(exai_queued_total{provider="x"}[5m])', "no metric exai_queued_total"),
        ("sum by (tenant) (exai_queued)", "no label tenant"),
        ('exai_queued{kind!="x"}', "no label kind"),
        ("exai_wait_seconds > 1", "no metric exai_wait_seconds"),
        ("sum(exai_queued", "( and ) do not match"),
        ("vector(1)", "no metric"),
    ],
)
def test_the_check_finds_mistakes(expression: str, problem: str) -> None:
    assert problem in list(problems(expression))


def test_every_alarm_of_the_broker_has_an_alert() -> None:
    named = {re.sub(r"(?<!^)(?=[A-Z])", "_", rule["alert"][4:]).lower() for rule in alerts()}
    built_in = {rule.name for rule in rules(Thresholds())}
    # Prometheus sees a closed provider as unusable, and short memory by the buffers.
    assert built_in - named == {"provider_closed", "memory"}
    assert {"provider_unusable", "memory_short", "down"} <= named


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells


@pytest.mark.parametrize("name", ["compose.yml", "prometheus.yml"])
def test_the_files_can_be_read_and_name_files_that_exist(name: str) -> None:
    content = yaml.safe_load((FOLDER / name).read_text("utf-8"))
    scraped = (
        content
        if name == "prometheus.yml"
        else yaml.safe_load(content["configs"]["prometheus"]["content"])
    )
    assert [each["job_name"] for each in scraped["scrape_configs"]] == ["exai"]
    assert all((FOLDER / each).exists() for each in scraped["rule_files"])
    if name == "compose.yml":
        build = content["services"]["exai"]["build"]
        assert (FOLDER / build["context"] / build["dockerfile"]).resolve().exists()


def test_the_unit_gives_the_broker_time_to_drain_and_is_understood_by_systemd(
    tmp_path: Path,
) -> None:
    text = (FOLDER / "exai.service").read_text("utf-8")
    assert "TimeoutStopSec=45" in text
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is missing: install systemd to have the unit verified")
    unit = tmp_path / "exai.service"
    unit.write_text(text.replace("/opt/exai/bin/exai", "/bin/true"))
    done = subprocess.run([program, "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
