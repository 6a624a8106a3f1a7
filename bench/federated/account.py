"""What a run comes to: the tables, and the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.federated.jobs import (
    BASE,
    CENTRAL,
    FEDERATED,
    Job,
    Made,
    Trial,
    all_texts,
    owners_of,
    sites_of,
)
from bench.federated.measured import (
    Bools,
    Counts,
    Gain,
    as_data,
    counted,
    decide,
    decide_by_clients,
    gains,
)
from bench.federated.rows import PairSet
from bench.federated.shorter import Found, found, projection_of
from embed.encoder import Vectors
from federated.projection import DIMENSION, project

WAYS = (BASE, FEDERATED, CENTRAL)
BY_CLIENTS = f"{FEDERATED}, clients' thresholds"
SHORT = f"{FEDERATED}, PCA {DIMENSION}"
Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Account:
    """F0.5 and the rest a way and file; what is gained over the bundled encoder; what PCA costs."""

    counts: dict[str, dict[str, Counts]]  # way -> file
    gains: dict[str, dict[str, Gain]]  # way -> file, "mean" among them
    nearest: list[Found]  # a fold
    told: list[int]  # a fold: sites that may tell their sums

    @property
    def share_of_central(self) -> float:
        """What federated training gains over what pooled training does."""
        return self.gains[FEDERATED]["mean"].gain / self.gains[CENTRAL]["mean"].gain


def account(rows: PairSet, trial: Trial, made: Mapping[Job, Made]) -> Account:
    """Judge every row by encoders that were not trained on it, nor on any text of it."""
    texts = all_texts(rows, trial.data)
    places = {text: place for place, text in enumerate(texts)}
    base = made[Job(BASE, -1)].vectors
    let: dict[str, Bools] = {}
    thresholds: dict[str, dict[str, list[float]]] = {}
    nearest: list[Found] = []
    told: list[int] = []
    owners = owners_of(rows, trial, base[: len(rows.texts)])

    def take(way: str, fold: int, vectors: Vectors) -> None:
        similarities = _similarities(rows, places, vectors)
        if way == BY_CLIENTS:
            decided, values = decide_by_clients(rows, fold, similarities, owners)
        else:
            trained = None if way == BASE else rows.trained(fold)
            decided, values = decide(rows, fold, similarities, trained)
        own = rows.folds == fold
        let.setdefault(way, np.zeros(len(rows.pairs), bool))[own] = decided[own]
        for name, value in values.items():
            thresholds.setdefault(way, {}).setdefault(name, []).append(value)

    for fold in range(trial.folds):
        vectors = made[Job(FEDERATED, fold)].vectors
        take(BASE, fold, base)
        take(FEDERATED, fold, vectors)
        take(BY_CLIENTS, fold, vectors)
        take(CENTRAL, fold, made[Job(CENTRAL, fold)].vectors)
        vector_of = dict(zip(texts, vectors, strict=True))
        sites = sites_of(rows, trial, owners, rows.trained(fold))
        projection, count = projection_of(sites, vector_of)
        told.append(count)
        if projection is not None:
            take(SHORT, fold, project(vectors, projection))
            asked = found(rows, fold, vector_of, texts[len(rows.texts) :], projection)
            nearest += [asked] if asked else []
    counts = {
        way: {name: counted(rows, name, let[way], thresholds[way][name]) for name in rows.judged}
        for way in let
        if len(thresholds[way][rows.judged[0]]) == trial.folds
    }
    beside = {way: gains(rows, let[way], let[BASE], trial.seed) for way in counts if way != BASE}
    return Account(counts, beside, nearest, told)


def record(
    rows: PairSet, trial: Trial, made: Mapping[Job, Made], told: Account, extra: dict[str, Any]
) -> dict[str, Any]:
    """Return what is written to bench/results/federated.json."""
    f05 = {
        way: {name: round(counts.f05, 4) for name, counts in told.counts[way].items()}
        for way in WAYS
    }
    settings = asdict(trial) | {"data": sorted({pair.category for pair in rows.pairs})}
    jobs = {job.name: run.facts for job, run in made.items()}
    return (
        f05
        | {
            "mean": {way: round(float(np.mean(list(f05[way].values()))), 4) for way in WAYS},
            "gains": {way: as_data(values) for way, values in told.gains.items()},
            "federated_share_of_central_gain": round(told.share_of_central, 3),
            "by_threshold": {way: as_data(values) for way, values in told.counts.items()},
            "pca": pca_data(told),
            "trial": settings,
            "jobs": jobs,
        }
        | extra
    )


def pca_data(told: Account) -> dict[str, Any]:
    """Return what shorter vectors save and cost, over all folds."""
    data: dict[str, Any] = {
        "dimension": DIMENSION,
        "storage_saved": round(1 - DIMENSION / 384, 3),
        "sites_that_tell": told.told,
    }
    asked = sum(found.asked for found in told.nearest)
    for key in ("whole", "short", "rescored", "same"):
        if asked:
            weighted = sum(getattr(found, key) * found.asked for found in told.nearest)
            data[f"recall_at_1_{key}"] = round(weighted / asked, 4)
    return data | {"asked": asked}


def table(told: Account) -> str:
    """Return the table for a terminal and docs/benchmarks.md."""
    lines = [
        "| file | encoder | F0.5 | gain over bundled (95 %) | precision | recall | false hits |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in next(iter(told.counts.values())):
        for way, counts in told.counts.items():
            one = counts[name]
            gain = told.gains[way][name] if way in told.gains else None
            cells = [name, way, f"{one.f05:.3f}", gain_text(gain), f"{one.precision:.3f}"]
            cells += [f"{one.recall:.3f}", f"{one.false_hit_rate:.3f}"]
            lines.append(f"| {' | '.join(cells)} |")
    for way, counts in told.counts.items():
        mean = float(np.mean([one.f05 for one in counts.values()]))
        gain = told.gains[way]["mean"] if way in told.gains else None
        lines.append(f"| mean | {way} | {mean:.3f} | {gain_text(gain)} | | | |")
    return "\n".join(lines)


def gain_text(gain: Gain | None) -> str:
    """Return a gain with its interval, as in "+0.051 (+0.032 to +0.070)"."""
    return f"{gain.gain:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})" if gain else ""


def targets(told: Account, minutes: float, round_s: float) -> list[tuple[str, bool]]:
    """Return what must hold, in words with what was measured, and whether it does."""
    mean, share = told.gains[FEDERATED]["mean"], told.share_of_central
    wins = mean.gain >= 0.05 and mean.low > 0
    lost = [
        name for name, gain in told.gains[FEDERATED].items() if name != "mean" and gain.high < 0
    ]
    return [
        (f"mean F0.5 gains {gain_text(mean)}: >= 0.05, above 0", wins),
        (f"files that lose significantly: {', '.join(lost) or 'none'}", not lost),
        (f"share of the pooled gain: {share:.2f} >= 0.8", share >= 0.8),
        (f"the whole run: {minutes:.0f} <= 60 minutes", minutes <= 60),
        (f"a round of 4 clients with 200 pairs: {round_s:.0f} <= 180 s", round_s <= 180),
    ]  # fmt: skip


def _similarities(rows: PairSet, places: Mapping[str, int], vectors: Vectors) -> Vector:
    queries = vectors[[places[pair.query] for pair in rows.pairs]]
    stored = vectors[[places[pair.stored] for pair in rows.pairs]]
    return np.asarray((queries * stored).sum(axis=1))


def facts_of(made: Mapping[Job, Made], way: str, key: str) -> Sequence[float]:
    """Return a fact of every job of a way."""
    return [run.facts[key] for job, run in made.items() if job.way == way]
