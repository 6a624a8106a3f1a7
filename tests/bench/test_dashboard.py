"""The benchmark with the dashboard open: what it makes of what it measured."""

from __future__ import annotations

from typing import Any

from bench.dashboard import BOUND, failures, ratio_of


def pair(closed: float, opened: float) -> dict[str, Any]:
    return {"closed": {"p99": closed}, "open": {"p99": opened}}


def test_the_ratio_is_the_median_over_pairs() -> None:
    assert ratio_of([pair(1.0, 9.0), pair(2.0, 2.0), pair(4.0, 5.0)]) == 1.25


def test_a_slower_p99_and_answers_that_are_no_hits_are_failures() -> None:
    assert failures({"ratio": BOUND, "bound": BOUND, "odd": {}}) == []
    (slow,) = failures({"ratio": 1.51, "bound": BOUND, "odd": {}})
    assert "1.51 times" in slow
    (odd,) = failures({"ratio": 1.0, "bound": BOUND, "odd": {"nearhit; fwd=miss": 2}})
    assert "fwd=miss" in odd
