"""The composed stream: which questions, when, and what happens meanwhile. Pure.

A composition: the texts are the tasks', the arrivals are drawn. Calm, then more than the large
model can serve; at two thirds the small model is spoilt while that lasts; then calm again.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from bench.nearhits.tasks import CHOSEN, GENERATED, Item, Split

# Shares of the stream. The last kind is what a small model cannot do, examples or not: a router
# that does not tell kinds of questions apart sends it as much of them as of the others.
GOOD = (*GENERATED, *CHOSEN, "clinc10", "banking8")
HARD = ("landmark-country", "person-occupation", "product-company", "word_length", "svamp")
HARD_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Phases:
    """The stream's turns, as numbers of requests, and its rates in requests a second."""

    overload: int  # the first request of the overload
    spoilt: int  # the first request of which the small model's answer is spoilt
    calm: int  # the first request after the overload
    requests: int
    calm_rate: float
    overload_rate: float

    def rate_at(self, index: int) -> float:
        """Return the rate of arrivals at a request."""
        return self.overload_rate if self.overload <= index < self.calm else self.calm_rate


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of the stream."""

    at: float  # seconds after its start
    item: Item


def phases(requests: int, capacity: float) -> Phases:
    """Return the turns of a stream before a large model that serves `capacity` answers a second."""
    spoilt = 2 * requests // 3
    return Phases(
        overload=requests // 5,
        spoilt=spoilt,
        calm=min(spoilt + 200, spoilt + requests // 6),
        requests=requests,
        calm_rate=0.9 * capacity,
        overload_rate=2.2 * capacity,
    )


def compose(split: Split, turns: Phases, seed: int) -> list[Ask]:
    """Return the stream; no question comes twice. Raises ValueError where there are too few."""
    draw = random.Random(seed)
    hard = round(turns.requests * HARD_SHARE)
    items = _evenly(split.of(*HARD), HARD, hard, draw)
    items += _evenly(split.of(*GOOD), GOOD, turns.requests - len(items), draw)
    if len(items) < turns.requests:
        raise ValueError(f"{len(items)} questions are too few for {turns.requests} requests")
    draw.shuffle(items)
    asks: list[Ask] = []
    now = 0.0
    for index, item in enumerate(items):
        now += draw.expovariate(turns.rate_at(index))
        asks.append(Ask(now, item))
    return asks


def _evenly(
    items: Sequence[Item], tasks: Sequence[str], count: int, draw: random.Random
) -> list[Item]:
    """Return `count` items, of every task the same number as long as it has any."""
    left: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        left[item.task].append(item)
    for of_task in left.values():
        draw.shuffle(of_task)
    chosen: list[Item] = []
    while len(chosen) < count and any(left.values()):
        for task in tasks:
            if left[task] and len(chosen) < count:
                chosen.append(left[task].pop())
    return chosen
