"""Alert rules and the Grafana dashboard: well formed, and about metrics that there are."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from proxy.metrics import Metrics
from tests.deploy.dockerfile import ROOT
from tests.deploy.promql import named
from tests.deploy.test_image import tool

ALERTS: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "alerts.yaml").read_text())
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "nearhit.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
PAGE = (ROOT / "docs" / "observability.md").read_text()
API = (ROOT / "docs" / "api.md").read_text()
SCRAPED = {"instance", "job", "worker"}  # labels that a scrape, or a host's text, adds
OF_PROMETHEUS = {"up": SCRAPED}

RULES_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["groups"],
    "properties": {
        "groups": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "rules"],
                "properties": {
                    "name": {"type": "string"},
                    "interval": {"type": "string"},
                    "rules": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "additionalProperties": False,
                            "required": ["alert", "expr", "for", "labels", "annotations"],
                            "properties": {
                                "alert": {"type": "string", "pattern": "^Nearhit[A-Za-z]+$"},
                                "expr": {"type": "string"},
                                "for": {"type": "string", "pattern": "^[0-9]+(s|m|h|d)$"},
                                "labels": {
                                    "type": "object",
                                    "required": ["severity"],
                                    "properties": {"severity": {"enum": ["critical", "warning"]}},
                                    "additionalProperties": {"type": "string"},
                                },
                                "annotations": {
                                    "type": "object",
                                    "required": ["summary", "description", "runbook"],
                                    "additionalProperties": {"type": "string", "minLength": 10},
                                },
                            },
                        },
                    },
                },
            },
        }
    },
}


def series() -> dict[str, set[str]]:
    """Return the labels of every series that a process tells, by the series' name."""
    metrics = Metrics(["default"], [])
    labels: dict[str, set[str]] = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            labels[metric._name] = set(metric._labelnames)
    told: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        own = labels.get(family.name, {n for s in family.samples for n in s.labels})
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
        for ending in endings.get(family.type, [""]):
            told[family.name + ending] = own | ({"le"} if ending == "_bucket" else set())
    return told


SERIES = series() | OF_PROMETHEUS


def faults(expression: str) -> Iterator[str]:
    """Yield what an expression names that is not there."""
    try:
        found = named(expression)
    except ValueError as error:
        yield str(error)
        return
    if not found.metrics:
        yield f"{expression}: is about no metric"
    known = set(SCRAPED)
    for metric in found.metrics:
        if metric in SERIES:
            known |= SERIES[metric]
        else:
            yield f"{metric}: there is no such series"
    for metric, label, values in found.matchers:
        if label not in SERIES.get(metric, set()) | SCRAPED:
            yield f"{metric}: has no label {label}"
        elif label not in SCRAPED | {"category", "code"}:
            row = next((r for r in API.splitlines() if metric_in(r, metric)), "")
            for value in values:
                if not re.search(rf"\b{re.escape(value)}\b", row):
                    yield f"{metric}: no {label} is {value!r}, as docs/api.md tells it"
    for label in found.grouped - known:
        yield f"{expression}: nothing has a label {label}"


def metric_in(row: str, name: str) -> bool:
    stem = re.sub(r"_(bucket|sum|count)$", "", name)
    return f"`{stem}`" in row or f"`{name}`" in row


def substituted(expression: str) -> str:
    return expression.replace("$instance", ".*").replace("$category", ".*")


