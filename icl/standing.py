"""What is known of one small model in one category: its beliefs, its record, its share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from icl.arms import Arm
from icl.confidence import ConfidenceModel
from icl.context import AGREEMENT, BIAS, SIZE
from icl.floor import Guard, State
from icl.linear import Linear

SMALL_ARMS = (Arm.EXAMPLES, Arm.SMALL)
# Prior variance of the weights of the constant and of agreement, and of each other.
SHARED_SPREAD = (0.25, 0.01)
_OWN_SPREAD = (0.1, 0.004)
_FEW = 20.0  # observations, below which an arm's record is no certainty
_SURE, _UNSURE, _DOUBTED = 0.1, 0.25, 0.8  # probability of an audit
_SHARE_MEMORY = 200.0  # requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How the router learns and weighs."""

    load_weight: float = 0.3  # lambda0: what full load takes off an arm of price 1
    load_slope: float = 1.0  # gamma
    memory: float = 120.0  # judged answers of an arm
    noise: float = 0.2  # variance of one judged quality
    spread: float = 0.4  # of what is drawn, in standard deviations of what is believed
    most: int = 512  # pairs of category and small model; who learnt longest ago leaves


_SHADOWS = {State.TRIAL: 1.0, State.BACK: 0.1, State.OPEN: 0.0}


class Standing:
    """One small model in one category."""

    def __init__(self, settings: Tuning) -> None:
        self.models = {arm: regression(_OWN_SPREAD, settings) for arm in SMALL_ARMS}
        self.guards = {arm: Guard(memory=settings.memory) for arm in SMALL_ARMS}
        self.confidences = {arm: ConfidenceModel(noise=settings.noise) for arm in SMALL_ARMS}
        self.judged = True
        self._shares = dict.fromkeys(Arm, 0.0)
        self._counted = 0.0  # requests that the shares are of

    def count(self, chosen: Arm) -> None:
        """Count a request to the arm that answers it."""
        self._counted = min(self._counted + 1.0, _SHARE_MEMORY)
        for arm, share in self._shares.items():
            self._shares[arm] += ((arm is chosen) - share) / self._counted

    def is_known(self, arm: Arm) -> bool:
        """Whether the small arm has been judged often enough to speak of certainty."""
        return self.guards[arm].observations >= _FEW

    def shadow(self, *, cascade: bool) -> float:
        """Return how probably the arm EXAMPLES is to be tried beside the requested model's answer.

        On trial always, so that no client's answer depends on a model that nobody has judged;
        seldom once it has failed; never while it is trusted, for then it answers itself. In a
        cascade a trusted arm may say nothing that goes out, and be tried no more: then seldom, too.
        """
        state = self.guards[Arm.EXAMPLES].state
        return _SHADOWS[State.BACK if cascade and state is State.OPEN else state]

    def audit(self, arm: Arm, unsure: bool) -> float:
        """Return how probably an answer is to be judged; the requested model needs no judge.

        What an untrusted arm may answer is answered to learn from it. A bad answer of a trusted
        one raises doubt, and with it the probability, until good ones take the doubt away.
        """
        if arm is Arm.REQUESTED:
            return 0.0
        guard = self.guards[arm]
        if guard.state is not State.OPEN:
            return 1.0
        usual = _UNSURE if unsure else _SURE
        return usual + (_DOUBTED - usual) * sqrt(guard.doubt)

    def rows(self, category: str, small: str) -> list[dict[str, Any]]:
        """Return what is known of each small arm, for people to read."""
        rows = list[dict[str, Any]]()
        for arm, guard in self.guards.items():
            known = guard.estimate()
            row: dict[str, Any] = {"category": category, "small": small, "arm": arm.value}
            row |= {
                "n": round(known.observations, 1),
                "quality": round(known.mean, 4),
                "lower": round(known.lower, 4),
                "upper": round(known.upper, 4),
                "state": guard.state.value if self.judged else "unjudged",
                "share": round(self._shares[arm], 4),
            }
            rows.append(row)
        return rows

    def as_data(self) -> dict[str, Any]:
        """Return all of it for `restore`."""
        return {
            "judged": self.judged,
            "counted": self._counted,
            "shares": [self._shares[arm] for arm in Arm],
            "models": [self.models[arm].as_data() for arm in SMALL_ARMS],
            "guards": [self.guards[arm].as_data() for arm in SMALL_ARMS],
            "confidences": [self.confidences[arm].as_data() for arm in SMALL_ARMS],
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        """Take up what `as_data` returned. Raises ValueError, KeyError or TypeError for others."""
        self.judged = bool(data["judged"])
        self._counted = float(data["counted"])
        self._shares = dict(zip(Arm, map(float, data["shares"]), strict=True))
        for arm, learnt in zip(SMALL_ARMS, data["models"], strict=True):
            self.models[arm].restore(learnt)
        for arm, learnt in zip(SMALL_ARMS, data["guards"], strict=True):
            self.guards[arm].restore(learnt)
        for arm, learnt in zip(SMALL_ARMS, data["confidences"], strict=True):
            self.confidences[arm].restore(learnt)


def regression(spread: tuple[float, float], settings: Tuning) -> Linear:
    """Return a regression over a context that knows nothing yet."""
    variances = np.full(SIZE, spread[1])
    variances[[BIAS, AGREEMENT]] = spread[0]
    return Linear(variances, noise=settings.noise, memory=settings.memory)
