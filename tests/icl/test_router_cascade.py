"""An answer is tried where it may be sent, and sent where the model was sure enough."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest

from icl.arms import Arm, Observation
from icl.confidence import Confidence
from icl.context import AGREEMENT
from icl.router import Router
from tests.icl.bandit_world import GOOD, World, router, state

SURE, UNSURE = Confidence(0.95, 0.98), Confidence(0.1, 0.4)


class Cascade:
    """Requests half of which the small model can do; it is sure of those, mostly."""

    def __init__(self, seed: int = 4, *, floor: float = 0.7) -> None:
        self.world = World(arms=GOOD, seed=seed, floor=floor, exploration=0.02)
        self.router = router()
        self.draw = random.Random(seed)
        self.at = 0.0
        self.spoilt = False

    def request(self) -> tuple[bool, tuple[float, ...]]:
        """Return whether the small model can do it, and its context: agreement hints at that."""
        able = self.draw.random() < 0.5
        row = list(self.world.request())
        row[AGREEMENT] = self.draw.uniform(0.6, 1.0) if able else self.draw.uniform(0.2, 0.8)
        return able, tuple(row)

    def serve(self, requests: int) -> tuple[float, float, float]:
        """Return the shares of requests tried and sent, and of the sent that were right."""
        tried, sent = 0, []
        for _ in range(requests):
            self.at += 1.0
            able, row = self.request()
            situation = replace(self.world.situation(row), cascade=True)
            choice = self.router.choose(situation)
            told = Confidence(*(self.draw.betavariate(8, 2) if able else self.draw.betavariate(2, 4)
                                for _ in range(2)))  # fmt: skip
            right = able and not self.spoilt and self.draw.random() < 0.95
            if choice.arm is Arm.EXAMPLES:
                tried += 1
                out = self.router.passes(situation, choice.arm, told)
                sent += [right] * out
                chance = choice.audit if out else 0.25
            else:
                out, chance = False, choice.shadow
            if self.draw.random() < chance:
                self.router.learn(self._seen(row, right, told, chance if out else 1.0, sent=out))
        return tried / requests, len(sent) / requests, float(np.mean(sent)) if sent else 1.0

    def _seen(
        self, row: tuple[float, ...], right: bool, told: Confidence, chance: float, *, sent: bool
    ) -> Observation:
        return Observation(
            category=self.world.category,
            small="tiny",
            arm=Arm.EXAMPLES,
            context=row,
            quality=float(right),
            weight=1.0 / chance,
            at=self.at,
            confidence=told,
            sent=sent,
        )


@pytest.mark.parametrize("seed", range(4))
def test_a_mix_whose_mean_is_under_the_floor_is_served_as_far_as_it_is_good(seed: int) -> None:
    """Half of the answers are wrong, and the floor is 0.7: without confidence nothing opens."""
    cascade = Cascade(seed)
    cascade.serve(150)  # trials that nobody sees
    tried, sent, right = cascade.serve(600)
    assert right >= 0.85
    assert 0.25 <= sent <= 0.5  # 0.42 are sure and able
    assert sent <= tried <= 0.9  # what the examples do not agree on is tried less


@pytest.mark.parametrize("seed", range(4))
def test_a_model_that_is_spoilt_and_as_sure_as_before_is_left_alone_soon(seed: int) -> None:
    cascade = Cascade(seed)
    cascade.serve(300)
    cascade.spoilt = True
    cascade.serve(150)
    _, sent, _ = cascade.serve(200)
    assert sent < 0.1
    cascade.spoilt = False
    cascade.serve(1800)
    assert cascade.serve(300)[1] > 0.2  # and comes back when it is well again, by unseen trials


def test_the_bar_is_the_floor_whatever_the_load() -> None:
    known, world = router(), World(arms=GOOD, floor=0.7, load=50.0)
    situation = replace(world.situation(world.request()), cascade=True)
    assert known.passes(situation, Arm.EXAMPLES, SURE)
    assert not known.passes(situation, Arm.EXAMPLES, UNSURE)
    middle = Confidence(0.65, 0.8)  # 0.67 by what is believed beforehand
    assert not known.passes(situation, Arm.EXAMPLES, middle)
    assert known.passes(replace(situation, floor=0.6), Arm.EXAMPLES, middle)


def test_an_answer_that_would_not_be_sent_does_not_count_against_the_arm() -> None:
    world = World(arms=GOOD, floor=0.7)
    for told in (UNSURE, SURE, None):
        known = router()
        situation = replace(world.situation(world.request()), cascade=True)
        known.choose(situation)
        for _ in range(12):
            seen = world.observe(Arm.EXAMPLES, 1.0)
            known.learn(replace(seen, confidence=SURE, sent=False))
        assert state(known) == "open"
        for _ in range(12):
            seen = world.observe(Arm.EXAMPLES, 0.0)
            known.learn(replace(seen, confidence=told, sent=False))
        assert (state(known) == "open") is (told is not None)
        # Sure and wrong: such an answer is not sent any more, and so the arm is not blamed further.
        assert known.passes(situation, Arm.EXAMPLES, SURE) is (told is not SURE)


def test_what_was_sent_counts_however_sure_the_model_is_thought_to_be_now() -> None:
    world, known = World(arms=GOOD, floor=0.7), router()
    known.choose(replace(world.situation(world.request()), cascade=True))
    for quality in [1.0] * 12 + [0.0] * 12:
        seen = world.observe(Arm.EXAMPLES, quality)
        known.learn(replace(seen, confidence=UNSURE, sent=True))
    assert state(known) != "open"


def test_what_confidence_is_worth_survives_a_restart() -> None:
    cascade = Cascade()
    cascade.serve(200)
    data = json.loads(json.dumps(cascade.router.as_data()))
    again = Router.from_data(data, draw=random.Random(1))
    situation = replace(cascade.world.situation(cascade.request()[1]), cascade=True)
    for p in np.linspace(0.0, 1.0, 21):
        told = Confidence(float(p), float(p))
        assert again.passes(situation, Arm.EXAMPLES, told) == cascade.router.passes(
            situation, Arm.EXAMPLES, told
        )
