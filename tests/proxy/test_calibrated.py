"""The score in force follows the calibration in the data directory, and survives a bad one."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from proxy import calibrated
from proxy.calibrated import LiveScore, score_by
from store.decision.budgets import Budgets
from store.decision.calibration_file import CALIBRATION, Calibration, write_calibration
from store.decision.score import POOLED, Recalibration, shipped_score

SHIPPED = shipped_score()


def write(directory: Path, at: str, point: float, *names: str, score: str = SHIPPED.digest) -> None:
    new = Recalibration((0.5, -1.0), ((0.001, point),))
    write_calibration(Calibration(at, score, dict.fromkeys(names, new)), directory / CALIBRATION)


def live(directory: Path) -> LiveScore:
    return LiveScore(SHIPPED, directory / CALIBRATION)


def test_without_a_file_the_shipped_score_decides(tmp_path: Path) -> None:
    score = live(tmp_path)
    assert not score.reload()
    assert (score.now, score.decided_by("fares")) == (SHIPPED, "shipped")


def test_a_calibration_decides_about_its_own_heads(tmp_path: Path) -> None:
    score = live(tmp_path)
    write(tmp_path, "monday", 0.07, "fares")
    assert score.reload()
    assert not score.reload()
    assert (score.decided_by("fares"), score.point("fares", 0.001)) == ("monday", 0.07)
    assert (score.decided_by("tides"), score.point("tides", 0.001)) == ("shipped", 0.0)
    write(tmp_path, "tuesday", 0.03, POOLED)
    assert score.reload()
    assert (score.decided_by("fares"), score.point("tides", 0.001)) == ("tuesday", 0.03)
    assert score.decided_by("math") == "shipped"  # that has a head of its own


def test_removing_the_file_takes_it_back(tmp_path: Path) -> None:
    score = live(tmp_path)
    write(tmp_path, "monday", 0.07, "fares")
    score.reload()
    (tmp_path / CALIBRATION).unlink()
    assert score.reload()
    assert (score.now, score.decided_by("fares")) == (SHIPPED, "shipped")


@pytest.mark.parametrize("fault", ["damaged", "another score"])
def test_a_bad_file_is_said_once_and_changes_nothing(
    fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    score = live(tmp_path)
    if fault == "damaged":
        (tmp_path / CALIBRATION).write_text("{")
    else:
        write(tmp_path, "monday", 1.0, POOLED, score="other")
    assert not score.reload()
    assert not score.reload()
    assert (score.now, score.decided_by("fares")) == (SHIPPED, "shipped")
    assert len(caplog.records) == 1
    assert "the shipped score stays" in caplog.text
    write(tmp_path, "tuesday", 0.07, "fares")
    assert score.reload()
    (tmp_path / CALIBRATION).write_text("{")
    assert not score.reload()
    assert score.decided_by("fares") == "tuesday"


def test_where_no_score_fits_the_encoder_nothing_is_read_or_served(tmp_path: Path) -> None:
    write(tmp_path, "monday", 0.07, POOLED)
    score = LiveScore(None, tmp_path / CALIBRATION)
    assert not score.reload()
    assert (score.now, score.point("fares", 0.001), score.decided_by("fares")) == (
        None,
        0.0,
        "none",
    )


async def test_the_watch_tells_the_budgets_of_another_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrated, "WATCH_EVERY", 0.01)
    score = live(tmp_path)
    budgets = Budgets(score.point)
    assert budgets.point("fares", 0.001) == 0.0
    watch = asyncio.create_task(calibrated.watch(lambda: score, budgets))
    write(tmp_path, "monday", 0.07, "fares")
    async with asyncio.timeout(5):
        while budgets.point("fares", 0.001) != 0.07:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    watch.cancel()
    with suppress(asyncio.CancelledError):
        await watch


def test_for_a_checkpoint_that_the_score_does_not_fit_only_its_calibration_decides() -> None:
    new = Recalibration((0.5, -1.0), ((0.001, 0.07),))
    score = score_by(Calibration("monday", SHIPPED.digest, {"fares": new}), SHIPPED)
    assert (score.decided_by("fares"), score.point("fares", 0.001)) == ("monday", 0.07)
    assert (score.decided_by("tides"), score.point("tides", 0.5)) == ("none", 0.0)
    assert not score.reload()
    for nothing in (None, Calibration("monday", "another score", {"fares": new})):
        score = score_by(nothing, SHIPPED)
        assert (score.now, score.decided_by("fares"), score.point("fares", 0.5)) == (
            None,
            "none",
            0,
        )
