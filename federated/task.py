"""What a client and the server do in a round, as plain values: no Flower in here, no network.

torch is loaded inside the functions that train or encode, since most messages need neither.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from embed.held_out import held_out
from federated.options import Config, NodeConfigInvalid, RunOptions
from federated.pairs import LabelledPair, deduplicated, fetch_pairs, read_pairs
from federated.thresholds import Threshold, best_threshold

if TYPE_CHECKING:
    from federated.model import SimilarityModel

FloatArray = npt.NDArray[np.float32]
State = Mapping[str, FloatArray]  # parameter name -> values; the trained layers only
Say = Callable[[str], None]

FETCH_TIMEOUT = 60.0  # seconds a page
POOLED = ""  # the category of all pairs together


@dataclass(frozen=True, slots=True)
class Evaluated:
    """How a state does on a client's held-out pairs: figures and counts, nothing of a pair."""

    pairs: int  # judged; 0: there were none, or of one label
    metrics: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, tuple[float, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trained:
    """What a client's training came to; `state` is None when there was none."""

    state: dict[str, FloatArray] | None
    examples: int = 0
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class Site:
    """A client's labelled pairs: those it learns from, and those that judge."""

    learns_from: Sequence[LabelledPair]
    judges: Sequence[LabelledPair]

    @classmethod
    def of(cls, pairs: Sequence[LabelledPair]) -> Site:
        """Split a client's pairs as its proxy's gate does."""
        kept = deduplicated(pairs)
        judge = held_out([(pair.query, pair.stored) for pair in kept])
        return cls(
            [pair for pair, held in zip(kept, judge, strict=True) if not held],
            [pair for pair, held in zip(kept, judge, strict=True) if held],
        )


def gather(node: Config, options: RunOptions, environ: Mapping[str, str] = os.environ) -> Site:
    """Read the pairs of the client whose node-config this is, from where it says.

    `proxy` is its proxy's address, asked with the key of `proxy-key-file` or of the environment
    variable `proxy-key-env`; `pairs` is an exported file. In a simulation client N reads
    `site-N.jsonl` of the run's `sites`. Raise NodeConfigInvalid when nothing says where.
    """
    if proxy := str(node.get("proxy", "")):
        return Site.of(fetch_pairs(proxy, _key(node, environ), timeout=FETCH_TIMEOUT))
    if file := str(node.get("pairs", "")):
        return Site.of(read_pairs(Path(file)))
    if options.sites and "partition-id" in node:
        return Site.of(read_pairs(Path(options.sites) / f"site-{node['partition-id']}.jsonl"))
    raise NodeConfigInvalid("node-config names neither `proxy` nor `pairs`")


def open_model(options: RunOptions, start: State | None = None) -> SimilarityModel:
    """Return the model whose upper layers train (1-2 s, torch)."""
    from federated.model import SimilarityModel

    return SimilarityModel(options.trainable_layers, start=start)


def evaluate(model: SimilarityModel, site: Site) -> Evaluated:
    """Judge what `model` is now on the held-out pairs: best threshold a category, and of all."""
    cosines = similarities(model, site.judges)
    labels = np.array([pair.label for pair in site.judges])
    pooled = _threshold(cosines, labels)
    if pooled is None:
        return Evaluated(0)
    thresholds = {POOLED: (pooled.value, pooled.n)}
    names = np.array([pair.category for pair in site.judges])
    for name in sorted(set(names.tolist()) - {POOLED}):
        found = _threshold(cosines[names == name], labels[names == name])
        if found is not None:
            thresholds[name] = (found.value, found.n)
    metrics = {
        "f05": pooled.f_beta,
        "precision": pooled.precision,
        "recall": pooled.recall,
        "false_hit_rate": pooled.false_hit_rate,
    }
    return Evaluated(len(labels), metrics, thresholds)


def train(model: SimilarityModel, site: Site, options: RunOptions, seed: int, say: Say) -> Trained:
    """Train `model` on the client's own pairs, which are enough, and of both labels."""
    from federated.training import TrainOptions
    from federated.training import train as fit

    settings = TrainOptions(
        epochs=options.local_epochs,
        batch=options.batch_size,
        rate=options.learning_rate,
        warm_up=options.warmup_steps,
        margin=options.margin,
        anchor=options.anchor,
        proximal=options.proximal_mu,
    )
    report = fit(
        model,
        site.learns_from,
        settings,
        seed,
        lambda done, total: say(f"  epoch {done} of {total}"),
    )
    if not report.steps:
        return Trained(None)
    return Trained(model.state(), report.examples, report.loss)


def similarities(model: SimilarityModel, pairs: Sequence[LabelledPair]) -> FloatArray:
    """Return the cosine of each pair, shape (n,)."""
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.query, pair.stored)))
    row = {text: place for place, text in enumerate(texts)}
    vectors = model.encode(texts)
    left = vectors[[row[pair.query] for pair in pairs]]
    right = vectors[[row[pair.stored] for pair in pairs]]
    return np.asarray((left * right).sum(axis=1), np.float32)


def _threshold(cosines: FloatArray, labels: npt.NDArray[np.int_]) -> Threshold | None:
    if len(set(labels.tolist())) < 2:
        return None  # of one label, every threshold is as good as another
    return best_threshold(cosines, labels)


def _key(node: Config, environ: Mapping[str, str]) -> str | None:
    if file := str(node.get("proxy-key-file", "")):
        return Path(file).read_text().strip()
    name = str(node.get("proxy-key-env", ""))
    if name and name not in environ:
        raise NodeConfigInvalid(f"proxy-key-env: {name} is not set")
    return environ.get(name)
