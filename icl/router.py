"""Which model answers: a contextual bandit by Thompson sampling, under a quality floor.

The score of an arm is the paper's (IC-Cache, PAPERS.md 2.4) with a standing price on top:

    S_i = q_i - (w + lambda0 * tanh(gamma * L)) * C_i        w = 1 - floor

`q_i` is the quality that the arm's answer will have, 1 for the requested model; `C_i` the price
relative to the requested model's, 1 for that; `L` the load. So without load a small arm is chosen
exactly when its quality, less its own share of the price, reaches the floor:
q - w * C >= 1 - w = floor. Load lowers that bar. Quality is drawn from what is believed of it,
which tries what is not known well (Thompson sampling).

Beliefs: one regression per small model and arm over the context, for what all categories have in
common, and one per category for how it differs. Both forget (`icl.linear`).

Whatever the scores say, an arm takes ordinary traffic of a category only while its record there
holds the floor (`icl.floor`). An arm on trial, or back from a fall, gets the share of exploration
alone, all of which is worth judging; with an exploration of 0 it never opens by itself, only by
what is learnt from elsewhere.
"""

from __future__ import annotations

import random
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from math import erf, exp, pi, sqrt, tanh
from statistics import pstdev
from typing import Any

import numpy as np

from icl.arms import Arm, Choice, Observation, Situation
from icl.context import BIAS, SIZE
from icl.floor import Guard, State
from icl.linear import Linear, Row