def test_the_rules_have_the_form_that_prometheus_reads(tmp_path: Path) -> None:
    schema = tmp_path / "rules.json"
    schema.write_text(json.dumps(RULES_SCHEMA))

    def check(file: Path) -> int:
        command = [tool("check-jsonschema"), "--schemafile", str(schema), str(file)]
        return subprocess.run(command, capture_output=True).returncode

    bad = tmp_path / "bad.yaml"
    bad.write_text((ROOT / "deploy" / "alerts.yaml").read_text().replace("severity:", "sever:"))
    assert (check(ROOT / "deploy" / "alerts.yaml"), check(bad)) == (0, 1)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_is_about_metrics_that_there_are_and_leads_to_what_to_do(
    rule: dict[str, Any],
) -> None:
    assert list(faults(rule["expr"])) == []
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert page == "docs/observability.md" and anchor == rule["alert"].lower()
    assert f"\n### {rule['alert']}\n" in PAGE
    grouped = named(rule["expr"]).grouped | SCRAPED
    shown = re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values()))
    assert set(shown) <= grouped


def test_each_alert_is_named_once_and_every_heading_has_its_alert() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    assert set(re.findall(r"^### (Nearhit\w+)$", PAGE, re.MULTILINE)) == set(names)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: f"{panel['id']} {panel['title']}")
def test_a_panel_is_about_metrics_that_there_are(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        assert list(faults(substituted(target["expr"]))) == []
        words = re.findall(r"{{(\w+)}}", target["legendFormat"])
        assert set(words) <= named(substituted(target["expr"])).grouped


def test_the_dashboard_has_the_form_that_grafana_reads() -> None:
    assert {"uid", "title", "schemaVersion", "time", "templating", "panels"} <= DASHBOARD.keys()
    assert "__inputs" not in DASHBOARD and DASHBOARD.get("id") is None
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    for panel in PANELS:
        assert panel["type"] in {"timeseries", "stat"} and panel["title"] and panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        refs = [target["refId"] for target in panel["targets"]]
        assert refs and len(set(refs)) == len(refs)
        for source in (panel["datasource"], *(t["datasource"] for t in panel["targets"])):
            assert source == {"type": "prometheus", "uid": "${datasource}"}


def test_the_dashboard_asks_which_data_source_instance_and_category() -> None:
    variables = {v["name"]: v for v in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    for name in ("instance", "category"):
        metric, label = re.fullmatch(
            r"label_values\((\w+), (\w+)\)", variables[name]["query"]["query"]
        ).groups()  # type: ignore[union-attr]
        assert label in SERIES[metric] | SCRAPED
    used = set(re.findall(r"\$(\w+)", json.dumps([p["targets"] for p in PANELS])))
    assert used == {"instance", "category", "__rate_interval"}
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Overview", "Quality", "Store", "Near-hits", "Encoder"]


def test_compose_mounts_the_rules_where_prometheus_looks_for_them() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    (file,) = config["rule_files"]
    assert f"./deploy/alerts.yaml:{file}:ro" in compose["services"]["prometheus"]["volumes"]
    jobs = {scrape["job_name"] for scrape in config["scrape_configs"]}
    told = {m.values for r in RULES for m in named(r["expr"]).matchers if m.label == "job"}
    assert {value for values in told for value in values} == jobs


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("rate(nearhit_lookup_total[5m])", "nearhit_lookup_total: there is no such series"),
        ("nearhit_lookups", "nearhit_lookups: there is no such series"),
        ('nearhit_entries{verdict="hit"}', "nearhit_entries: has no label verdict"),
        ('nearhit_lookups_total{verdict="hits"}', "no verdict is 'hits'"),
        ("sum by (tenant) (nearhit_entries)", "nothing has a label tenant"),
        ("summ(nearhit_entries)", "summ is no function that we know"),
        ("sum(nearhit_entries", "a bracket is left open"),
        ("nearhit_entries)", "a bracket is closed that was not opened"),
        ('nearhit_entries{category="a"', "} is missing"),
        ('nearhit_entries{category>"a"}', "does not compare labels"),
        ("rate(nearhit_lookups_total[5 minutes])", "is no range"),
        ("nearhit_entries & 1", "is not PromQL"),
        ("1 + 1", "is about no metric"),
    ],
)
def test_an_expression_about_something_else_is_seen(expression: str, told: str) -> None:
    assert any(told in fault for fault in faults(expression)), list(faults(expression))
