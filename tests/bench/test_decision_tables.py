"""The tables go between their marks in a document, and say what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.decision_tables import BEGIN, DOCUMENT, END, budget_table, put


def row(way: str, hits: int, false: int, **more: Any) -> dict[str, Any]:
    shares = {"realised_error": false / hits, "hit_rate": hits / 1000}
    return {"way": way, "seed": 1, "semantic_hits": hits, "false_hits": false, **shares, **more}


STATE = {"state": "unproven", "point": 0.05, "audits": 7, "wrong": 1, "refuted": (), "sampling": 1}


def test_ours_stands_beside_the_best_cosine_of_no_larger_an_error() -> None:
    ours = row("ours", 100, 1, audits=7, controls=3, states={"default": STATE})
    rows = [ours, row("cosine 0.9", 200, 9), row("cosine 0.97", 60, 0), row("cosine 0.99", 20, 0)]
    line = budget_table(rows).splitlines()[-1]
    assert "cosine 0.97: 0.0600" in line
    assert "100 (1)" in line
    assert "default 0.05 unproven" in line


def test_what_stood_between_the_marks_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    document = tmp_path / "numbers.md"
    document.write_text(f"before\n\n{BEGIN}\n\nold\n\n{END}\nafter\n")
    put("new", document)
    put("newer", document)
    assert document.read_text() == f"before\n\n{BEGIN}\n\nnewer\n\n{END}\nafter\n"
    document.write_text("no marks")
    with pytest.raises(ValueError, match="marks"):
        put("new", document)


def test_the_documentation_has_the_marks() -> None:
    said = DOCUMENT.read_text(encoding="utf-8")
    assert said.index(BEGIN) < said.index(END)
