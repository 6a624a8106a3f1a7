"""Public pairs as clients would have them: in folds, and split non-IID by source and topic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embed.encoder import Vectors
from embed.held_out import components, held_out
from federated.pairs import LabelledPair, read_pairs

JUDGED = ("nqopen", "stackexchange", "sts16", "gsmplus")
TOPICS = 4  # a source
ALPHA = 0.5  # of the Dirichlet: a topic lies mostly with a few clients
Ints = npt.NDArray[np.int_]


@dataclass(frozen=True, slots=True)
class PairSet:
    """All pairs of a folder. A pair's category is the name of its file."""

    pairs: list[LabelledPair]
    groups: Ints  # shape (n,): pairs of two groups have no text in common
    folds: Ints  # shape (n,)

    def file(self, name: str) -> npt.NDArray[np.bool_]:
        """Return which pairs are of this file, shape (n,)."""
        return np.array([pair.category == name for pair in self.pairs])

    @property
    def judged(self) -> list[str]:
        """The names of the files that are judged, in the order of JUDGED."""
        names = sorted({pair.category for pair in self.pairs})
        return [name for part in JUDGED for name in names if part in name]

    def trained(self, fold: int) -> npt.NDArray[np.bool_]:
        """Return which rows the encoders of a fold train on, shape (n,).

        Not its own, and not those that a site holds out for its thresholds.
        """
        others = np.flatnonzero(self.folds != fold)
        kept = held_out([(self.pairs[i].query, self.pairs[i].stored) for i in others])
        chosen = np.zeros(len(self.pairs), bool)
        chosen[others[~np.array(kept)]] = True
        return chosen

    @property
    def labels(self) -> Ints:
        """Shape (n,)."""
        return np.array([pair.label for pair in self.pairs])

    @property
    def texts(self) -> list[str]:
        """Every text once, in order."""
        return list(dict.fromkeys(text for p in self.pairs for text in (p.query, p.stored)))


def read(folder: Path, folds: int, seed: int) -> PairSet:
    """Read every pairs_*.jsonl of a folder; raise PairsInvalid, FileNotFoundError."""
    files = sorted(folder.glob("pairs_*.jsonl"))
    missing = [part for part in JUDGED if not any(part in file.name for file in files)]
    if missing:
        raise FileNotFoundError(f"{folder} holds no pairs_*.jsonl of {', '.join(missing)}")
    pairs = [
        LabelledPair(pair.query, pair.stored, pair.label, file.name)
        for file in files
        for pair in read_pairs(file)
    ]
    groups = np.array(components([(pair.query, pair.stored) for pair in pairs]))
    return PairSet(pairs, groups, folds_of(pairs, groups, folds, seed))


def folds_of(pairs: Sequence[LabelledPair], groups: Ints, folds: int, seed: int) -> Ints:
    """Return each pair's fold: whole groups, every file spread evenly, in an order of chance."""
    chance = np.random.default_rng(seed)
    sizes = np.bincount(groups)
    chosen = np.empty(len(sizes), int)
    filled: dict[str, Ints] = {}
    home: dict[int, str] = {}
    for pair, group in zip(pairs, groups, strict=True):
        home.setdefault(int(group), pair.category)
    shuffled = chance.permutation(len(sizes))
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        rows = filled.setdefault(home[int(group)], np.zeros(folds, int))
        chosen[group] = fold = int(rows.argmin())
        rows[fold] += sizes[group]
    return np.asarray(chosen[groups])


def topics_of(vectors: Vectors, topics: int, seed: int, rounds: int = 20) -> Ints:
    """Return each row's topic by k-means on unit rows (n, d)."""
    chance = np.random.default_rng(seed)
    topics = min(topics, len(vectors))
    centres = vectors[chance.choice(len(vectors), topics, replace=False)]
    nearest = np.zeros(len(vectors), int)
    for _ in range(rounds):
        nearest = (vectors @ centres.T).argmax(axis=1)
        for topic in range(topics):
            if (nearest == topic).any():
                mean = vectors[nearest == topic].mean(axis=0)
                centres[topic] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return nearest


def clients_of(
    rows: PairSet, queries: Vectors, clients: int, seed: int, alpha: float = ALPHA
) -> Ints:
    """Return each pair's client, shape (n,); `queries` (n, d) are the queries' vectors.

    Each topic of each source is dealt out group by group, by shares drawn from a Dirichlet
    distribution: who has what differs widely, and so does how much.
    """
    chance = np.random.default_rng(seed)
    owner = np.full(int(rows.groups.max()) + 1, -1)
    for name in sorted({pair.category for pair in rows.pairs}):
        places = np.flatnonzero(rows.file(name))
        topics = topics_of(queries[places], TOPICS, seed)
        for topic in range(TOPICS):
            shares = chance.dirichlet(np.full(clients, alpha))
            for group in dict.fromkeys(rows.groups[places[topics == topic]].tolist()):
                if owner[group] < 0:
                    owner[group] = chance.choice(clients, p=shares)
    return np.asarray(owner[rows.groups])
