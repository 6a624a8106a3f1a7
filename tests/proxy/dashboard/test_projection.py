"""Laws of the plane that vectors are laid on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from proxy.dashboard.projection import fitted, projected

Rows = npt.NDArray[np.float64]
ANY: Any = st.tuples(st.integers(0, 12), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-10, 10, allow_subnormal=False))
)


def spread(seed: int, count: int = 20, dimension: int = 6) -> Rows:
    """Return vectors whose principal axes are far apart, so that they are told exactly."""
    drawn = np.random.default_rng(seed)
    scales = 4.0 ** -np.arange(dimension)
    turned = np.linalg.qr(drawn.standard_normal((dimension, dimension)))[0]
    return np.asarray(drawn.standard_normal((count, dimension)) * scales @ turned)


def assert_alike(ours: Rows, theirs: Rows) -> None:
    """Hold the same points against each other; a rounding may turn an axis round.

    That is when two components of it are of the same size.
    """
    for axis in (0, 1):
        now, was = ours[:, axis], theirs[:, axis]
        np.testing.assert_allclose(now, was * np.sign(now @ was), atol=1e-6)


@given(ANY)
def test_points_are_finite_and_as_many_as_vectors(vectors: Rows) -> None:
    points, share = projected(vectors)
    assert points.shape == (len(vectors), 2) and np.isfinite(points).all()
    assert 0 <= share <= 1


@given(ANY)
def test_no_two_points_are_farther_apart_than_their_vectors(vectors: Rows) -> None:
    points, _ = projected(vectors)
    apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    drawn = np.linalg.norm(points[:, None] - points[None], axis=2)
    assert (drawn <= apart + 1e-6).all()


@given(st.integers(0, 1000), arrays(np.float64, 6, elements=st.floats(-100, 100)))
def test_moving_all_vectors_alike_moves_no_point(seed: int, shift: Rows) -> None:
    vectors = spread(seed)
    here, there = projected(vectors), projected(vectors + shift)
    assert_alike(there.points, here.points)
    assert there.share == pytest.approx(here.share)


@given(st.integers(0, 1000), st.permutations(range(20)))
def test_the_order_is_that_of_the_vectors(seed: int, order: list[int]) -> None:
    vectors = spread(seed)
    shuffled = projected(vectors[order]).points
    assert_alike(shuffled, projected(vectors).points[order])


@given(st.integers(0, 1000))
def test_what_lies_in_a_plane_is_shown_whole(seed: int) -> None:
    vectors = spread(seed, dimension=6)[:, :2] @ spread(seed + 1)[:2]
    points, share = projected(vectors)
    assert share == pytest.approx(1)
    apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    np.testing.assert_allclose(np.linalg.norm(points[:, None] - points[None], axis=2), apart,
                               atol=1e-6)  # fmt: skip


def test_the_first_axis_holds_most_and_the_share_is_what_both_hold() -> None:
    vectors = np.diag([3.0, 2.0, 1.0, 0.0])
    centred = vectors - vectors.mean(axis=0)
    held = np.linalg.svd(centred)[1] ** 2
    points, share = projected(vectors)
    np.testing.assert_allclose((points**2).sum(axis=0), held[:2])
    assert share == pytest.approx(held[:2].sum() / held.sum())


def test_equal_vectors_are_one_point_that_hides_nothing() -> None:
    points, share = projected(np.full((3, 4), 0.1, np.float32))
    assert (points == 0).all() and share == 1
    assert projected(np.empty((0, 4))).points.shape == (0, 2)


@given(ANY)
def test_all_points_fit_the_picture(vectors: Rows) -> None:
    for x, y in fitted(projected(vectors).points, 300, 100, 10):
        assert 9.9 <= x <= 290.1 and 9.9 <= y <= 90.1


def test_the_picture_keeps_proportions_and_points_up() -> None:
    square = np.array([[0.0, 0.0], [1.0, 1.0]])
    assert fitted(square, 300, 100, 10) == [(110.0, 90.0), (190.0, 10.0)]
    assert fitted(square[:1], 300, 100, 10) == [(150.0, 50.0)]
