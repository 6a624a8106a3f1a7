"""The score that decides now: as shipped, or as the calibration in the data directory has it.

Lookups read one attribute. The file is looked at every two seconds; what it says is checked as a
whole before it counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from store.decision.budgets import Budgets
from store.decision.calibration_file import Calibration, read_calibration
from store.decision.score import Score, shipped_score
from store.errors import ScoreInvalid

log = logging.getLogger("nearhit.calibration")

WATCH_EVERY = 2.0  # seconds between two looks at the file
_Mark = tuple[int, int, int] | None  # of a file: inode, size, time of change
_Found = tuple[Score, Calibration | None]


class LiveScore:
    """The score in force. Only `reload` changes it."""

    def __init__(
        self, shipped: Score | None, file: Path | None = None, *, only: Calibration | None = None
    ) -> None:
        """`shipped` is None when none fits the encoder; `file` None: no file calibrates it.

        With `only`, nothing but what that calibrates decides.
        """
        self.now = shipped if shipped is None or only is None else shipped.only(only.heads)
        self._otherwise = "shipped" if only is None else "none"
        self._shipped = shipped
        self._file = file
        self._calibration = only
        self._seen: _Mark = None

    def point(self, category: str, budget: float) -> float:
        """Return the largest P(wrong) to serve before there is evidence; 0.0 without a score."""
        return 0.0 if self.now is None else self.now.point(category, budget)

    def decided_by(self, category: str) -> str:
        """Return the date of the calibration that decides about a category, `shipped` or `none`."""
        if self.now is None:
            return "none"
        calibration = self._calibration
        if calibration is None or self.now.head_name(category) not in calibration.heads:
            return self._otherwise
        return calibration.at

    def reload(self) -> bool:
        """Look at the file; return whether another calibration is in force now.

        Without the file it is the shipped one. A bad file is logged once, and nothing changes.
        """
        found = self._look()
        return found is not None and self._take(found)

    def _look(self) -> _Found | None:
        """Return what the file says now, None if it is what it was or is refused."""
        if self._file is None or self._shipped is None:
            return None
        mark = _mark_of(self._file)
        if mark == self._seen:
            return None
        self._seen = mark
        try:
            calibration = read_calibration(self._file)
            score = self._shipped if calibration is None else calibration.over(self._shipped)
        except ScoreInvalid as error:
            in_force = "shipped score" if self._calibration is None else "calibration in force"
            log.error("%s is refused, the %s stays: %s", self._file, in_force, error)
            return None
        return score, calibration

    def _take(self, found: _Found) -> bool:
        self.now, self._calibration = found
        at = "shipped" if self._calibration is None else self._calibration.at
        log.info("the score is calibrated as %s", at)
        return True

    async def follow(self) -> bool:
        """Look at the file beside the event loop; return as `reload` does.

        Nothing runs between the change and the return.
        """
        found = await asyncio.to_thread(self._look)
        return found is not None and self._take(found)


def live_score(checkpoint: str, calibration: Path | None = None) -> LiveScore:
    """Return the shipped score, calibrated by the file, if it fits the checkpoint; else none.

    Raises ScoreInvalid when what is shipped cannot be read.
    """
    score = shipped_score()
    if not score.fits(checkpoint):
        return LiveScore(None)
    live = LiveScore(score, calibration)
    live.reload()
    return live


def score_by(calibration: Calibration | None, shipped: Score) -> LiveScore:
    """Return the score for a checkpoint that the shipped one does not fit.

    Only what was calibrated to its cosines decides; without a calibration, or with one that was
    fitted over another score, nothing does.
    """
    if calibration is None or calibration.score != shipped.digest:
        return LiveScore(None)
    return LiveScore(shipped, only=calibration)


async def watch(live: Callable[[], LiveScore], budgets: Budgets) -> None:
    """Look after the calibration of the score in force for ever; `live` says which that is.

    The budgets are told of another calibration, which ships their points.
    """
    while True:
        await asyncio.sleep(WATCH_EVERY)
        try:
            score = live()
            if await score.follow() and score is live():
                budgets.ship(score.point)
        except Exception:
            log.exception("the calibration could not be looked after; trying again")


def _mark_of(file: Path) -> _Mark:
    try:
        seen = file.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns
