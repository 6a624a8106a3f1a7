"""`calibration.json` in the data directory: how the score is to be read on this traffic.

It names the score that it was fitted over; for another one, its numbers mean nothing.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from store.decision.calibration import FLATTEST, STEEPEST
from store.decision.score import Points, Recalibration, Score
from store.errors import ScoreInvalid

CALIBRATION = "calibration.json"
FORMAT = 1
_MOST_BYTES = 2**20
_MOST_BIAS = 30.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was fitted, when, to which score, and to how many labels."""

    at: str  # UTC, ISO 8601
    score: str  # digest of the score's file
    heads: Mapping[str, Recalibration]  # by category; "": those without one of their own
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # counts by head

    def over(self, shipped: Score) -> Score:
        """Return the score calibrated so; raise ScoreInvalid if it was fitted over another."""
        if self.score != shipped.digest:
            raise ScoreInvalid(
                f"score: {self.score!r} is not allowed; allowed: {shipped.digest!r},"
                " the one of this version: run nearhit calibrate again"
            )
        return shipped.with_scalings(self.heads)


def read_calibration(file: Path) -> Calibration | None:
    """Return what the file says, None if there is none; raise ScoreInvalid with one line."""
    try:
        with file.open("rb") as stream:
            read = stream.read(_MOST_BYTES + 1)
        if len(read) > _MOST_BYTES:
            raise ValueError(f"allowed: at most {_MOST_BYTES} bytes")
        said = json.loads(read)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ScoreInvalid(f"{file}: {' '.join(str(error).split())}") from None
    return calibration_of_data(said, str(file))


def calibration_of_data(said: Any, where: str) -> Calibration:
    """Return what plain values say; raise ScoreInvalid with one line that begins with `where`."""
    try:
        if said["format"] != FORMAT:
            raise ValueError(f"format: {said['format']!r} is not allowed; allowed: {FORMAT}")
        heads = {str(name): _head_of(name, head) for name, head in said["heads"].items()}
        labels = {str(name): dict(head["labels"]) for name, head in said["heads"].items()}
        return Calibration(str(said["at"]), str(said["score"]), heads, labels)
    except KeyError as error:
        raise ScoreInvalid(f"{where}: {error.args[0]}: is missing") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ScoreInvalid(f"{where}: {' '.join(str(error).split())}") from None


def calibration_as_data(calibration: Calibration) -> dict[str, Any]:
    """Return it as plain values for JSON."""
    return {
        "format": FORMAT,
        "at": calibration.at,
        "score": calibration.score,
        "heads": {
            name: {
                "scaling": head.scaling,
                "points": head.points,
                "labels": dict(calibration.labels.get(name, {})),
            }
            for name, head in calibration.heads.items()
        },
    }


def write_calibration(calibration: Calibration, file: Path) -> None:
    """Replace the file, whole or not at all; raise OSError."""
    said = calibration_as_data(calibration)
    handle, unfinished = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w") as stream:
            json.dump(said, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, file)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def _head_of(name: str, said: Mapping[str, Any]) -> Recalibration:
    slope, bias = (float(each) for each in said["scaling"])
    if not (FLATTEST <= slope <= STEEPEST and abs(bias) <= _MOST_BIAS):  # NaN is neither
        raise ValueError(
            f"heads.{name}.scaling: {[slope, bias]} is not allowed; allowed: a slope from"
            f" {FLATTEST} to {STEEPEST:g} and a bias from -{_MOST_BIAS:g} to {_MOST_BIAS:g}"
        )
    points: Points = tuple((float(budget), float(point)) for budget, point in said["points"])
    rising = all(a[0] < b[0] and a[1] <= b[1] for a, b in zip(points, points[1:], strict=False))
    inside = all(0 < budget < 1 and 0 <= point <= 1 for budget, point in points)
    if not (points and rising and inside and math.isfinite(points[-1][1])):
        raise ValueError(
            f"heads.{name}.points: {said['points']!r:.200} is not allowed; allowed: pairs of a"
            " budget and a P(wrong), from 0 to 1 and rising"
        )
    return Recalibration((slope, bias), points)
