"""The starter file's thresholds, chosen from labelled pairs by one rule.

    python -m bench.starter_thresholds --data "$NEARHIT_DATA"

The rule: a category's threshold is the smallest swept one whose hits, with the guards, have a
precision that reaches the category's target even at the lower end of its interval (Wilson, one
standard error: few hits have to be better), plus the category's margin. Its floor under load is the
same with a target 0.05 lower. Where no threshold reaches the target, the category is exact. Each
question counts once, however many rows ask it. Exits with 1 if the starter file says otherwise.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from bench.pairs import Found, Rows, answers, rows_of
from bench.thresholds import DISTRACTORS, data_folder
from store.policy import Mode, Policy, PolicyBook
from store.policy_file import load_policies

SWEPT = tuple(n / 100 for n in range(70, 100))
TARGET = 0.88
FLOOR_LOWER_BY = 0.05  # what a category may lose of its target under load

SEARCHES = ("nqopen_mined",)
TITLES = ("stackexchange_dup", "sts16_questions")
TALK = ("meancache_llmwritten", "canard_rewrites")
SUMS = ("gsmplus", "svamp_hardneg")
QUESTIONS = SEARCHES + TITLES + TALK


@dataclass(frozen=True, slots=True)
class Basis:
    """Which pairs stand for a category, and what is asked of them."""

    sets: tuple[str, ...]
    target: float = TARGET
    margin: float = 0.0
    why: str = ""


NEAR_MISSES = "0.10 less, as every negative is a near miss and some of them are mislabelled"
BASES = {
    "code": Basis(TITLES, margin=0.02, why="its negatives are random ones, and code lies densely"),
    "howto": Basis(TITLES),
    "factual": Basis(SEARCHES, target=TARGET - 0.1, why=NEAR_MISSES),
    "math": Basis(SUMS),
    "conversation": Basis(TALK, margin=0.04, why="the sets hold no negatives of their own"),
    "live": Basis(SEARCHES, target=TARGET - 0.1, why=NEAR_MISSES),
    "default": Basis(QUESTIONS),
}
# No pairs stand for these: the smallest threshold at which no question got a wrong answer.
STRICT = ("legal", "medical", "personal")


@dataclass(frozen=True, slots=True)
class Step:
    """What a threshold does to the questions of some sets."""

    threshold: float
    asked: int  # questions that have a right answer in store
    hits: int
    wrong: int

    @property
    def precision(self) -> float:
        """The share of the hits that are right; 0 without hits."""
        return (self.hits - self.wrong) / self.hits if self.hits else 0.0

    @property
    def at_least(self) -> float:
        """The lower end of the precision's interval of one standard error (Wilson)."""
        if not self.hits:
            return 0.0
        share, n = self.precision, self.hits
        middle = share + 1 / (2 * n)
        spread = math.sqrt(share * (1 - share) / n + 1 / (4 * n * n))
        return (middle - spread) / (1 + 1 / n)

    @property
    def recall(self) -> float:
        """The share of the questions with a right answer that got it."""
        return (self.hits - self.wrong) / self.asked if self.asked else 0.0


def sweep(found: Iterable[Found], asked: int) -> list[Step]:
    """Return a step a swept threshold, inclusive as in Policy.judge."""
    known = list(found)
    steps = []
    for threshold in SWEPT:
        hits = [each for each in known if each.similarity >= threshold]
        wrong = sum(not hit.right for hit in hits)
        steps.append(Step(threshold, asked, len(hits), wrong))
    return steps


def choose(steps: Sequence[Step], target: float, margin: float = 0.0) -> float | None:
    """Return the smallest threshold that reaches the target, and the margin; None if none does."""
    for step in steps:
        if step.at_least >= target:
            return round(step.threshold + margin, 2)
    return None


def choose_strictly(steps: Sequence[Step]) -> float | None:
    """Return the smallest threshold from which on no hit is wrong; None without one."""
    clean = None
    for step in reversed(steps):
        if step.wrong:
            break
        clean = step.threshold if step.hits else clean
    return clean


def sweeps(
    files: Mapping[str, Rows], asked: Set[str], found: Mapping[str, Found]
) -> dict[tuple[str, ...], list[Step]]:
    """Return the sweep of every combination of sets that some category stands on.

    `asked` are all questions that were asked, `found` those that some stored question may answer.
    """
    made = {}
    for sets in dict.fromkeys((*(basis.sets for basis in BASES.values()), QUESTIONS)):
        rows = [row for name in sets for row in files[name]]
        questions = {row["q2"] for row in rows} & asked
        answerable = {row["q2"] for row in rows if row["label"] == 1} & asked
        hits = [found[question] for question in sorted(questions & found.keys())]
        made[sets] = sweep(hits, len(answerable))
    return made


