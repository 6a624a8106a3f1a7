"""Federated rounds in one process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from bench.federated import rounds
from bench.federated.rounds import Plan, simulate
from federated.aggregation import FloatArray
from federated.model import SimilarityModel
from federated.pairs import LabelledPair
from federated.training import TrainOptions, TrainReport


class FakeModel:
    """One parameter; training moves it by what the pairs say."""

    def __init__(self) -> None:
        self.values = np.zeros(2, np.float32)

    def state(self) -> dict[str, FloatArray]:
        return {"a": self.values.copy()}

    def load_state(self, state: dict[str, FloatArray]) -> None:
        self.values = state["a"].copy()


def site(name: str, pairs: int, label: int | None = None) -> list[LabelledPair]:
    return [
        LabelledPair(f"{name} q{i}", f"{name} s{i}", i % 2 if label is None else label)
        for i in range(pairs)
    ]


def say(line: str) -> None:
    pass


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who trained, by the first pair's query, in order."""
    seen: list[str] = []

    def fake(
        model: FakeModel, pairs: Sequence[LabelledPair], options: TrainOptions, seed: int
    ) -> TrainReport:
        seen.append(pairs[0].query.split()[0])
        model.values = model.values + np.float32(1 if seen[-1] == "one" else 3)
        return TrainReport(len(pairs), 2, 0.5)

    monkeypatch.setattr(rounds, "train", fake)
    return seen


def run(sites: list[list[LabelledPair]], plan: Plan) -> tuple[FakeModel, rounds.Course]:
    model = FakeModel()
    assert not isinstance(model, SimilarityModel)
    course = simulate(model, sites, plan, 1, say)  # type: ignore[arg-type]
    return model, course


def test_the_common_state_is_the_mean_weighted_by_pairs(trained: list[str]) -> None:
    plan = Plan(rounds=1, a_round=2, options=TrainOptions())
    model, _ = run([site("one", 60), site("two", 20)], plan)
    np.testing.assert_allclose(model.values, 1.5)


def test_clients_without_enough_to_learn_from_do_not_train(trained: list[str]) -> None:
    plan = Plan(rounds=3, a_round=1, options=TrainOptions(epochs=2))
    sites = [site("one", 40), site("few", 4), site("right", 40, label=1)]
    _, course = run(sites, plan)
    assert set(trained) == {"one"}
    assert course.clients == 1
    assert course.kept_out == {"too few pairs": 1, "one-sided": 1}
    assert (course.steps, course.examples, len(course.round_s)) == (6, 240, 3)


def test_everybody_trains_once_before_anybody_trains_twice(trained: list[str]) -> None:
    plan = Plan(rounds=4, a_round=2, options=TrainOptions())
    run([site(name, 30) for name in ("one", "two", "three", "four")], plan)
    assert len(set(trained[:4])) == len(set(trained[4:])) == 4
