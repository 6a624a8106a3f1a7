"""Thresholds and calibration for another encoder, from held-out pairs. Pure functions over values.

A threshold is a cosine, and means something else with every encoder. It is translated: to where
the new encoder lets through no larger a share of the pairs than the running one does at the old
threshold, of those that must not be served and of all. Where a category has enough labels of its
own, its hit threshold is learnt from them instead (best F0.5), but never serves more wrong ones
among them than before: promoting a checkpoint is no reason to become less careful.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from embed.promotion import Cosines, best_cosine
from proxy.checkpoints.evidence import Evidence, flags
from proxy.collected import collected, counted_once, pooled
from store.decision.calibration import recalibrated
from store.decision.score import POOLED, Recalibration, Score
from store.policy import Policy, PolicyBook

LEAST = 30  # pairs to fit anything to
Translate = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The cosines of one category's policy."""

    hit: float
    near: float
    context: float
    floor: float | None  # of its load section; None: it has none

    @classmethod
    def of(cls, policy: Policy) -> Thresholds:
        """Return a policy's."""
        floor = None if policy.load is None else policy.load.threshold_floor
        return cls(policy.hit_threshold, policy.near_threshold, policy.context_threshold, floor)

    def over(self, policy: Policy) -> Policy:
        """Return the policy with these in place of its own."""
        load = policy.load
        if load is not None and self.floor is not None:
            load = replace(load, threshold_floor=self.floor)
        return replace(
            policy,
            hit_threshold=self.hit,
            near_threshold=self.near,
            context_threshold=self.context,
            load=load,
        )


@dataclass(frozen=True, slots=True)
class Refit:
    """What changes in a category."""

    before: Thresholds
    after: Thresholds


def refits(book: PolicyBook, evidence: Evidence, learnt: Mapping[str, float]) -> dict[str, Refit]:
    """Return each category's thresholds for the candidate.

    `learnt` are those that its training found, by category and "" for all: without pairs of one's
    own to go by, a threshold is at least that.
    """
    translate = _translation(evidence)
    # What lies below all that was seen is not served on a guess.
    lowest = _shown(float(evidence.candidate.min(initial=1.0)))
    found = {}
    for name, policy in book.policies.items():
        before = Thresholds.of(policy)
        if translate is None:
            least = learnt.get(name, learnt.get("", -1.0))
            found[name] = Refit(before, replace(before, hit=max(before.hit, _shown(least))))
            continue
        # With an error budget the score decides; the cosine only says where it begins to look.
        own = None if policy.error_budget is not None else _learnt_here(name, policy, evidence)
        hit = max(translate(before.hit), lowest) if own is None else own
        after = Thresholds(
            hit=hit,
            near=min(translate(before.near), hit),
            context=max(translate(before.context), lowest),
            floor=None if before.floor is None else min(max(translate(before.floor), lowest), hit),
        )
        found[name] = Refit(before, after)
    return found


def refitted(book: PolicyBook, changes: Mapping[str, Refit], *, back: bool = False) -> PolicyBook:
    """Return the book with other thresholds, or (`back`) with those from before.

    A category whose thresholds are no longer the ones that the change is from keeps them: somebody
    has edited it since.
    """
    policies = dict(book.policies)
    for name, change in changes.items():
        old, new = (change.after, change.before) if back else (change.before, change.after)
        if name in policies and Thresholds.of(policies[name]) == old:
            policies[name] = new.over(policies[name])
    return PolicyBook(policies)


def recalibrations(
    book: PolicyBook, evidence: Evidence, shipped: Score
) -> dict[str, Recalibration]:
    """Return how the score reads the candidate's cosines, by category; {}: too few labels.

    `book` has the thresholds of the candidate. Its decision points rest on these labels alone.
    """
    pairs = [
        replace(pair, similarity=float(cosine))
        for pair, cosine in zip(evidence.pairs, evidence.candidate, strict=True)
    ]
    known = collected(counted_once(pairs, book), book, shipped, shipped)
    own = [each for each in known if each.labels.enough(LEAST)]
    rest = pooled([e for e in known if not e.labels.enough(LEAST) and e.head == POOLED])
    if rest is not None and rest.labels.enough(LEAST):
        own.append(rest)
    return {
        each.category: recalibrated(
            each.labels, shipped.points(each.category), may_loosen=False, proven=True
        )
        for each in own
    }


def _translation(evidence: Evidence) -> Translate | None:
    """Return what makes the candidate's threshold of the running one's; None: too few pairs."""
    maps = [
        _matched(evidence.running[there], evidence.candidate[there])
        for there in (flags(evidence.pairs, 0), np.ones(len(evidence.pairs), bool))
        if int(there.sum()) >= LEAST
    ]
    if not maps:
        return None
    return lambda threshold: max(matched(threshold) for matched in maps)


def _matched(running: Cosines, candidate: Cosines) -> Translate:
    """Return the map from quantile to quantile; -1 and 1 stay, and in between it is linear."""
    before, after = (np.sort(each.astype(np.float64)) for each in (running, candidate))

    def translate(threshold: float) -> float:
        through = int((before >= threshold).sum())
        found = float(np.interp(threshold, [-1.0, *before, 1.0], [-1.0, *after, 1.0]))
        if int((after >= found).sum()) > through:  # equal cosines: past all of them
            found = float(np.nextafter(after[len(after) - through - 1], 2.0))
        return _shown(found)

    return translate


def _learnt_here(name: str, policy: Policy, evidence: Evidence) -> float | None:
    """Return the threshold that the category's own pairs teach; None if they are too few."""
    there = np.array([pair.category == name for pair in evidence.pairs], bool)
    if int(there.sum()) < LEAST:
        return None
    right = flags(evidence.pairs, 1)
    best = best_cosine(evidence.candidate[there], right[there])
    if best is None:
        return None
    before = int((evidence.running[there & ~right] >= policy.hit_threshold).sum())
    return max(_shown(best), _past_all_but(before, evidence.candidate[there & ~right]))


def _past_all_but(allowed: int, wrong: Cosines) -> float:
    """Return the least threshold that lets so many of these through."""
    falling = np.sort(wrong)[::-1]
    if allowed >= len(falling):
        return -1.0
    return _shown(float(np.nextafter(falling[allowed], np.float32(2.0))))


def _shown(cosine: float) -> float:
    """Return a cosine as a policy holds it: four digits, rounded up, which is the careful side."""
    return float(min(1.0, max(-1.0, np.ceil(cosine * 10_000) / 10_000)))
