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
alone, all of which is worth judging. Where the arm holds another category's floor its trial is
shorter, and a fall in one category makes all others doubt the arm. With an exploration of 0 an arm
never opens by itself, only by what is learnt from elsewhere.

Where the small model's confidence is looked at (a cascade, `icl.confidence`) there are two
decisions. Before it is asked: is it likely to say something that may go out, and right? What is
believed of an arm is the quality of what it may send, 0 for what it may not, and a try pays from
less than the floor on, for a small model's time is cheap. After it has answered: is the quality
that goes with such a confidence at the bar above, and never under the floor? Held against the floor
is what was sent or would have been: a part of a category that is too hard for an arm does not keep
the rest from it.

The router is unsure where the scores of the arms in contention, the requested model and those that
hold the floor, have a standard deviation under 0.1 (the paper's rule), or the record is short.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Mapping, Sequence
from math import sqrt, tanh
from typing import Any, NamedTuple

import numpy as np

from icl.arms import Arm, Choice, Favour, Observation, Situation
from icl.confidence import Confidence
from icl.context import SIZE
from icl.floor import State, Turn
from icl.linear import Linear, Row
from icl.standing import SHARED_SPREAD, SMALL_ARMS, Standing, Tuning, regression
from icl.thompson import Belief, Prices, chances, sample, scores

__all__ = ["Router", "Tuning"]

VERSION = 1  # of the data; what is learnt under another is dropped
_CENTRE = 0.5  # quality of which the regressions learn the distance
_HOPELESS = 0.2  # least weight of an arm in exploration; 1 is sure to reach the floor
_BARE = 0.5  # weight of the small model alone, beside itself with examples: those mostly help
_NEAR = 0.1  # standard deviation of the scores in contention, below which they tell little
_SHOCK_OWN, _SHOCK_SHARED = 0.8, 0.5  # share that is forgotten of an arm that fell or rose
_TRY = 0.7  # toll of the requested model where the small one is only tried
_USUAL = Tuning()
_LEAST_CHANCE = 1e-6  # of an arm that was chosen: it divides


Commons = Callable[[str, Arm], Linear]  # what all categories of a small model have in common


class _Weighed(NamedTuple):
    """What a choice is made from."""

    prices: Prices
    trusted: dict[Arm, Belief]  # small arms that hold the floor
    expected: dict[Arm, float]  # scores
    apart: dict[Arm, float]  # shares of exploration, of all but the favourite
    favourite: Arm

    def chance(self, arm: Arm, exploration: float) -> float:
        """Return how probably this arm is chosen."""
        usual, forced = chances(self.trusted, self.prices).get(arm, 0.0), self.apart.get(arm, 0.0)
        return usual + exploration * (forced - usual)


class Router:
    """Chooses an arm for each request and learns from judged answers.

    The same observations in the same order make the same router, live, at a restart, or told by
    another replica.
    """

    def __init__(self, *, settings: Tuning = _USUAL, draw: random.Random) -> None:
        self._settings = settings
        self._draw = draw
        self._shared: dict[tuple[str, Arm], Linear] = {}
        self._standings: dict[tuple[str, str], Standing] = {}

    def choose(self, situation: Situation) -> Choice:
        """Return who answers. Raises ValueError for a context of another size."""
        if len(situation.context) != SIZE:
            raise ValueError(f"a context of {len(situation.context)} numbers, not {SIZE}")
        standing = self._standing(situation.category, situation.small)
        standing.judged = situation.judged
        beliefs = self._beliefs(situation, standing, self._common)
        if situation.judged:
            choice = self._decide(situation, standing, self._weigh(situation, standing, beliefs))
        else:
            choice = _unjudged(situation, beliefs)
        standing.count(choice.arm)
        return choice

    def favour(self, situation: Situation) -> Favour:
        """Return who would answer, and how probably. Nothing is drawn, counted or changed."""
        known = self._standings.get((situation.category, situation.small))
        standing = Standing(self._settings)
        if known is not None:
            standing.restore(known.as_data())
        beliefs = self._beliefs(situation, standing, self._seen)
        if not situation.judged:
            choice = _unjudged(situation, beliefs)
            return Favour(choice.arm, {choice.arm: 1.0}, choice.scores)
        weighed = self._weigh(situation, standing, beliefs)
        shares = {arm: weighed.chance(arm, situation.exploration) for arm in weighed.expected}
        return Favour(weighed.favourite, shares, weighed.expected)

    def passes(self, situation: Situation, arm: Arm, confidence: Confidence) -> bool:
        """Whether an answer of this confidence may go out in the requested model's place."""
        standing = self._standing(situation.category, situation.small)
        toll = 1.0 - situation.floor + self.load_bias(situation.load)
        bar = max(situation.floor, Prices(toll, situation.price).bar)
        return standing.confidences[arm].quality(confidence) >= bar

    def learn(self, observation: Observation) -> None:
        """Take up a judged or reported answer; what can't be learnt from is passed over."""
        arm, trust = observation.arm, min(observation.weight, 1.0)
        if arm is Arm.REQUESTED or len(observation.context) != SIZE or trust <= 0.0:
            return
        x = np.array(observation.context)
        y = min(max(observation.quality, 0.0), 1.0)
        key = (observation.category, observation.small)
        standing = self._standing(*key)
        self._standings[key] = self._standings.pop(key)  # who learnt last leaves last
        shared, own = self._common(observation.small, arm), standing.models[arm]
        wanted = _take_confidence(standing, observation, y, trust)
        worth = y if wanted else 0.0
        own.learn(x, worth - _CENTRE - shared.predict(x)[0], trust)
        shared.learn(x, worth - _CENTRE, trust)
        if not wanted:
            return
        others = [
            known.guards[arm]
            for (_, small), known in self._standings.items()
            if small == observation.small and known is not standing
        ]
        vouched = any(guard.state is State.OPEN for guard in others)
        guard = standing.guards[arm]
        turn = guard.learn(y, observation.weight, observation.at, vouched=vouched)
        if turn is not None:
            own.forget(_SHOCK_OWN)
            standing.confidences[arm].forget(_SHOCK_OWN)
            shared.forget(_SHOCK_SHARED)
        if turn is Turn.FELL:
            for other in others:
                other.alarm()

    def load_bias(self, load: float) -> float:
        """Return what a load takes off the score of an arm of price 1."""
        return self._settings.load_weight * tanh(self._settings.load_slope * load)

    def keep(self, categories: Container[str]) -> None:
        """Forget all categories but these."""
        self._standings = {
            key: known for key, known in self._standings.items() if key[0] in categories
        }

    def standings(self) -> list[dict[str, Any]]:
        """Return what is known of each category, small model and arm, for people to read."""
        return [row for key in sorted(self._standings) for row in self._standings[key].rows(*key)]

    def as_data(self) -> dict[str, Any]:
        """Return all that was learnt, for JSON."""
        return {
            "version": VERSION,
            "size": SIZE,
            "shared": [[small, arm, m.as_data()] for (small, arm), m in self._shared.items()],
            "standings": [[*key, s.as_data()] for key, s in self._standings.items()],
        }

    @classmethod
    def from_data(cls, data: Any, *, settings: Tuning = _USUAL, draw: random.Random) -> Router:
        """Return a router that knows what `as_data` returned; a new one for any other data."""
        router = cls(settings=settings, draw=draw)
        try:
            if (data["version"], data["size"]) != (VERSION, SIZE):
                return router
            for small, arm, learnt in data["shared"]:
                router._common(str(small), Arm(arm)).restore(learnt)
            for category, small, learnt in data["standings"][-settings.most :]:
                router._standing(str(category), str(small)).restore(learnt)
        except (LookupError, TypeError, ValueError, AttributeError):
            return cls(settings=settings, draw=draw)
        return router

    def _weigh(
        self, situation: Situation, standing: Standing, beliefs: Mapping[Arm, Belief]
    ) -> _Weighed:
        """Weigh what is believed of the arms that hold the floor, and of the others."""
        for guard in standing.guards.values():
            guard.hold_to(situation.floor)
        prices = Prices(self._toll(situation), situation.price)
        trusted = {
            arm: belief
            for arm, belief in beliefs.items()
            if standing.guards[arm].state is State.OPEN
        }
        expected = scores(beliefs, prices)
        favourite = max([Arm.REQUESTED, *trusted], key=expected.__getitem__)
        apart = _exploration(situation, standing, [arm for arm in expected if arm is not favourite])
        return _Weighed(prices, trusted, expected, apart, favourite)

    def _decide(self, situation: Situation, standing: Standing, weighed: _Weighed) -> Choice:
        """Choose among the arms that hold the floor, or explore."""
        prices, trusted, expected, apart, _ = weighed
        explored = self._draw.random() < situation.exploration
        if explored:
            arm = self._draw.choices(list(apart), list(apart.values()))[0]
        else:
            arm = sample(trusted, prices, self._draw)
        chance = weighed.chance(arm, situation.exploration)
        unsure = _deviation([expected[one] for one in (Arm.REQUESTED, *trusted)]) < _NEAR
        unsure |= arm is not Arm.REQUESTED and not standing.is_known(arm)
        return Choice(
            arm=arm,
            probability=min(max(chance, _LEAST_CHANCE), 1.0),
            explored=explored,
            unsure=unsure,
            scores=expected,
            audit=standing.audit(arm, unsure),
            shadow=_shadow(situation, standing, arm),
        )

    def _toll(self, situation: Situation) -> float:
        """Return what an arm of price 1 pays."""
        if situation.cascade:
            return _TRY
        return 1.0 - situation.floor + self.load_bias(situation.load)

    def _beliefs(
        self, situation: Situation, standing: Standing, common: Commons
    ) -> dict[Arm, Belief]:
        """Return what is believed of each small arm to be had."""
        x = np.array(situation.context)
        return {
            arm: self._belief(common(situation.small, arm), standing.models[arm], x)
            for arm in SMALL_ARMS
            if arm is Arm.SMALL or situation.examples > 0
        }

    def _belief(self, common: Linear, own: Linear, x: Row) -> Belief:
        shared, unsure = common.predict(x)
        apart, more = own.predict(x)
        mean = min(max(_CENTRE + shared + apart, 0.0), 1.0)
        return Belief(mean, self._settings.spread * sqrt(unsure + more))

    def _common(self, small: str, arm: Arm) -> Linear:
        """Return what all categories have in common."""
        model = self._shared.get((small, arm))
        if model is None:
            while len(self._shared) >= self._settings.most * len(SMALL_ARMS):
                self._shared.pop(next(iter(self._shared)))
            model = self._shared[small, arm] = regression(SHARED_SPREAD, self._settings)
        return model

    def _seen(self, small: str, arm: Arm) -> Linear:
        """Return the same for whoever only looks: what is not there is not begun."""
        return self._shared.get((small, arm)) or regression(SHARED_SPREAD, self._settings)

    def _standing(self, category: str, small: str) -> Standing:
        standing = self._standings.get((category, small))
        if standing is None:
            while len(self._standings) >= self._settings.most:
                self._standings.pop(next(iter(self._standings)))
            standing = self._standings[category, small] = Standing(self._settings)
        return standing


def _take_confidence(standing: Standing, seen: Observation, quality: float, trust: float) -> bool:
    """Learn what an answer's confidence is worth; return whether such an answer is sent."""
    if seen.confidence is None:
        return True
    model, floor = standing.confidences[seen.arm], standing.guards[seen.arm].floor
    passes = floor is None or model.quality(seen.confidence) >= floor
    model.learn(seen.confidence, quality, trust)
    return seen.sent or passes


def _shadow(situation: Situation, standing: Standing, arm: Arm) -> float:
    """Return how probably examples are to be tried unseen; never where nothing is explored."""
    able = arm is Arm.REQUESTED and situation.examples > 0 and situation.exploration > 0.0
    return standing.shadow(cascade=situation.cascade) if able else 0.0


def _unjudged(situation: Situation, beliefs: Mapping[Arm, Belief]) -> Choice:
    """Choose where nobody will say how good the answers are: examples, or nothing new."""
    return Choice(
        arm=Arm.EXAMPLES if situation.examples > 0 else Arm.REQUESTED,
        probability=1.0,
        explored=False,
        unsure=False,
        scores=scores(beliefs, Prices(1.0 - situation.floor, situation.price)),
        audit=0.0,
    )


def _exploration(situation: Situation, standing: Standing, arms: Sequence[Arm]) -> dict[Arm, float]:
    """Share exploration out by the chance that an arm reaches the floor."""
    weights = dict.fromkeys(arms, 1.0)
    for arm in weights.keys() - {Arm.REQUESTED}:
        weights[arm] = max(_HOPELESS, standing.guards[arm].chance(situation.floor))
    if Arm.SMALL in weights and situation.examples > 0:
        weights[Arm.SMALL] *= _BARE
    whole = sum(weights.values())
    return {arm: weight / whole for arm, weight in weights.items()}


def _deviation(values: Sequence[float]) -> float:
    # Not statistics.pstdev: its exact fractions take more time than all the rest of a choice.
    mean = sum(values) / len(values)
    return sqrt(sum((value - mean) ** 2 for value in values) / len(values))
