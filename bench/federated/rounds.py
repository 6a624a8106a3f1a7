"""Federated rounds in one process: the functions of the Flower app, without its wires."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from federated.aggregation import FedAvg, FloatArray, ServerOptimizer, Update, average, check
from federated.model import SimilarityModel
from federated.pairs import LabelledPair, deduplicated, trainable
from federated.training import TrainOptions, train

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How often whom and how."""

    rounds: int
    a_round: int  # clients
    options: TrainOptions
    server_rate: float = 1.0
    server_momentum: float = 0.0


@dataclass(slots=True)
class Course:
    """How it went."""

    clients: int  # that may train
    kept_out: dict[str, int] = field(default_factory=dict)  # why others may not -> how many
    steps: int = 0  # of all clients
    examples: int = 0  # pairs a client trained on, times its epochs, summed
    round_s: list[float] = field(default_factory=list)  # one client after the other


def simulate(
    model: SimilarityModel,
    clients: Sequence[Sequence[LabelledPair]],
    plan: Plan,
    seed: int,
    say: Say,
) -> Course:
    """Train `model` from where it is by federated rounds over the clients' pairs."""
    chance = np.random.default_rng(seed)
    server: ServerOptimizer = FedAvg(plan.server_rate, plan.server_momentum)
    course, able = _able(clients)
    common = model.state()
    order: list[int] = []
    for number in range(plan.rounds):
        began = perf_counter()
        while len(order) < plan.a_round:  # everybody once before anybody twice
            order += chance.permutation(len(able)).tolist()
        chosen, order = order[: plan.a_round], order[plan.a_round :]
        updates = [
            _client(model, common, able[client], plan.options, seed * 1000 + number, course)
            for client in chosen
        ]
        checked = check(updates, common)
        common = server.step(common, average(list(checked.updates.values())))
        course.round_s.append(round(perf_counter() - began, 2))
        say(f"round {number + 1} of {plan.rounds}: {course.round_s[-1]:.1f} s")
    model.load_state(common)
    return course


def _able(clients: Sequence[Sequence[LabelledPair]]) -> tuple[Course, list[list[LabelledPair]]]:
    course = Course(clients=0)
    able: list[list[LabelledPair]] = []
    for pairs in map(deduplicated, clients):
        reason = trainable(pairs)
        if reason is None:
            able.append(pairs)
        else:
            kind = "one-sided" if "one-sided" in reason else "too few pairs"
            course.kept_out[kind] = course.kept_out.get(kind, 0) + 1
    course.clients = len(able)
    return course, able


def _client(
    model: SimilarityModel,
    common: dict[str, FloatArray],
    pairs: Sequence[LabelledPair],
    options: TrainOptions,
    seed: int,
    course: Course,
) -> Update:
    model.load_state(common)
    report = train(model, pairs, options, seed)
    course.steps += report.steps
    course.examples += report.examples * options.epochs
    return Update(model.state(), report.examples)
