"""What there is is documented, and what pages name is there: headings, commands, settings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest
import yaml
from typer.main import get_command

from proxy.cli import app
from proxy.metrics import Metrics
from proxy.reference import reference
from proxy.settings import load_settings
from proxy.wire import WIRES
from store.decision.guards.verdict import GUARDS
from store.documents import schema as sqlite_schema
from store.policy import Policy
from store.policy_file import load_policies, parse_policies
from store.redis import schema as redis_schema

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
API = (DOCS / "api.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
FENCED = re.compile(r"^[ ]*```(\w*)\n(.*?)^[ ]*```$", re.MULTILINE | re.DOTALL)
COMMAND_LINE: click.Command = get_command(app)
LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)")


def prose(page: Path) -> str:
    """Return a page without its fenced blocks, in which a # begins a comment and no heading."""
    return FENCED.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    found: Counter[str] = Counter()
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        found[re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")] += 1
    return {f"{slug}-{n}" if n else slug for slug, times in found.items() for n in range(times)}


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield the file and the anchor of each link that leads to a file of ours."""
    for target, anchor in LINK.findall(prose(page)):
        if target or anchor:
            yield (page.parent / target if target else page).resolve(), anchor


def commands(text: str) -> Iterator[str]:
    """Yield what stands behind `nearhit` in each command of a page: in a block or a code span."""
    blocks = "\n".join(block for _, block in FENCED.findall(text)).replace("\\\n", " ")
    for line in blocks.splitlines():
        told = re.match(r"\s*(?:\S+=\S+ )*(?:\.venv/bin/)?nearhit ([a-z-].*)", line)
        if told and not told[1].startswith("is ready on"):  # how it greets
            yield re.split(r" #|\s&&|;|>", told[1])[0]
    for span in re.findall(r"`nearhit\s+([a-z-][^`]*)`", FENCED.sub("", text)):
        yield " ".join(span.split())


def check_command(words: str) -> None:
    """Fail if this names a command or an option that the command line lacks."""
    command = COMMAND_LINE
    rest = words.split()
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        named = [name.strip("[]`,.") for name in rest.pop(0).split("|")]
        if rest and rest[0] == "|":  # `export | import`
            named.append(rest[1])
        assert set(named) <= set(command.commands), f"nearhit {words}"
        command = command.commands[named[0]]
    known = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}
    for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", words):
        assert flag in known | {"--help", "--version"}, f"nearhit {words}"


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


def test_every_guard_is_documented_and_so_is_its_label() -> None:
    labels = next(line for line in API.splitlines() if "`nearhit_guard_vetoes_total`" in line)
    policies = (DOCS / "policies.md").read_text()
    for name in [guard for guard, _ in GUARDS]:
        assert f"| `{name}` |" in policies
        assert re.search(rf"\b{name}\b", labels), name


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


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), target
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{target.name}#{anchor}"


def test_every_page_is_reached_from_the_index() -> None:
    reached, ahead = set[Path](), [DOCS / "README.md"]
    while ahead:
        page = ahead.pop().resolve()
        if page not in reached:
            reached.add(page)
            ahead += [target for target, _ in links(page) if target.suffix == ".md"]
    assert {page.resolve() for page in DOCS.rglob("*.md")} <= reached


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_and_option_in_a_page_exists(page: Path) -> None:
    for words in commands(page.read_text()):
        check_command(words)


def test_a_command_that_is_not_there_is_noticed() -> None:
    text = "`nearhit entries show ID` and\n```\nnearhit check --config a.yaml  # fine\n```\n"
    assert sorted(commands(text)) == ["check --config a.yaml ", "entries show ID"]
    for words in ("entries lose ID", "check --wrongly", "serve --config a.yaml --ports 1"):
        with pytest.raises(AssertionError, match="nearhit"):
            check_command(words)


def test_configurations_in_pages_are_what_the_loaders_take(tmp_path: Path) -> None:
    seen = Counter[str]()
    for page in PAGES:
        for _, block in FENCED.findall(page.read_text()):
            marked = re.match(r"\s*# (nearhit|policies)\.yaml\b", block)
            if marked is None:
                continue
            seen[f"{marked[1]}.yaml"] += 1
            if marked[1] == "policies":
                parse_policies(yaml.safe_load(block), page.name)
            else:
                file = tmp_path / "nearhit.yaml"
                file.write_text(block)
                load_settings(file)
    assert seen["nearhit.yaml"] >= 2 and seen["policies.yaml"] >= 2, seen


def test_the_example_policies_load() -> None:
    for file in (DOCS / "examples").glob("*.yaml"):
        load_policies(file)


def test_every_source_file_is_in_the_table_of_rooms() -> None:
    text = (DOCS / "architecture.md").read_text()
    for package in ("proxy", "embed", "store"):
        for file in (ROOT / package).glob("*.py"):
            if file.name != "__init__.py":
                assert file.name in text, file


def test_the_schemas_that_a_page_names_are_those_of_the_code() -> None:
    text = " ".join((DOCS / "running.md").read_text().split())
    assert f"schema is version {sqlite_schema.VERSION};" in text
    assert f"reads versions 1 to {sqlite_schema.VERSION}`" in text
    assert f"(`{{nearhit}}:schema`, {redis_schema.VERSION})" in text


def test_the_readme_names_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in ("run", "test"):
        assert f"make {target}" in readme
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
