"""How long a round takes: clients in processes of their own, as beside their proxies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from time import perf_counter

import numpy as np
import torch

from bench.federated.jobs import Trial
from bench.federated.rows import PairSet
from federated.aggregation import FloatArray, Update, average, check
from federated.model import SimilarityModel
from federated.pairs import LabelledPair
from federated.training import TrainOptions, train

CLIENTS, PAIRS = 4, 200


def one_round(rows: PairSet, trial: Trial) -> float:
    """Return the seconds of a first round of 4 clients with 200 pairs each.

    Each loads the model and has seen no text before; as many work at once as there are cores. What
    Flower takes to carry it is not in it.
    """
    chance = np.random.default_rng(trial.seed)
    chosen = chance.permutation(len(rows.pairs))[: CLIENTS * PAIRS]
    sites = [[rows.pairs[place] for place in part] for part in np.split(chosen, CLIENTS)]
    common = SimilarityModel(trial.layers).state()
    workers = min(os.cpu_count() or 1, CLIENTS)
    began = perf_counter()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = [
            pool.submit(_client, common, trial.layers, site, trial.federated.options, trial.seed)
            for site in sites
        ]
        updates = [future.result() for future in running]
    average(list(check(updates, common).updates.values()))
    return perf_counter() - began


def _client(
    common: dict[str, FloatArray],
    layers: int,
    pairs: Sequence[LabelledPair],
    options: TrainOptions,
    seed: int,
) -> Update:
    torch.set_num_threads(1)
    model = SimilarityModel(layers)
    model.load_state(common)
    report = train(model, pairs, options, seed)
    return Update(model.state(), report.examples)