def disagreements(policies: PolicyBook, steps: Mapping[tuple[str, ...], list[Step]]) -> list[str]:
    """Return a line for every place in which the policies differ from what the rule gives."""
    lines = []
    strictest = choose_strictly(steps[QUESTIONS])
    for name in policies.names:
        policy, basis = policies[name], BASES.get(name)
        if basis is not None:
            lines += _differences(policy, basis, steps[basis.sets], strictest)
        elif name not in STRICT:
            lines.append(f"{name}: no pairs are named for it in bench/starter_thresholds.py")
        elif policy.hit_threshold != strictest:
            lines.append(f"{name}: hit_threshold {policy.hit_threshold}, strictly {strictest}")
    return lines


def _differences(
    policy: Policy, basis: Basis, steps: Sequence[Step], strictest: float | None
) -> list[str]:
    chosen = choose(steps, basis.target, basis.margin)
    lines = []
    if chosen is None and policy.mode is Mode.SEMANTIC:
        lines.append(f"{policy.name}: semantic, but no threshold reaches {basis.target:.2f}")
    if policy.hit_threshold != (strictest if chosen is None else chosen):
        lines.append(f"{policy.name}: hit_threshold {policy.hit_threshold}, chosen {chosen}")
    if policy.load is not None:
        floor = choose(steps, basis.target - FLOOR_LOWER_BY, basis.margin)
        if policy.load.threshold_floor != floor:
            lines.append(f"{policy.name}: floor {policy.load.threshold_floor}, chosen {floor}")
    return lines


def main() -> int:
    """Print sweeps, choices and disagreements; return 1 if there are any of these."""
    data = data_folder(argparse.ArgumentParser(description=__doc__))
    names = (*QUESTIONS, *SUMS)
    files = {name: rows_of(data / f"pairs_{name}.jsonl") for name in names}
    distractors = [row["text"] for row in rows_of(data / f"{DISTRACTORS}.jsonl")]
    bare, guarded = answers(files, distractors)
    steps = sweeps(files, bare.keys(), guarded)
    for sets, swept in steps.items():
        _print_sweep(sets, swept)
    policies = load_policies(None)
    _print_choices(policies, steps)
    lines = disagreements(policies, steps)
    for line in lines:
        print(line, file=sys.stderr)
    return 1 if lines else 0


def _print_sweep(sets: tuple[str, ...], steps: Sequence[Step]) -> None:
    print(f"\n**{' + '.join(sets)}: {steps[0].asked} questions with a right answer**\n")
    print("| threshold | hits (wrong) | precision | at least | recall |")
    print("| --- | --- | --- | --- | --- |")
    for step in steps:
        print(
            f"| {step.threshold:.2f} | {step.hits} ({step.wrong}) | {step.precision:.3f} "
            f"| {step.at_least:.3f} | {step.recall:.3f} |"
        )


def _print_choices(policies: PolicyBook, steps: Mapping[tuple[str, ...], list[Step]]) -> None:
    print("\n| category | pairs | target | margin | chosen | under load | the file | why |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    strictest = choose_strictly(steps[QUESTIONS])
    for name, basis in BASES.items():
        chosen = choose(steps[basis.sets], basis.target, basis.margin)
        floor = choose(steps[basis.sets], basis.target - FLOOR_LOWER_BY, basis.margin)
        shown = f"{chosen:.2f}" if chosen is not None else f"exact, {strictest}"
        said = policies[name] if name in policies else None
        bent = said is not None and said.load is not None and floor is not None
        print(
            f"| {name} | {', '.join(basis.sets)} | {basis.target:.2f} | {basis.margin:.2f} "
            f"| {shown} | {f'{floor:.2f}' if bent else 'as it is'} "
            f"| {'absent' if said is None else f'{said.hit_threshold:.2f}'} | {basis.why} |"
        )
    for name in STRICT:
        file = policies[name].hit_threshold if name in policies else "absent"
        print(f"| {name} | none | no wrong hit | | {strictest} | as it is | {file} | |")


if __name__ == "__main__":
    sys.exit(main())
