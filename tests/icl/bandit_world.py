"""A world whose arms have known quality: what a router does in it, and what the best would do."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean

import numpy as np

from icl import context
from icl.arms import Arm, Choice, Observation, Situation
from icl.router import Router

Quality = Callable[[tuple[float, ...]], float]  # of the context, before it is bounded to [0, 1]


def steady(quality: float) -> Quality:
    """An arm as good at everything."""
    return lambda _: quality


def sloped(quality: float, slope: float) -> Quality:
    """An arm that is better at some requests: the context's first number says which."""
    return lambda row: quality + slope * row[0]


@dataclass(frozen=True, slots=True)
class Served:
    """One request: what was chosen, how good the answer was, and what was lost by it."""

    choice: Choice
    quality: float  # 0 or 1
    audited: bool
    regret: float  # of expected scores, beside the best arm

    @property
    def offloaded(self) -> bool:
        return self.choice.arm is not Arm.REQUESTED


@dataclass(kw_only=True)
class World:
    """Requests of one category, answered and judged; judgements arrive `delay` requests later."""

    arms: Mapping[Arm, Quality]
    floor: float = 0.6
    exploration: float = 0.05
    price: float = 0.1
    load: float = 0.0
    examples: int = 3
    delay: int = 5
    category: str = "code"
    seed: int = 0
    at: int = 1
    _due: deque[tuple[int, Observation]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._vectors = np.random.default_rng(self.seed)

    def request(self) -> tuple[float, ...]:
        """Return the context of the next request."""
        vector = self._vectors.normal(size=48).astype(np.float32)
        vector /= np.linalg.norm(vector)
        top = self._draw.uniform(0.7, 0.95)
        utilities = [self._draw.uniform(0.4, 0.9) for _ in range(self.examples)]
        long = self._draw.randint(20, 400)
        return context.build(vector, [top, top - 0.05, top - 0.1], utilities, long, 20, [])

    def situation(self, row: tuple[float, ...]) -> Situation:
        return Situation(
            category=self.category,
            small="tiny",
            floor=self.floor,
            exploration=self.exploration,
            judged=True,
            context=row,
            examples=self.examples,
            load=self.load,
            price=self.price,
        )

    def quality(self, arm: Arm, row: tuple[float, ...]) -> float:
        """Return how probably the arm's answer is right."""
        return 1.0 if arm is Arm.REQUESTED else min(max(self.arms[arm](row), 0.0), 1.0)

    def observe(self, arm: Arm, quality: float, *, audit: float = 1.0) -> Observation:
        """Return one judged answer to a new request."""
        return self._observation(arm, self.request(), quality, audit)

    def serve(self, router: Router, requests: int) -> list[Served]:
        return [self._serve_one(router) for _ in range(requests)]

    def _serve_one(self, router: Router) -> Served:
        row = self.request()
        choice = router.choose(self.situation(row))
        good = float(self._draw.random() < self.quality(choice.arm, row))
        audited = self._draw.random() < choice.audit
        if audited:
            judged = self._observation(choice.arm, row, good, choice.audit)
            self._due.append((self.at + self.delay, judged))
        self.at += 1
        while self._due and self._due[0][0] <= self.at:
            router.learn(self._due.popleft()[1])
        values = {arm: self._expected(arm, row) for arm in choice.scores}
        return Served(choice, good, audited, max(values.values()) - values[choice.arm])

    def _expected(self, arm: Arm, row: tuple[float, ...]) -> float:
        cost = 1.0 if arm is Arm.REQUESTED else self.price
        return self.quality(arm, row) - (1.0 - self.floor) * cost

    def _observation(
        self, arm: Arm, row: tuple[float, ...], quality: float, audit: float
    ) -> Observation:
        return Observation(
            category=self.category,
            small="tiny",
            arm=arm,
            context=row,
            quality=quality,
            weight=min(10.0, 1.0 / audit),
            at=float(self.at),
        )


def taught(router: Router, world: World, answers: int = 60) -> Router:
    """Teach what another replica learnt: judged answers of every arm, as good as the arms are."""
    draw = random.Random(world.seed + 1)
    for number in range(answers):
        arm = (Arm.EXAMPLES, Arm.SMALL)[number % 2]
        row = world.request()
        good = float(draw.random() < world.quality(arm, row))
        router.learn(world._observation(arm, row, good, 1.0))
    return router


GOOD = {Arm.EXAMPLES: steady(0.83), Arm.SMALL: steady(0.2)}
POOR = {Arm.EXAMPLES: steady(0.3), Arm.SMALL: steady(0.2)}
BROKEN = {Arm.EXAMPLES: steady(0.05), Arm.SMALL: steady(0.05)}


def router(seed: int = 0) -> Router:
    return Router(draw=random.Random(seed))


def opened(world: World, seed: int = 0) -> Router:
    """Return a router that was taught that examples work."""
    known = router(seed)
    known.choose(world.situation(world.request()))
    for _ in range(60):
        known.learn(world.observe(Arm.EXAMPLES, 1.0))
    assert state(known) == "open"
    return known


def share(served: Sequence[Served]) -> float:
    """Return the share of requests that the small model answered."""
    return mean(one.offloaded for one in served)


def state(known: Router, arm: Arm = Arm.EXAMPLES) -> str:
    """Return how far the arm is trusted, in the first category."""
    return next(str(row["state"]) for row in known.standings() if row["arm"] == arm.value)
