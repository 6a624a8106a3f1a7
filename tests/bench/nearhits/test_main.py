"""The command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.nearhits.__main__ import SECTIONS, read_plan


def test_quick_is_the_default_and_leaves_the_record_alone() -> None:
    plan = read_plan(["--data", "sets"])
    assert plan == read_plan(["--data", "sets", "--quick"])
    assert (plan.data, plan.each, plan.requests, plan.sections) == (Path("sets"), 25, 300, SECTIONS)
    assert plan.results.name == "nearhits-quick.json.tmp"


def test_a_full_run_writes_the_record() -> None:
    plan = read_plan(["--data", "sets", "--full"])
    assert (plan.requests, plan.quick, plan.results.name) == (3000, False, "nearhits.json")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--only", "nothing"], id="an unknown section"),
        pytest.param(["--arms", "guess"], id="an unknown arm"),
        pytest.param(["--quick", "--full"], id="two lengths"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        read_plan(["--data", "sets", *arguments])


def test_without_data_there_is_nothing_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEARHIT_DATA", raising=False)
    with pytest.raises(SystemExit):
        read_plan([])
