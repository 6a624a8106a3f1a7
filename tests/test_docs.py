"""Every setting, policy field, header, endpoint and metric is documented; links lead somewhere."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from proxy.metrics import Metrics
from proxy.reference import reference
from proxy.wire import WIRES
from store.policy import Policy

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
API = (DOCS / "api.md").read_text()


def test_the_configuration_reference_is_what_the_settings_say() -> None:
    assert (DOCS / "configuration.md").read_text() == reference(), (
        "run: python -m proxy.reference > docs/configuration.md"
    )


def test_every_policy_field_is_documented() -> None:
    text = (DOCS / "policies.md").read_text()
    for field in fields(Policy):
        assert f"| `{field.name}` |" in text


def test_every_metric_is_documented() -> None:
    for metric in Metrics(["default"], []).registry.collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        assert f"`{name}`" in API


def test_every_header_of_ours_is_documented() -> None:
    source = "".join(file.read_text() for file in (ROOT / "proxy").rglob("*.py"))
    named = {name.lower() for name in re.findall(r"x-nearhit-[a-z]+", source, re.IGNORECASE)}
    assert len(named) >= 5
    for name in named:
        assert name in API.lower(), name


def test_every_endpoint_is_documented() -> None:
    for path in [*WIRES, "/v1/models", "/health", "/ready", "/metrics", "/nearhit/feedback"]:
        assert path in API
    operations = (ROOT / "proxy" / "operations.py").read_text()
    paths = re.findall(r'"(?:GET|PUT|POST|DELETE)", "(/[^"]*)"', operations)
    assert len(set(paths)) >= 10
    for path in paths:
        assert f"/admin/api{path}" in API, path


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda p: p.name
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_source_file_is_in_the_table_of_rooms() -> None:
    text = (DOCS / "architecture.md").read_text()
    for package in ("proxy", "embed", "store"):
        for file in (ROOT / package).glob("*.py"):
            if file.name != "__init__.py":
                assert file.name in text, file


def test_the_readme_names_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in ("run", "test"):
        assert f"make {target}" in readme
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