VERSION = 1  # of the data; what is learnt under another is dropped
SMALL_ARMS = (Arm.EXAMPLES, Arm.SMALL)
_CENTRE = 0.5  # quality of which the regressions learn the distance
_SHARED_SPREAD = (0.25, 0.05)  # prior variance of the constant, and of each other weight
_OWN_SPREAD = (0.1, 0.02)
_HOPELESS = 0.1  # least weight of an arm in exploration; 1 is sure to reach the floor
_FEW = 20.0  # observations, below which an arm's record is no certainty
_NEAR = 0.1  # standard deviation of the scores below which they tell little (PAPERS.md 2.4)
_AUDIT_SURE, _AUDIT_UNSURE, _AUDIT_DOUBTED = 0.06, 0.25, 0.8
_SHOCK_OWN, _SHOCK_SHARED = 0.8, 0.5  # share that is forgotten of an arm that fell
_SHARE_MEMORY = 200.0  # requests
_STEPS = 24  # of the integral over the better of two arms


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How the router learns and weighs."""

    load_weight: float = 0.3  # lambda0: what full load takes off an arm of price 1
    load_slope: float = 1.0  # gamma
    memory: float = 120.0  # judged answers of an arm
    noise: float = 0.15  # variance of one judged quality
    most: int = 512  # pairs of category and small model; who learnt longest ago leaves


class _Record:
    """What is known of one small model in one category."""

    def __init__(self, settings: Tuning) -> None:
        self.models = {arm: _model(_OWN_SPREAD, settings) for arm in SMALL_ARMS}
        self.guards = {arm: Guard(memory=settings.memory) for arm in SMALL_ARMS}
        self.shares = dict.fromkeys(Arm, 0.0)
        self.judged = True


class Router:
    """Chooses an arm for each request and learns from judged answers.

    The same observations in the same order make the same router, live, at a restart, or told by
    another replica.
    """

    def __init__(self, *, settings: Tuning = Tuning(), draw: random.Random) -> None:
        self._settings = settings
        self._draw = draw
        self._shared: dict[tuple[str, Arm], Linear] = {}
        self._records: dict[tuple[str, str], _Record] = {}

    def choose(self, situation: Situation) -> Choice:
        """Return who answers. Raises ValueError for a context of another size."""
        if len(situation.context) != SIZE:
            raise ValueError(f"a context of {len(situation.context)} numbers, not {SIZE}")
        record = self._record(situation.category, situation.small)
        record.judged = situation.judged
        beliefs = self._beliefs(situation, record)
        if not situation.judged:
            choice = _without_judgement(situation, beliefs)
        else:
            choice = self._weigh(situation, record, beliefs)
        for arm, share in record.shares.items():
            record.shares[arm] += ((arm is choice.arm) - share) / _SHARE_MEMORY
        return choice

    def learn(self, observation: Observation) -> None:
        """Take up a judged or reported answer; what can't be learnt from is passed over."""
        arm, trust = observation.arm, min(observation.weight, 1.0)
        if arm is Arm.REQUESTED or len(observation.context) != SIZE or trust <= 0.0:
            return
        x = np.array(observation.context)
        y = min(max(observation.quality, 0.0), 1.0)
        key = (observation.category, observation.small)
        record = self._records[key] = self._records.pop(key, None) or self._record(*key)
        shared, own = self._common(observation.small, arm), record.models[arm]
        own.learn(x, y - _CENTRE - shared.predict(x)[0], trust)
        shared.learn(x, y - _CENTRE, trust)
        if record.guards[arm].learn(y, observation.weight, observation.at):
            own.forget(_SHOCK_OWN)
            shared.forget(_SHOCK_SHARED)
            for (_, small), other in self._records.items():
                if small == observation.small and other is not record:
                    other.guards[arm].alarm()

    def keep(self, categories: Container[str]) -> None:
        """Forget all categories but these."""
        self._records = {
            key: record for key, record in self._records.items() if key[0] in categories
        }

    def standings(self) -> list[dict[str, Any]]:
        """Return what is known of each category, small model and arm, for people to read."""
        return [
            _standing(category, small, arm, record)
            for (category, small), record in sorted(self._records.items())
            for arm in SMALL_ARMS
        ]

    def as_data(self) -> dict[str, Any]:
        """Return all that was learnt, for JSON."""
        return {
            "version": VERSION,
            "size": SIZE,
            "shared": [[small, arm, m.as_data()] for (small, arm), m in self._shared.items()],
            "records": [[*key, _as_data(record)] for key, record in self._records.items()],
        }

    @classmethod
    def from_data(cls, data: Any, *, settings: Tuning = Tuning(), draw: random.Random) -> Router:
        """Return a router that knows what `as_data` returned; a new one for any other data."""
        router = cls(settings=settings, draw=draw)
        try:
            if (data["version"], data["size"]) != (VERSION, SIZE):
                return router
            for small, arm, learnt in data["shared"]:
                router._common(str(small), Arm(arm)).restore(learnt)
            for category, small, learnt in data["records"][-settings.most :]:
                _restore(router._record(str(category), str(small)), learnt)
        except (LookupError, TypeError, ValueError, AttributeError):
            return cls(settings=settings, draw=draw)
        return router

    def _weigh(
        self, situation: Situation, record: _Record, beliefs: Mapping[Arm, tuple[float, float]]
    ) -> Choice:
        """Choose by what is believed, among the arms that hold the floor, or explore."""
        for arm in SMALL_ARMS:
            record.guards[arm].hold_to(situation.floor)
        toll = self._toll(situation)
        scores = _scores(beliefs, situation, toll)
        open_arms = [arm for arm in beliefs if record.guards[arm].state is State.OPEN]
        favourite = max([Arm.REQUESTED, *open_arms], key=scores.__getitem__)
        apart = _exploration(situation, record, [arm for arm in scores if arm is not favourite])
        explored = self._draw.random() < situation.exploration
        if explored:
            arm = self._draw.choices(list(apart), list(apart.values()))[0]
        else:
            arm = self._sample(open_arms, beliefs, situation, toll)
        chances = _best_chances(open_arms, beliefs, situation, toll)
        chance = (1.0 - situation.exploration) * chances.get(arm, 0.0)
        chance += situation.exploration * apart.get(arm, 0.0)
        unsure = pstdev(scores.values()) < _NEAR
        if arm is not Arm.REQUESTED:
            unsure = unsure or record.guards[arm].observations < _FEW
        return Choice(
            arm=arm,
            probability=min(1.0, max(chance, 1e-6)),
            explored=explored,
            unsure=unsure,
            scores=scores,
            audit=_audit(arm, record, unsure),
        )

    def _sample(
        self,
        arms: Sequence[Arm],
        beliefs: Mapping[Arm, tuple[float, float]],
        situation: Situation,
        toll: float,
    ) -> Arm:
        """Return the arm of the best score, quality drawn from what is believed of it."""
        best, most = Arm.REQUESTED, 1.0 - toll
        for arm in arms:
            mean, deviation = beliefs[arm]
            score = self._draw.gauss(mean, deviation) - toll * situation.price
            if score >= most:
                best, most = arm, score
        return best

    def _toll(self, situation: Situation) -> float:
        """Return what an arm of price 1 pays."""
        load = self._settings.load_weight * tanh(self._settings.load_slope * situation.load)
        return 1.0 - situation.floor + load

    def _beliefs(self, situation: Situation, record: _Record) -> dict[Arm, tuple[float, float]]:
        """Return mean and standard deviation of the quality of each small arm to be had."""
        x = np.array(situation.context)
        return {
            arm: self._belief(situation.small, arm, record, x)
            for arm in SMALL_ARMS
            if arm is Arm.SMALL or situation.examples > 0
        }

    def _belief(self, small: str, arm: Arm, record: _Record, x: Row) -> tuple[float, float]:
        common, unsure = self._common(small, arm).predict(x)
        own, more = record.models[arm].predict(x)
        return min(max(_CENTRE + common + own, 0.0), 1.0), sqrt(unsure + more)

    def _common(self, small: str, arm: Arm) -> Linear:
        model = self._shared.get((small, arm))
        if model is None:
            while len(self._shared) >= self._settings.most * len(SMALL_ARMS):
                self._shared.pop(next(iter(self._shared)))
            model = self._shared[small, arm] = _model(_SHARED_SPREAD, self._settings)
        return model

    def _record(self, category: str, small: str) -> _Record:
        record = self._records.get((category, small))
        if record is None:
            while len(self._records) >= self._settings.most:
                self._records.pop(next(iter(self._records)))
            record = self._records[category, small] = _Record(self._settings)
        return record


