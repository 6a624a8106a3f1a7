"""The gate of a new checkpoint: it passes if it is better on pairs that nobody trained on.

Both encoders are judged as they would serve: by a cosine threshold of their own, fitted on other
pairs than those it is judged on (cross-fitting over groups of pairs that share a text). What counts
is F0.5, which minds a wrong hit more than a missed one. The candidate has to win over all pairs,
with a bootstrap interval above 0 (Efron 1979; whole groups are drawn, as pairs that share a text
are not independent), and may lose no category by more than a margin. Pure functions over values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from embed.held_out import components

BETA = 0.5
FOLDS = 5
OWN_THRESHOLD = 30  # pairs of a category, from which on it has a threshold of its own
OTHERS = ""  # the name under which categories with few pairs are judged together
DRAWS = 2_000
_SEED = 20_261_130  # the same pairs get the same verdict
Cosines = npt.NDArray[np.float32] | npt.NDArray[np.float64]  # shape (n,)
Flags = npt.NDArray[np.bool_]  # shape (n,)


@dataclass(frozen=True, slots=True)
class Judged:
    """A held-out pair of questions."""

    first: str
    second: str
    label: int  # 1: one answer does for both, 0: it does not
    category: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRules:
    """What a candidate has to reach."""

    margin: float = 0.05  # the most F0.5 that it may lose in a category
    least: int = 50  # held-out pairs in all
    of_a_kind: int = 10  # of these with either label
    category_least: int = 20  # held-out pairs of a category that is judged by itself
    category_of_a_kind: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How well one encoder tells the pairs of a category apart, each by a threshold not its own."""

    precision: float
    recall: float
    f_beta: float  # beta 0.5
    false_hit_rate: float  # pairs of label 0 that would be served


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Both encoders on the pairs of one category."""

    category: str  # OTHERS: all with few pairs
    pairs: int
    positives: int
    running: Quality
    candidate: Quality

    @property
    def gain(self) -> float:
        """What the candidate's F0.5 is above the running encoder's."""
        return self.candidate.f_beta - self.running.f_beta


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate found."""

    passed: bool
    reasons: tuple[str, ...]  # why not; () if it passed
    overall: Compared | None  # None: too few pairs to compare anything
    interval: tuple[float, float] | None  # of the gain over all pairs, 95 %
    categories: tuple[Compared, ...]

    def as_data(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return {
            "passed": self.passed,
            "reasons": list(self.reasons),
            "overall": None if self.overall is None else _as_data(self.overall),
            "interval": None if self.interval is None else [round(x, 4) for x in self.interval],
            "categories": [_as_data(each) for each in self.categories],
        }


def compare(
    pairs: Sequence[Judged], running: Cosines, candidate: Cosines, rules: GateRules
) -> Verdict:
    """Say whether the candidate passes; the cosines are both encoders', one a pair.

    Raise ValueError for cosines that are not one a pair, or not finite.
    """
    for cosines in (running, candidate):
        if cosines.shape != (len(pairs),) or not np.isfinite(cosines).all():
            raise ValueError(f"{len(pairs)} pairs have cosines of shape {cosines.shape}")
    labels = np.array([pair.label == 1 for pair in pairs], bool)
    lacking = _lacking(labels, rules)
    if lacking is not None:
        return Verdict(passed=False, reasons=(lacking,), overall=None, interval=None, categories=())
    groups = np.array(components([(pair.first, pair.second) for pair in pairs]))
    names = _judged_as([pair.category for pair in pairs], labels, rules)
    served = [_cross_fitted(each, labels, names, groups % FOLDS) for each in (running, candidate)]
    overall = _compared(OTHERS, served, labels, np.ones(len(pairs), bool))
    categories = tuple(
        _compared(name, served, labels, names == name) for name in sorted(set(names.tolist()))
    )
    interval = _interval(served, labels, groups)
    reasons = []
    if not interval[0] > 0:
        reasons.append(_not_better(overall, interval))
    reasons += [_loses(each, rules) for each in categories if each.gain < -rules.margin]
    return Verdict(
        passed=not reasons,
        reasons=tuple(reasons),
        overall=overall,
        interval=interval,
        categories=categories,
    )


def best_cosine(cosines: Cosines, labels: Flags) -> float | None:
    """Return the threshold of the best F0.5, halfway to what it leaves out; None without a label 1.

    Of equally good ones the highest.
    """
    if not labels.any():
        return None
    order = np.argsort(-cosines, kind="stable")
    falling, right = cosines[order].astype(np.float64), labels[order]
    hits = np.cumsum(right)
    scores = _f_beta(hits, np.arange(1, len(order) + 1) - hits, int(labels.sum()))
    last = np.append(falling[1:] < falling[:-1], True)  # equal cosines are served together
    best = int(np.where(last, scores, -1.0).argmax())
    below = falling[best + 1] if best + 1 < len(falling) else falling[best]
    return float((falling[best] + below) / 2)


def _lacking(labels: Flags, rules: GateRules) -> str | None:
    """Return why there are too few pairs to judge by; None if there are enough."""
    right = int(labels.sum())
    wrong = len(labels) - right
    if len(labels) >= rules.least and min(right, wrong) >= rules.of_a_kind:
        return None
    return (
        f"too few held-out pairs: {len(labels)} ({right} right, {wrong} wrong), where the gate asks"
        f" for {rules.least} with {rules.of_a_kind} of either kind"
    )


def _judged_as(categories: Sequence[str], labels: Flags, rules: GateRules) -> npt.NDArray[np.str_]:
    """Return under which name each pair is judged: its category's, or OTHERS."""
    names = np.array(categories, np.str_)
    for name in set(categories):
        there = names == name
        right = int(labels[there].sum())
        count = int(there.sum())
        kinds = min(right, count - right)
        if count < rules.category_least or kinds < rules.category_of_a_kind:
            names[there] = OTHERS
    return names


def _cross_fitted(
    cosines: Cosines, labels: Flags, names: npt.NDArray[np.str_], folds: npt.NDArray[np.int64]
) -> Flags:
    """Return which pairs are served, each by a threshold that its own fold had no part in."""
    served = np.zeros(len(cosines), bool)
    for fold in np.unique(folds):
        here = folds == fold
        thresholds = _thresholds(cosines[~here], labels[~here], names[~here])
        pooled = thresholds.get(OTHERS, 1.0)
        for name in set(names[here].tolist()):
            there = here & (names == name)
            served[there] = cosines[there] >= thresholds.get(name, pooled)
    return served


def _thresholds(
    cosines: Cosines, labels: Flags, names: npt.NDArray[np.str_]
) -> Mapping[str, float]:
    """Return the pooled threshold, as OTHERS, and those of categories with enough pairs."""
    found: dict[str, float] = {}
    pooled = best_cosine(cosines, labels)
    if pooled is not None:
        found[OTHERS] = pooled
    for name in set(names.tolist()) - {OTHERS}:
        there = names == name
        if int(there.sum()) >= OWN_THRESHOLD:
            own = best_cosine(cosines[there], labels[there])
            if own is not None:
                found[name] = own
    return found


def _compared(name: str, served: Sequence[Flags], labels: Flags, there: Flags) -> Compared:
    running, candidate = (_quality(each[there], labels[there]) for each in served)
    return Compared(
        category=name,
        pairs=int(there.sum()),
        positives=int(labels[there].sum()),
        running=running,
        candidate=candidate,
    )


def _quality(served: Flags, labels: Flags) -> Quality:
    hits, wrong = int((served & labels).sum()), int((served & ~labels).sum())
    positives, negatives = int(labels.sum()), int((~labels).sum())
    return Quality(
        precision=hits / max(1, hits + wrong),
        recall=hits / max(1, positives),
        f_beta=float(_f_beta(np.array(hits), np.array(wrong), positives)),
        false_hit_rate=wrong / max(1, negatives),
    )


def _f_beta(hits: Any, wrong: Any, positives: Any) -> npt.NDArray[np.float64]:
    """Return F-beta of counts that are arrays of one shape; 0 where nothing is there to find."""
    weighted = (1 + BETA**2) * np.asarray(hits, np.float64)
    found: npt.NDArray[np.float64] = weighted / np.maximum(
        BETA**2 * positives + hits + wrong, 1e-12
    )
    return found


def _interval(
    served: Sequence[Flags], labels: Flags, groups: npt.NDArray[np.int64]
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the gain in F0.5 over all pairs."""
    count = int(groups.max()) + 1

    def by_group(flags: Flags) -> npt.NDArray[np.int64]:
        return np.bincount(groups[flags], minlength=count)

    columns = [by_group(labels)]
    for each in served:
        columns += [by_group(each & labels), by_group(each & ~labels)]
    # Groups of equal counts are alike: drawing how many of each kind come is the same, and quick.
    kinds, number = np.unique(np.column_stack(columns), axis=0, return_counts=True)
    times = np.random.default_rng(_SEED).multinomial(count, number / count, DRAWS)
    positives, hits, wrong, new_hits, new_wrong = (times @ kinds).T
    gains = _f_beta(new_hits, new_wrong, positives) - _f_beta(hits, wrong, positives)
    low, high = np.quantile(gains, [0.025, 0.975])
    return float(low), float(high)


def _not_better(overall: Compared, interval: tuple[float, float]) -> str:
    return (
        f"does not win overall: F0.5 {overall.candidate.f_beta:.3f} against"
        f" {overall.running.f_beta:.3f}; the gain {overall.gain:+.3f} has a 95 % interval from"
        f" {interval[0]:+.3f} to {interval[1]:+.3f}, which is to be above 0"
    )


def _loses(each: Compared, rules: GateRules) -> str:
    name = each.category or "the categories with few pairs"
    return (
        f"loses in {name}: F0.5 {each.candidate.f_beta:.3f} against {each.running.f_beta:.3f} on"
        f" {each.pairs} pairs, more than the margin of {rules.margin:g}"
    )


def _as_data(each: Compared) -> dict[str, Any]:
    def rounded(quality: Quality) -> dict[str, float]:
        return {name: round(value, 4) for name, value in asdict(quality).items()}

    told = {"running": rounded(each.running), "candidate": rounded(each.candidate)}
    return asdict(each) | told
