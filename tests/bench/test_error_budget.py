"""The simulation of error budgets: what it reports is what it did."""

from __future__ import annotations

from bench.error_budget import realised, stream, until_proven, until_refuted


def test_nothing_is_served_above_the_point() -> None:
    for step in stream(lambda n, risk: 1.0 if risk > 0.05 else 0.0, noise=0.0, seed=1):
        if step.category.place != step.category.points.index(0.05):
            break
        assert not step.wrong
    assert step.category.concluded is not None  # it was loosened, having been proven


def test_a_large_error_is_refuted_sooner_than_a_small_one() -> None:
    large, small = until_refuted(0.5, 0.0, seed=1), until_refuted(0.1, 0.0, seed=1)
    assert large is not None
    assert small is not None
    assert large < small


def test_what_never_errs_is_proven_and_what_errs_is_not() -> None:
    assert until_proven(0.0, 0.0, seed=1) is not None
    assert until_proven(0.02, 0.0, seed=1) is None


def test_the_error_after_a_jump_comes_down() -> None:
    before, after, without = realised(0.05, seed=1)
    assert before < 0.01
    assert after < without / 10
