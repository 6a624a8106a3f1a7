"""Encoders are trained and asked for all vectors, a file each: a run that was cut off goes on."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import torch

from bench.federated.rounds import Plan, Say, simulate
from bench.federated.rows import Ints, PairSet, clients_of, read
from bench.pairs import rows_of
from embed.encoder import Vectors
from federated.aggregation import FloatArray
from federated.model import SimilarityModel
from federated.pairs import LabelledPair, deduplicated
from federated.training import TrainOptions, train

DISTRACTORS = "queries_wellformedness.jsonl"
MINUTES = "minutes"
BASE, FEDERATED, CENTRAL = "base", "federated", "central"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """All that decides what is computed."""

    data: Path
    seed: int = 1
    folds: int = 5
    clients: int = 20
    layers: int = 2
    central: TrainOptions = field(default_factory=lambda: TrainOptions(epochs=3))
    # As many epochs as pooled, over all clients: 8 rounds of a fifth of them with 2 each make 3.2.
    federated: Plan = field(
        default_factory=lambda: Plan(rounds=8, a_round=4, options=TrainOptions())
    )

    def digest(self) -> str:
        """Name the trial by its settings and its files."""
        whole = hashlib.sha256(orjson.dumps(asdict(self) | {"data": ""}))
        for file in (*sorted(self.data.glob("pairs_*.jsonl")), self.data / DISTRACTORS):
            if file.exists():
                whole.update(file.read_bytes())
        return whole.hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Job:
    """One encoder: the bundled one, or one trained without the rows of a fold."""

    way: str
    fold: int  # -1: the bundled one

    @property
    def name(self) -> str:
        """Name its file."""
        return self.way if self.fold < 0 else f"{self.way}-{self.fold}"


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a job: a unit row a text of `all_texts`, and how it went."""

    vectors: Vectors
    facts: dict[str, Any]


def run_all(trial: Trial, scratch: Path, workers: int, say: Say) -> dict[Job, Made]:
    """Do every job that `scratch` does not hold yet, `workers` at a time; return all."""
    jobs = [Job(BASE, -1)]
    jobs += [Job(way, fold) for fold in range(trial.folds) for way in (FEDERATED, CENTRAL)]
    place = scratch / trial.digest()
    place.mkdir(parents=True, exist_ok=True)
    before, began = minutes_before(trial, scratch), perf_counter()
    left = [job for job in jobs if not (place / f"{job.name}.npz").exists()]
    say(f"{len(jobs)} encoders, {len(jobs) - len(left)} of them made before")
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        threads = max(1, (os.cpu_count() or 1) // workers)
        running = {pool.submit(_do, trial, job, place, threads): job for job in left}
        for done, future in enumerate(as_completed(running), 1):
            future.result()
            (place / MINUTES).write_text(f"{before + (perf_counter() - began) / 60:.1f}")
            say(f"{running[future].name}: {done} of {len(left)} done")
    return {job: _load(place, job) for job in jobs}


def minutes_before(trial: Trial, scratch: Path) -> float:
    """Return how long earlier runs worked on what `scratch` holds of the trial."""
    file = scratch / trial.digest() / MINUTES
    return float(file.read_text()) if file.exists() else 0.0


def all_texts(rows: PairSet, data: Path) -> list[str]:
    """Return the texts of all pairs, then the distractors, each once."""
    file = data / DISTRACTORS
    others = [row["text"] for row in rows_of(file)] if file.exists() else []
    return list(dict.fromkeys([*rows.texts, *others]))


def owners_of(rows: PairSet, trial: Trial, base: Vectors) -> Ints:
    """Return each pair's client, shape (n,); `base` holds a row a text of `rows`."""
    places = {text: place for place, text in enumerate(rows.texts)}
    queries = base[[places[pair.query] for pair in rows.pairs]].round(3)  # the same in any company
    return clients_of(rows, queries, trial.clients, trial.seed)


def sites_of(
    rows: PairSet, trial: Trial, owners: Ints, chosen: npt.NDArray[np.bool_]
) -> list[list[LabelledPair]]:
    """Return each client's share of the chosen pairs, both (n,)."""
    sites: list[list[LabelledPair]] = [[] for _ in range(trial.clients)]
    for place in np.flatnonzero(chosen):
        sites[owners[place]].append(rows.pairs[place])
    return sites


def _do(trial: Trial, job: Job, place: Path, threads: int) -> None:
    """Do a job in a process of its own; its file appears whole or not at all."""
    torch.set_num_threads(threads)
    rows, model, start = _opened(trial.data, trial.folds, trial.seed, trial.layers)
    model.load_state(start)
    facts: dict[str, Any] = {}
    began, worked = perf_counter(), process_time()
    if job.way == CENTRAL:
        pooled = [rows.pairs[place] for place in np.flatnonzero(rows.trained(job.fold))]
        facts = asdict(train(model, deduplicated(pooled), trial.central, trial.seed))
    elif job.way == FEDERATED:
        owners = owners_of(rows, trial, model.first_vectors(rows.texts).numpy())
        sites = sites_of(rows, trial, owners, rows.trained(job.fold))
        facts = asdict(simulate(model, sites, trial.federated, trial.seed, _quiet))
    facts |= {"train_s": round(perf_counter() - began), "cpu_s": round(process_time() - worked)}
    vectors = model.encode(all_texts(rows, trial.data))
    fresh = place / f".{job.name}.npz"
    np.savez(fresh, vectors=vectors, facts=np.frombuffer(orjson.dumps(facts), np.uint8))
    fresh.replace(place / f"{job.name}.npz")


@lru_cache(maxsize=1)
def _opened(
    data: Path, folds: int, seed: int, layers: int
) -> tuple[PairSet, SimilarityModel, dict[str, FloatArray]]:
    """Return what all jobs of a process share: the kept layers' outputs among it."""
    model = SimilarityModel(layers)
    return read(data, folds, seed), model, model.state()


def _load(place: Path, job: Job) -> Made:
    with np.load(place / f"{job.name}.npz") as kept:
        return Made(kept["vectors"], orjson.loads(kept["facts"].tobytes()))


def _quiet(line: str) -> None:
    pass
