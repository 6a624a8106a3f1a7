"""`nearhit eval`: results alone on stdout, progress on stderr, faults in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from proxy.cli import app
from tests.proxy.evaluation.test_scores import KEYS

ROWS = [
    {"q1": "Why is the sky blue?", "q2": "Why's the sky blue?", "label": 1},
    {"q1": "Name a tree with needles", "q2": "Name the tree with needles", "label": 0},
    {"q1": "Add 17 and 25", "q2": "Add 17 and 26", "label": 0},
]


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NEARHIT_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    (tmp_path / "p.yaml").write_text("categories: [{name: default, hit_threshold: 0.8}]")
    config = tmp_path / "nearhit.yaml"
    config.write_text("policies: p.yaml\n")
    return config


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


def file_of(folder: Path, *rows: object, name: str = "pairs.jsonl") -> Path:
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.slow
def test_pairs_prints_json_alone_on_stdout_and_touches_no_data(
    tmp_path: Path, policies: Path
) -> None:
    first, second = file_of(tmp_path, *ROWS[:2]), file_of(tmp_path, ROWS[2], name="sums.jsonl")
    others = file_of(tmp_path, {"text": "Where is the harbour?"}, name="others.jsonl")
    done = run(
        "pairs", first, second, "--distractors", others, "--config", policies, "--json", "--wrong"
    )
    assert done.exit_code == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["file"] for row in rows] == [str(first), str(second), "ALL"]
    assert all(list(row) == KEYS for row in rows)
    assert [(row["n"], row["hits"], row["wrong_hits"]) for row in rows] == [
        (2, 2, 1),
        (1, 0, 0),
        (3, 2, 1),
    ]
    assert "encoded 7 of 7 texts" in done.stderr
    assert "Name the tree with needles" in done.stderr  # the wrong hit
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "nearhit.yaml", "others.jsonl", "p.yaml", "pairs.jsonl", "sums.jsonl",
    ]  # fmt: skip


@pytest.mark.slow
def test_pairs_prints_a_table_with_its_folds(tmp_path: Path, policies: Path) -> None:
    done = run("pairs", file_of(tmp_path, *ROWS), "--config", policies, "--folds", "2")
    assert done.exit_code == 0, done.stderr
    assert [line.split("  ")[0].split("/")[-1] for line in done.stdout.splitlines()] == [
        "file", "pairs.jsonl", "ALL", "fold 1", "fold 2",
    ]  # fmt: skip


def test_a_faulty_row_ends_with_one_line_and_status_2(tmp_path: Path) -> None:
    file = file_of(tmp_path, ROWS[0], {"q1": "Why?", "q2": "Why not?", "label": "no"})
    done = run("pairs", file, "--json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"{file}:2: label: 'no' is not allowed; allowed: 0 or 1\n"


def test_a_file_that_is_not_there_ends_with_one_line_and_status_2(tmp_path: Path) -> None:
    done = run("pairs", tmp_path / "gone.jsonl")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "gone.jsonl: cannot be read" in done.stderr


QUERIES = [
    {"q": "Why is the sky blue?", "answer_id": 1},
    {"q": "Why's the sky blue?", "answer_id": 1},
    {"q": "Why is the sky blue?", "answer_id": 1},
    {"q": "Add 17 and 25", "answer_id": 2},
]


@pytest.mark.slow
def test_stream_prints_windows_and_their_total(tmp_path: Path, policies: Path) -> None:
    file = file_of(tmp_path, *QUERIES, name="stream.jsonl")
    done = run("stream", file, "--config", policies, "--window", "2", "--price-out", "0", "--json")
    assert done.exit_code == 0, done.stderr
    data = json.loads(done.stdout)
    assert [each["queries"] for each in data["windows"]] == [2, 2]
    assert (data["file"], data["total"]["repeats"], data["total"]["repeat_hits"]) == (
        str(file),
        1,
        1,
    )
    assert (data["total"]["semantic_hits"], data["total"]["hit_rate"]) == (1, pytest.approx(1 / 3))
    assert data["total"]["cost"] == pytest.approx(2.5e-6 * (5 + 4 + 5 + 4) * 4 / 3)
    shown = run("stream", file, "--config", policies)
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["up", "4", "ALL"]


def test_a_faulty_query_ends_with_one_line_and_status_2(tmp_path: Path) -> None:
    file = file_of(tmp_path, QUERIES[0], {"q": "Why?"}, name="stream.jsonl")
    done = run("stream", file)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"{file}:2: answer_id: nothing is not allowed")
