"""The router's context has one size and stays within [-1, 1], whatever the request."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl import context

ANY = st.floats(allow_nan=True, allow_infinity=True)


def unit(dimension: int, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    vector = np.random.default_rng(seed).normal(size=dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@given(
    st.lists(ANY, max_size=8),
    st.lists(ANY, max_size=8),
    st.integers(-1, 10**9),
    st.integers(-1, 10**9),
    st.sampled_from([0, 1, 7, 384, 1024]),
    st.lists(st.sampled_from(["yes", "no", ""]), max_size=6),
)
def test_a_context_has_its_size_and_bounds(
    similarities: list[float],
    utilities: list[float],
    asked: int,
    answered: int,
    dimension: int,
    said: list[str],
) -> None:
    vector = unit(dimension) if dimension else None
    built = context.build(vector, similarities, utilities, asked, answered, said)
    assert len(built) == context.SIZE
    assert all(-1.0 <= value <= 1.0 for value in built)
    assert built[context.BIAS] == 1.0


def test_the_projection_is_the_same_in_every_release() -> None:
    vector = np.zeros(384, dtype=np.float32)
    vector[0] = vector[383] = 0.5
    built = context.build(vector, [], [], 0, 0, [])
    assert built[: context.PROJECTIONS] == (0.5, 0.5, 0.5, 0.0, -0.5, 0.5, 0.0, 0.5)


def test_a_request_without_a_vector_has_no_projection() -> None:
    assert set(context.build(None, [0.9], [0.5], 10, 5, [])[: context.PROJECTIONS]) == {0.0}


def test_near_vectors_have_near_contexts_and_distant_ones_do_not() -> None:
    one, other = unit(384, 1), unit(384, 2)
    near = one + 0.05 * other
    near /= np.linalg.norm(near)
    built = [np.array(context.build(v, [], [], 0, 0, [])) for v in (one, near, other)]
    assert np.abs(built[0] - built[1]).max() < 0.1
    assert np.abs(built[0] - built[2]).max() > 0.3


def test_projections_spread_over_the_range() -> None:
    built = [context.build(unit(384, seed), [], [], 0, 0, []) for seed in range(300)]
    deviations = np.array(built)[:, : context.PROJECTIONS].std(axis=0)
    assert np.all((deviations > 0.35) & (deviations < 0.6))


def test_the_gap_is_between_the_two_nearest() -> None:
    built = context.build(None, [0.7, 0.9, 0.6], [0.2, 0.4], 0, 0, [])
    assert built[context.TOP_SIMILARITY : context.AGREEMENT - 2] == pytest.approx(
        (0.9, (0.7 + 0.9 + 0.6) / 3, 0.2, 0.4, 0.3, 0.4)
    )


def test_longer_texts_have_larger_lengths() -> None:
    lengths = slice(context.AGREEMENT - 2, context.AGREEMENT)
    short, long = (context.build(None, [], [], n, n, [])[lengths] for n in (10, 1000))
    assert short[0] < long[0]
    assert short[1] < long[1]


@pytest.mark.parametrize(
    ("answers", "agreement"),
    [([], 0.0), (["a"], 0.0), (["a", "b"], 0.5), (["a", "b", "a", "a"], 0.75), (["a", "a"], 1.0)],
)
def test_examples_that_answer_the_same_agree(answers: list[str], agreement: float) -> None:
    assert context.build(None, [], [], 0, 0, answers)[context.AGREEMENT] == agreement
