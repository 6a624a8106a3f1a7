"""How fast an error budget reacts, and what it costs to prove one: simulated, no proxy, no data.

    python -m bench.error_budget

Hits by meaning come one after the other, each with a risk drawn evenly from 0 to 0.1; the shipped
point is 0.05, the budget 0.01. The judge's verdict is flipped with a probability: its noise. Beside
every hit an exact hit goes by, of which controls are drawn. Five seeds, always the same.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from store.decision.budget import CategoryBudget

SEEDS = range(5)
BUDGET, SHIPPED = 0.01, 0.05
BEFORE = 5_000  # queries until the error jumps; half of them hit
LONGEST = 60_000
Rate = Callable[[int, float], float]  # number of the query and risk, to P(wrong)


@dataclass(slots=True)
class Step:
    """One query of a simulated stream."""

    number: int
    served: bool
    wrong: bool
    category: CategoryBudget


def stream(rate: Rate, *, noise: float, seed: int) -> Iterator[Step]:
    """Yield a stream of queries through one category."""
    chance, category = random.Random(seed), CategoryBudget.fresh(BUDGET, SHIPPED)
    for number in range(LONGEST):
        if chance.random() < category.control_sampling:
            category.controlled(chance.random() < noise)
        risk = chance.random() / 10
        served = risk <= category.point
        wrong = served and chance.random() < rate(number, risk)
        sample = category.sample()
        if served and chance.random() < sample.probability:
            category.audited(sample, risk, wrong != (chance.random() < noise))
            if category.wants_control:
                category.controlled(chance.random() < noise)
        yield Step(number, served, wrong, category)


def until_refuted(error: float, noise: float, seed: int) -> tuple[int, int] | None:
    """Return (hits, audits) from a jump of the error from 0.3 % to the first refutation."""
    hits = before = 0
    jumped = stream(lambda n, _: 0.003 if n < BEFORE else error, noise=noise, seed=seed)
    for step in jumped:
        if step.number < BEFORE:
            before = step.category.audits
            continue
        hits += step.served
        if step.category.refusals:
            return hits, step.category.audits - before
    return None


def until_proven(error: float, noise: float, seed: int) -> tuple[int, int] | None:
    """Return (hits, audits) until the shipped point is proven."""
    hits = 0
    for step in stream(lambda n, _: error, noise=noise, seed=seed):
        hits += step.served
        if step.category.concluded is not None and step.category.concluded[1]:
            return hits, step.category.audits
    return None


def realised(noise: float, seed: int) -> tuple[float, float, float]:
    """Return the error before a jump, after it, and after it without any budget.

    From the jump on half of what is riskier than 0.02 is wrong, and 0.3 % of the rest.
    """
    wrong, hits = [0, 0], [0, 0]
    jumped = stream(
        lambda n, risk: 0.5 if n >= BEFORE and risk > 0.02 else 0.003, noise=noise, seed=seed
    )
    for step in jumped:
        late = step.number >= BEFORE
        hits[late] += step.served
        wrong[late] += step.wrong
    without = 0.003 * 0.4 + 0.5 * 0.6
    return wrong[0] / hits[0], wrong[1] / hits[1], without


def main() -> None:
    """Print the tables."""
    print("| error jumps from 0.3 % to | judge noise | hits until refuted | audits |")
    print("| --- | --- | --- | --- |")
    for error in (0.03, 0.1, 0.3, 0.5):
        for noise in (0.0, 0.05):
            print(f"| {error:.0%} | {noise:.0%} | {_shown(until_refuted, error, noise)} |")
    print("\n| error | judge noise | hits until proven | audits |")
    print("| --- | --- | --- | --- |")
    for error in (0.0, 0.002):
        for noise in (0.0, 0.01, 0.05):
            print(f"| {error:.1%} | {noise:.0%} | {_shown(until_proven, error, noise)} |")
    print("\n| judge noise | error before the jump | after it, to the end | without a budget |")
    print("| --- | --- | --- | --- |")
    for noise in (0.0, 0.05):
        rows = [realised(noise, seed) for seed in SEEDS]
        cells = [f"{statistics.mean(row[n] for row in rows):.2%}" for n in range(3)]
        print(f"| {noise:.0%} | {' | '.join(cells)} |")


def _shown(
    measure: Callable[[float, float, int], tuple[int, int] | None], error: float, noise: float
) -> str:
    found = [each for seed in SEEDS if (each := measure(error, noise, seed)) is not None]
    if not found:
        return f"not in {LONGEST // 2:,} | "
    never = "" if len(found) == len(SEEDS) else f", in {len(found)} of {len(SEEDS)} seeds"
    cells = []
    for numbers in zip(*found, strict=True):
        middle = statistics.median_low(numbers)
        cells.append(f"{middle:,} ({min(numbers):,} to {max(numbers):,}){never}")
    return " | ".join(cells)


if __name__ == "__main__":
    main()
