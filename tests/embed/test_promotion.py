"""The gate passes what is better on held-out pairs, and says why it refuses anything else."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed.promotion import (
    OTHERS,
    Cosines,
    GateRules,
    Judged,
    best_cosine,
    compare,
)

RULES = GateRules()


def pairs_of(count: int, category: str = "how-to") -> list[Judged]:
    """Return pairs that share no text, right and wrong by turns."""
    return [
        Judged(f"{category} {n}", f"{category} {n} again", n % 2, category) for n in range(count)
    ]


def cosines_of(pairs: list[Judged], quality: float, seed: int = 1) -> Cosines:
    """Return cosines that tell right from wrong the better, the higher the quality."""
    noise = np.random.default_rng(seed).normal(0, 0.1, len(pairs))
    labels = np.array([pair.label for pair in pairs])
    return np.clip(0.6 + quality * labels + noise, -1, 1).astype(np.float32)


def test_a_better_encoder_passes() -> None:
    pairs = pairs_of(400)
    verdict = compare(pairs, cosines_of(pairs, 0.1), cosines_of(pairs, 0.3), RULES)
    assert verdict.passed, verdict.reasons
    assert verdict.reasons == ()
    assert verdict.interval is not None and verdict.interval[0] > 0
    assert verdict.overall is not None and verdict.overall.gain > 0.1
    assert verdict.overall.candidate.false_hit_rate < verdict.overall.running.false_hit_rate


@pytest.mark.parametrize("quality", [0.05, 0.15], ids=["worse", "as good"])
def test_an_encoder_that_is_not_better_is_refused(quality: float) -> None:
    pairs = pairs_of(400)
    running = cosines_of(pairs, 0.15)
    verdict = compare(pairs, running, cosines_of(pairs, quality), RULES)
    assert not verdict.passed
    assert verdict.reasons[0].startswith("does not win overall: F0.5 0.")


def test_a_gain_that_a_few_pairs_might_owe_to_chance_is_no_win() -> None:
    pairs = pairs_of(60)
    running = cosines_of(pairs, 0.2)
    candidate = running.copy()
    right = [place for place, pair in enumerate(pairs) if pair.label][0]
    candidate[right] = 0.99
    verdict = compare(pairs, running, candidate, RULES)
    assert not verdict.passed and "which is to be above 0" in verdict.reasons[0]


def test_a_category_that_loses_more_than_the_margin_is_named() -> None:
    pairs = pairs_of(600) + pairs_of(60, "legal")
    legal = np.array([pair.category == "legal" for pair in pairs])
    running, candidate = cosines_of(pairs, 0.1), cosines_of(pairs, 0.4)
    running[legal] = cosines_of(pairs, 0.4)[legal]
    candidate[legal] = cosines_of(pairs, 0.05, seed=2)[legal]
    verdict = compare(pairs, running, candidate, RULES)
    assert not verdict.passed
    (reason,) = verdict.reasons
    assert reason.startswith("loses in legal: F0.5 ") and "the margin of 0.05" in reason
    generous = GateRules(margin=0.9)
    assert compare(pairs, running, candidate, generous).passed


def test_categories_with_few_pairs_are_judged_together() -> None:
    pairs = pairs_of(400)
    small = [pair for name in ("a", "b", "c", "d") for pair in pairs_of(12, name)]
    pairs += small + [Judged("only", "right ones", 1, "e")]
    few = np.array([pair.category != "how-to" for pair in pairs])
    running, candidate = cosines_of(pairs, 0.1), cosines_of(pairs, 0.3)
    running[few] = cosines_of(pairs, 0.4)[few]
    candidate[few] = cosines_of(pairs, 0.0)[few]
    verdict = compare(pairs, running, candidate, RULES)
    assert [each.category for each in verdict.categories] == [OTHERS, "how-to"]
    assert verdict.categories[0].pairs == 49
    assert any("loses in the categories with few pairs" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        pytest.param([], "0 (0 right, 0 wrong)", id="none"),
        pytest.param(pairs_of(49), "49 (24 right, 25 wrong)", id="few"),
        pytest.param(
            [Judged(f"{n}", f"{n}!", int(n > 8), "x") for n in range(100)],
            "100 (91 right, 9 wrong)",
            id="one-sided",
        ),
    ],
)
def test_too_few_held_out_pairs_are_a_reason(pairs: list[Judged], said: str) -> None:
    verdict = compare(pairs, cosines_of(pairs, 0.1), cosines_of(pairs, 0.9), RULES)
    assert not verdict.passed and verdict.overall is None
    (reason,) = verdict.reasons
    assert reason == (
        f"too few held-out pairs: {said}, where the gate asks for 50 with 10 of either kind"
    )


def test_pairs_that_share_a_text_count_as_one_draw() -> None:
    hub = [Judged("the same question", f"asked so {n}", n % 2, "x") for n in range(200)]
    apart = pairs_of(200, "x")
    better = [
        compare(pairs, cosines_of(pairs, 0.1), cosines_of(pairs, 0.12), RULES).interval
        for pairs in (hub, apart)
    ]
    assert better[0] is not None and better[1] is not None
    assert better[0][0] == better[0][1], "one group, drawn again and again"
    assert better[1][0] < better[1][1]


@pytest.mark.parametrize(
    "cosines", [np.zeros(3, np.float32), np.full(60, np.nan, np.float32)], ids=["count", "NaN"]
)
def test_cosines_that_are_none_are_refused(cosines: Cosines) -> None:
    pairs = pairs_of(60)
    with pytest.raises(ValueError, match="60 pairs have cosines"):
        compare(pairs, cosines_of(pairs, 0.1), cosines, RULES)


def test_a_verdict_is_plain_values() -> None:
    pairs = pairs_of(100)
    told = compare(pairs, cosines_of(pairs, 0.1), cosines_of(pairs, 0.4), RULES).as_data()
    assert json.loads(json.dumps(told)) == told
    assert told["overall"]["pairs"] == 100
    assert set(told["categories"][0]["candidate"]) == {
        "precision",
        "recall",
        "f_beta",
        "false_hit_rate",
    }


labelled = st.lists(
    st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]), st.booleans()), max_size=30
)


@given(labelled)
def test_no_threshold_has_a_better_f_than_the_best(pairs: list[tuple[float, bool]]) -> None:
    cosines = np.array([cosine for cosine, _ in pairs], np.float32)
    labels = np.array([label for _, label in pairs], bool)

    def f(threshold: float) -> float:  # the slow way
        served = cosines >= threshold
        hits, wrong = (served & labels).sum(), (served & ~labels).sum()
        missed = labels.sum() - hits
        return float(1.25 * hits / (1.25 * hits + 0.25 * missed + wrong)) if hits else 0.0

    best = best_cosine(cosines, labels)
    if best is None:
        assert not labels.any()
    else:
        assert f(best) == pytest.approx(max(f(each) for each in (0.0, 0.2, 0.4, 0.6, 0.8)))


@given(st.integers(0, 2**16), st.integers(50, 120))
def test_an_encoder_never_wins_against_itself(seed: int, count: int) -> None:
    pairs = pairs_of(count)
    cosines = cosines_of(pairs, 0.2, seed)
    verdict = compare(pairs, cosines, cosines, RULES)
    assert not verdict.passed and len(verdict.reasons) == 1
    assert verdict.interval == (0.0, 0.0)
