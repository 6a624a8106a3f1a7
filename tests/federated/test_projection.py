"""PCA from summed covariances."""

from __future__ import annotations

import numpy as np
import pytest

from embed.encoder import Vectors
from federated.projection import TooFewQueries, fit, moments, project, summed


def rows(n: int, seed: int, dimension: int = 16, rank: int = 4) -> Vectors:
    """Unit rows that lie close to a few directions, the same for every seed."""
    directions = np.random.default_rng(0).normal(size=(rank, dimension))
    chance = np.random.default_rng(seed)
    made = chance.normal(size=(n, rank)) @ directions + 0.05 * chance.normal(size=(n, dimension))
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


def test_sites_that_tell_sums_come_to_what_their_pooled_vectors_would() -> None:
    sites = [rows(n, seed) for seed, n in enumerate((200, 350, 900))]
    apart = fit(summed(moments(site) for site in sites), 4)
    pooled = fit(moments(np.concatenate(sites)), 4)
    np.testing.assert_allclose(apart, pooled, atol=1e-5)


def test_rows_are_orthonormal_and_cosines_survive() -> None:
    vectors = rows(400, 1)
    projection = fit(moments(vectors), 4)
    np.testing.assert_allclose(projection @ projection.T, np.eye(4), atol=1e-5)
    short = project(vectors, projection)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(short @ short.T, vectors @ vectors.T, atol=0.05)


def test_a_site_of_few_queries_tells_nothing() -> None:
    with pytest.raises(TooFewQueries, match="199 distinct queries, 200"):
        moments(rows(199, 0))


def test_no_vector_counts_for_more_than_the_clip() -> None:
    vectors = rows(200, 0)
    loud = vectors.copy()
    loud[0] *= 1000
    np.testing.assert_allclose(moments(loud).outer, moments(vectors).outer, atol=1e-4)


def test_the_same_sums_give_the_same_projection() -> None:
    total = moments(rows(300, 2))
    np.testing.assert_array_equal(fit(total, 3), fit(total, 3))


@pytest.mark.parametrize("dimension", [0, 17])
def test_a_dimension_that_there_is_not_is_refused(dimension: int) -> None:
    with pytest.raises(ValueError, match="allowed: 1 to 16"):
        fit(moments(rows(200, 0)), dimension)


def test_no_site_gives_no_sum() -> None:
    with pytest.raises(ValueError, match="no site"):
        summed([])
