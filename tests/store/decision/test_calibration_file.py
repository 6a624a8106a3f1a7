"""calibration.json: what was written is read again, and nothing half right is taken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.decision.calibration_file import (
    CALIBRATION,
    Calibration,
    calibration_as_data,
    calibration_of_data,
    read_calibration,
    write_calibration,
)
from store.decision.score import POOLED, Recalibration, shipped_score
from store.errors import ScoreInvalid

SHIPPED = shipped_score()
PAIRS = [("how do I renew a library card", "renewing my library card", 0.9)]


def calibration(*names: str, score: str = SHIPPED.digest) -> Calibration:
    new = Recalibration((0.5, -1.0), ((0.01, 0.0), (0.05, 0.2)))
    return Calibration("2026-11-24T12:00:00+00:00", score, dict.fromkeys(names, new))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / CALIBRATION
    said = Calibration(
        "2026-11-24T12:00:00+00:00",
        SHIPPED.digest,
        calibration("fares", POOLED).heads,
        {"fares": {"audit": 70}, POOLED: {"near-miss": 90}},
    )
    write_calibration(said, file)
    assert read_calibration(file) == said
    assert [each.name for each in tmp_path.iterdir()] == [CALIBRATION]


def test_no_file_is_no_calibration(tmp_path: Path) -> None:
    assert read_calibration(tmp_path / CALIBRATION) is None


def test_only_the_calibrated_heads_change() -> None:
    score = calibration("fares").over(SHIPPED)
    was, now = SHIPPED.alone(PAIRS, "fares"), score.alone(PAIRS, "fares")
    np.testing.assert_allclose(now, 0.5 * was - 1.0)
    assert (score.point("fares", 0.01), score.point("fares", 0.06)) == (0.0, 0.2)
    for other in ("tides", "math"):
        assert score.alone(PAIRS, other) == SHIPPED.alone(PAIRS, other)
        assert score.points(other) == SHIPPED.points(other)
    assert (score.head_name("fares"), score.head_name("tides")) == ("fares", POOLED)


def test_a_category_of_its_own_is_made_from_the_shipped_pool_not_the_calibrated() -> None:
    both = calibration("fares", POOLED).over(SHIPPED)
    assert both.alone(PAIRS, "fares") == calibration("fares").over(SHIPPED).alone(PAIRS, "fares")


def test_both_models_of_a_head_are_scaled_alike() -> None:
    seen = np.zeros((1, len(SHIPPED.heads[POOLED].sparse.line.slopes)))
    head = calibration(POOLED).over(SHIPPED).heads[POOLED]
    for now, was in (
        (head.sparse, SHIPPED.heads[POOLED].sparse),
        (head.crowded, SHIPPED.heads[POOLED].crowded),
    ):
        slope, bias = was.scaling
        odds = 0.5 * (slope * was.log_odds(seen) + bias) - 1.0
        np.testing.assert_allclose(now.wrong(seen), 1 / (1 + np.exp(odds)))


def test_a_calibration_of_another_score_is_refused() -> None:
    with pytest.raises(ScoreInvalid, match="'other' is not allowed"):
        calibration("fares", score="other").over(SHIPPED)


def broken(**changes: Any) -> str:
    head = {"scaling": [1.0, 0.0], "points": [[0.01, 0.1]], "labels": {}} | changes
    said = {"format": 1, "at": "now", "score": SHIPPED.digest, "heads": {"fares": head}}
    return json.dumps(said)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"format": 2}',
        '{"format": 1, "at": "now", "score": "", "heads": []}',
        "[" * 100_000,
        "x" * (2**20 + 1),
        broken(scaling=[0.0, 0.0]),
        broken(scaling=[-1.0, 0.0]),
        broken(scaling=[float("nan"), 0.0]),
        broken(scaling=[1.0, float("inf")]),
        broken(scaling=[1.0]),
        broken(points=[]),
        broken(points=[[0.01, 1.5]]),
        broken(points=[[0.01, float("nan")]]),
        broken(points=[[0.05, 0.1], [0.01, 0.2]]),
        broken(points=[[0.01, 0.2], [0.05, 0.1]]),
        broken(labels=None),
    ],
)
def test_a_damaged_file_is_refused_in_one_line_that_names_it(text: str, tmp_path: Path) -> None:
    file = tmp_path / CALIBRATION
    file.write_text(text)
    with pytest.raises(ScoreInvalid) as refused:
        read_calibration(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert len(str(refused.value).splitlines()) == 1
    file.write_text(broken())
    assert read_calibration(file) is not None


def test_plain_values_say_what_a_file_says(tmp_path: Path) -> None:
    said = replace(calibration("fares"), labels={"fares": {"audit": 70}})
    write_calibration(said, tmp_path / CALIBRATION)
    data = json.loads((tmp_path / CALIBRATION).read_text())
    assert calibration_of_data(data, "x") == said
    assert json.loads(json.dumps(calibration_as_data(said))) == data
    with pytest.raises(ScoreInvalid, match="^x: score: is missing"):
        calibration_of_data({"format": 1, "heads": {}, "at": ""}, "x")
