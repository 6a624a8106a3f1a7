"""Results are told with their bounds, their reasons and where they were measured."""

from __future__ import annotations

import math
from pathlib import Path

import orjson
import pytest

from bench.report import (
    Machine,
    describe_machine,
    installed_version,
    markdown,
    number_text,
    table,
    target_text,
    write_results,
)
from bench.verdicts import Outcome, Reading, Row, Target, at_least, at_most, settle

MACHINE = Machine(
    processor="A Processor",
    cores=2,
    memory_gib=24.0,
    system="Linux",
    python="3.11.7",
    versions={"nearhit": "0.1.0"},
    commit="abc123",
    date="2026-01-02 03:04 UTC",
)


def outcome(value: float, faults: tuple[str, ...] = ()) -> Outcome:
    """One row with one round."""
    row = Row("exact-1", "exact hit, c=1: p50 over the echo's", "ms", at_most(0.6))
    return settle(row, [Reading(value=value, parts={"echo p50 ms": 0.13}, faults=faults)])


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        pytest.param(0.5, "x", "0.50", id="a ratio has no unit"),
        pytest.param(0.614, "ms", "0.61 ms", id="small numbers keep two digits"),
        pytest.param(312.6, "MB", "313 MB", id="large ones none"),
        pytest.param(-0.02, "ms", "-0.02 ms", id="below the floor"),
        pytest.param(math.nan, "ms", "nothing measured", id="nothing"),
    ],
)
def test_numbers(value: float, unit: str, text: str) -> None:
    assert number_text(value, unit) == text


@pytest.mark.parametrize(
    ("target", "unit", "text"),
    [
        pytest.param(at_least(0.5), "x", ">= 0.50", id="lower"),
        pytest.param(at_most(400), "MB", "<= 400 MB", id="upper"),
        pytest.param(None, "/s", "for information", id="none"),
    ],
)
def test_targets(target: Target | None, unit: str, text: str) -> None:
    assert target_text(target, unit) == text


def test_the_table_says_verdict_value_bound_and_what_it_was_computed_from() -> None:
    text = table([outcome(0.31), outcome(0.9), outcome(0.1, ("echo: 2 x read error",))])
    assert [text.splitlines()[at].split()[0] for at in (0, 2, 4)] == ["pass", "fail", "invalid"]
    assert "0.31 ms  <= 0.60 ms" in text
    assert "echo p50 ms 0.13" in text
    assert text.splitlines()[-1].strip() == "! echo: 2 x read error"


def test_an_empty_run_makes_an_empty_table() -> None:
    assert table([]) == ""


def test_markdown_names_the_machine_and_has_a_line_a_row() -> None:
    lines = markdown(MACHINE, [outcome(0.31), outcome(0.1, ("a | b",))]).splitlines()
    assert "2 cores of A Processor" in lines[0] and "commit abc123" in lines[0]
    assert lines[-2] == (
        "| exact hit, c=1: p50 over the echo's | 0.31 ms | <= 0.60 ms | pass | echo p50 ms 0.13 |"
    )
    assert "invalid; a / b" in lines[-1]
    assert {line.count("|") for line in lines[2:]} == {6}


def test_the_file_holds_machine_rows_and_rounds(tmp_path: Path) -> None:
    path = tmp_path / "results" / "proxy.json"
    write_results(path, MACHINE, quick=True, outcomes=[outcome(0.31)])
    record = orjson.loads(path.read_bytes())
    assert record["machine"]["commit"] == "abc123"
    assert record["quick"] is True
    [row] = record["rows"]
    assert (row["case"], row["verdict"], row["target"]) == ("exact-1", "pass", "<= 0.60 ms")
    assert row["rounds"] == [{"value": 0.31, "parts": {"echo p50 ms": 0.13}, "faults": []}]
    assert [file.name for file in path.parent.iterdir()] == ["proxy.json"]


def test_this_machine_can_be_described() -> None:
    machine = describe_machine()
    assert machine.cores >= 1
    assert machine.processor
    assert machine.versions["orjson"] != "absent"
    assert installed_version("no-such-package-anywhere") == "absent"