def _model(spread: tuple[float, float], settings: Tuning) -> Linear:
    variances = np.full(SIZE, spread[1])
    variances[BIAS] = spread[0]
    return Linear(variances, noise=settings.noise, memory=settings.memory)


def _scores(
    beliefs: Mapping[Arm, tuple[float, float]], situation: Situation, toll: float
) -> dict[Arm, float]:
    scores = {arm: mean - toll * situation.price for arm, (mean, _) in beliefs.items()}
    return {Arm.REQUESTED: 1.0 - toll, **scores}


def _without_judgement(
    situation: Situation, beliefs: Mapping[Arm, tuple[float, float]]
) -> Choice:
    """Choose where nobody will say how good the answers are: examples, or nothing new."""
    return Choice(
        arm=Arm.EXAMPLES if situation.examples > 0 else Arm.REQUESTED,
        probability=1.0,
        explored=False,
        unsure=False,
        scores=_scores(beliefs, situation, 1.0 - situation.floor),
        audit=0.0,
    )


def _exploration(situation: Situation, record: _Record, arms: Sequence[Arm]) -> dict[Arm, float]:
    """Share exploration out by the chance that an arm reaches the floor."""
    weights = {
        arm: 1.0
        if arm is Arm.REQUESTED
        else max(_HOPELESS, record.guards[arm].chance(situation.floor))
        for arm in arms
    }
    whole = sum(weights.values())
    return {arm: weight / whole for arm, weight in weights.items()}


def _best_chances(
    arms: Sequence[Arm],
    beliefs: Mapping[Arm, tuple[float, float]],
    situation: Situation,
    toll: float,
) -> dict[Arm, float]:
    """Return how probably each arm's drawn score is the best, the requested model's included."""
    bar = 1.0 - toll + toll * situation.price  # quality from which a small arm is better
    below = {arm: _below(bar, *beliefs[arm]) for arm in arms}
    if len(arms) < 2:
        return {Arm.REQUESTED: below.get(arms[0], 1.0), arms[0]: 1.0 - below[arms[0]]} if arms else {
            Arm.REQUESTED: 1.0
        }
    one, other = arms
    neither = below[one] * below[other]
    (mean, deviation), rival = beliefs[one], beliefs[other]
    lowest, highest = max(bar, mean - 5.0 * deviation), mean + 5.0 * deviation
    step = (highest - lowest) / _STEPS
    first = 0.0
    if step > 0.0:
        for number in range(_STEPS):
            quality = lowest + (number + 0.5) * step
            density = exp(-0.5 * ((quality - mean) / deviation) ** 2) / (deviation * sqrt(2.0 * pi))
            first += density * _below(quality, *rival) * step
    first = min(first, 1.0 - neither)
    return {Arm.REQUESTED: neither, one: first, other: 1.0 - neither - first}


def _below(bar: float, mean: float, deviation: float) -> float:
    return 0.5 * (1.0 + erf((bar - mean) / (deviation * sqrt(2.0))))


def _audit(arm: Arm, record: _Record, unsure: bool) -> float:
    """Return how probably the answer is to be judged; the reference needs no judge."""
    if arm is Arm.REQUESTED:
        return 0.0
    guard = record.guards[arm]
    if guard.state is not State.OPEN:
        return 1.0
    usual = _AUDIT_UNSURE if unsure else _AUDIT_SURE
    return usual + (_AUDIT_DOUBTED - usual) * sqrt(guard.doubt)


def _standing(category: str, small: str, arm: Arm, record: _Record) -> dict[str, Any]:
    known = record.guards[arm].estimate()
    return {
        "category": category,
        "small": small,
        "arm": arm.value,
        "n": round(known.observations, 1),
        "quality": round(known.mean, 4),
        "lower": round(known.lower, 4),
        "upper": round(known.upper, 4),
        "state": record.guards[arm].state.value if record.judged else "unjudged",
        "share": round(record.shares[arm], 4),
    }


def _as_data(record: _Record) -> dict[str, Any]:
    return {
        "judged": record.judged,
        "shares": [record.shares[arm] for arm in Arm],
        "models": [record.models[arm].as_data() for arm in SMALL_ARMS],
        "guards": [record.guards[arm].as_data() for arm in SMALL_ARMS],
    }


def _restore(record: _Record, data: Mapping[str, Any]) -> None:
    record.judged = bool(data["judged"])
    record.shares = dict(zip(Arm, map(float, data["shares"]), strict=True))
    for arm, learnt in zip(SMALL_ARMS, data["models"], strict=True):
        record.models[arm].restore(learnt)
    for arm, learnt in zip(SMALL_ARMS, data["guards"], strict=True):
        record.guards[arm].restore(learnt)
