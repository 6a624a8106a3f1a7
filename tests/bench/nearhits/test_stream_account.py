"""What a stream came to."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import replace

import pytest

from bench.nearhits.stream_account import Alone, Served, back_after, curve, summary, table
from bench.nearhits.stream_plan import Phases

TURNS = Phases(overload=100, spoilt=200, calm=300, requests=700, calm_rate=1.0, overload_rate=2.0)
ALONE = [
    Alone(similarity=number / 10, bare=False, plain=number >= 2, seconds=0.5)
    for number in range(10)
]  # right in 80 %, wrong where nothing is near


def served(near_hits: Set[int], wrong: Set[int] = frozenset()) -> list[Served]:
    return [
        Served(
            index=index,
            task="a",
            sent=index / 2.0,
            ended=index / 2.0 + 0.4,
            right=index not in wrong,
            near_hit=index in near_hits,
        )
        for index in range(TURNS.requests)
    ]


def test_quality_is_compared_with_chance_at_the_same_share() -> None:
    found = summary(served(set(range(100, 200)), {100, 101}), ALONE, TURNS, 0)
    assert found.share == 1.0
    assert found.share_before == 0.5
    assert found.quality.mean == pytest.approx(0.99)
    assert found.near_hit_quality.mean == pytest.approx(0.98)
    assert found.random_quality.mean == pytest.approx(0.9)
    assert found.gain.mean == pytest.approx(0.09)
    assert found.random_quality.low <= 0.9 <= found.random_quality.high
    assert found.p50 == pytest.approx(0.4)
    assert found.throughput == pytest.approx(2.0, rel=0.02)


def test_a_backlog_does_not_count_as_throughput() -> None:
    late = [replace(each, ended=2 * each.sent) for each in served(set())]
    assert summary(late, ALONE, TURNS, 0).throughput < 0.1


def test_it_is_back_when_the_last_fifty_have_few_near_hits() -> None:
    assert back_after(served(set()), TURNS) == 50
    assert back_after(served(set(range(200, 290))), TURNS) == 90 + 45
    assert back_after(served(set(range(200, 700))), TURNS) is None


def test_spoilt_answers_that_went_out_are_counted() -> None:
    found = summary(served({10, 210, 211, 410}, {10, 210, 211, 500}), ALONE, TURNS, 0)
    assert found.wrong_after == 2
    assert found.share_after == pytest.approx(1 / 200)


def test_the_curve_goes_from_the_large_model_s_rate_to_the_small_one_s() -> None:
    points = list(curve(ALONE, 1.0))
    assert points[0] == (0.0, 1.0, 1.0, 1.0)
    assert points[5] == pytest.approx((0.5, 2.0, 0.9, 1.0))
    assert points[10] == pytest.approx((1.0, 2.0, 0.8, 0.8))
    assert all(math.isfinite(value) for point in points for value in point)


def test_the_table_names_every_way_of_routing() -> None:
    text = table(summary(served({150}), ALONE, TURNS, 0), ALONE, 1.0)
    for way in ("always large", "always small, bare", "5 nearest", "random", "ours"):
        assert f"| {way}" in text or way in text
    assert "after 50 requests" in text
