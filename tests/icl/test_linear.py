"""The regression finds weights, tells how sure it is, and forgets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl.linear import Linear

WEIGHTS = np.array([0.3, -0.2, 0.5])
PRIOR = np.array([1.0, 1.0, 1.0])


def regression(memory: float = 200.0) -> Linear:
    return Linear(PRIOR, noise=0.05, memory=memory)


def taught(model: Linear, times: int, weights: np.ndarray = WEIGHTS, seed: int = 0) -> Linear:
    draw = np.random.default_rng(seed)
    for _ in range(times):
        x = draw.uniform(-1, 1, 3)
        model.learn(x, float(weights @ x + draw.normal(0, 0.1)))
    return model


def test_it_knows_its_prior_alone_before_it_learnt() -> None:
    assert regression().predict(np.array([1.0, 0.0, 2.0])) == pytest.approx((0.0, 5.0))


def test_it_finds_the_weights() -> None:
    model = taught(regression(), 300)
    for place, weight in enumerate(WEIGHTS):
        mean, variance = model.predict(np.eye(3)[place])
        assert mean == pytest.approx(weight, abs=0.05)
        assert variance < 0.01


def test_it_follows_when_the_weights_change() -> None:
    model = taught(taught(regression(memory=50.0), 300), 150, -WEIGHTS, seed=1)
    assert model.predict(WEIGHTS)[0] == pytest.approx(-(WEIGHTS @ WEIGHTS), abs=0.1)


def test_a_direction_that_is_never_seen_stays_at_its_prior() -> None:
    model = regression(memory=10.0)
    for _ in range(1000):
        model.learn(np.array([1.0, 0.0, 0.0]), 1.0)
    assert model.predict(np.array([0.0, 1.0, 0.0])) == pytest.approx((0.0, 1.0))


def test_what_is_trusted_less_teaches_less() -> None:
    x = np.array([1.0, 0.0, 0.0])
    trusted, doubted = regression(), regression()
    trusted.learn(x, 1.0)
    doubted.learn(x, 1.0, 0.2)
    assert trusted.predict(x)[0] > doubted.predict(x)[0] > 0.0
    assert trusted.predict(x)[1] < doubted.predict(x)[1]


def test_forgetting_all_leads_back_to_the_prior() -> None:
    model = taught(regression(), 100)
    model.forget(1.0)
    assert model.predict(WEIGHTS) == pytest.approx(regression().predict(WEIGHTS))


@given(st.lists(st.tuples(*[st.floats(-1, 1)] * 4), max_size=60), st.floats(1.5, 500.0))
def test_it_is_never_surer_than_exact_nor_less_sure_than_its_prior(
    seen: list[tuple[float, ...]], memory: float
) -> None:
    model = regression(memory)
    for *x, y in seen:
        model.learn(np.array(x), y)
    for direction in np.eye(3):
        assert 0.0 <= model.predict(direction)[1] <= 1.0 + 1e-9


def test_it_survives_as_data() -> None:
    model, copy = taught(regression(), 100), regression()
    copy.restore(model.as_data())
    assert copy.predict(WEIGHTS) == pytest.approx(model.predict(WEIGHTS), rel=1e-3)


@pytest.mark.parametrize("data", [[], [1.0] * 8, ["x"] * 9, [float("nan")] * 9])
def test_data_of_another_size_is_refused(data: list[object]) -> None:
    with pytest.raises(ValueError):
        regression().restore(data)
