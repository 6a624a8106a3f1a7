"""P(wrong): what the shipped score says of plain cases, and what a file of one must hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.decision.features import FEATURE_NAMES, NEIGHBORS, Neighborhood, neighborhoods
from store.decision.score import (
    POOLED,
    SHIPPED,
    Head,
    Recalibration,
    Score,
    load_score,
    save_score,
    shipped_score,
)
from store.decision.score_model import (
    MOST_DECISIONS,
    Floats,
    Kernel,
    Line,
    Model,
    Trees,
    wrong_of,
)
from store.errors import ScoreInvalid

SCORE = shipped_score()
ASKED = "How do I descale a kettle?"
SAME = "How can I descale a kettle?"
OTHER = "How do I clean a keyboard?"


def stump(value: float) -> Trees:
    """Return one tree that looks at the similarity: `value` above 0.5, minus it below."""
    return Trees(
        base=0.0,
        roots=np.array([0], np.int32),
        features=np.array([0, 0, 0], np.int32),
        thresholds=np.array([0.5, 0.0, 0.0]),
        lefts=np.array([1, 1, 2], np.int32),
        rights=np.array([2, 1, 2], np.int32),
        values=np.array([0.0, -value, value]),
    )


def nothing_known() -> Kernel:
    """Return a kernel that resembles nothing and takes no side."""
    width = len(FEATURE_NAMES)
    return Kernel(
        np.zeros(width), np.ones(width), np.zeros((0, width)), np.zeros(0), bias=0.0, gamma=1.0
    )


def head(bias: float, points: tuple[tuple[float, float], ...] = ()) -> Head:
    line = Line(np.zeros(len(FEATURE_NAMES)), bias)
    model = Model(line, stump(1.0), nothing_known())
    return Head(model, model, points)


def score_of(**heads: Head) -> Score:
    return Score("toy", {POOLED: head(0.0), **heads})


def test_a_rewording_is_less_likely_wrong_than_another_question() -> None:
    for place in (Neighborhood(0.9), neighborhoods([0.9, *[0.5] * (NEIGHBORS - 1)])[0]):
        same, other = SCORE.wrong(ASKED, [(SAME, "", place), (OTHER, "", place)], "")
        assert same < other
        assert same < 0.5


def walked(trees: Trees, row: Floats) -> float:
    """Return what trees say of one row of features, node by node."""
    total = trees.base
    for at in trees.roots:
        while trees.lefts[at] != at:
            low = row[trees.features[at]] <= trees.thresholds[at]
            at = (trees.lefts if low else trees.rights)[at]
        total += trees.values[at]
    return float(total)


def grown(splits: int, rng: np.random.Generator, trees: int = 7, width: int = 5) -> Trees:
    """Return random trees, each of so many decisions that lie anywhere below each other."""
    roots: list[int] = []
    lefts: list[int] = []
    rights: list[int] = []
    for _ in range(trees):
        start = len(lefts)
        roots.append(start)
        lefts.append(start)
        rights.append(start)
        for _ in range(rng.integers(splits) if roots[1:] else splits):
            leaves = [at for at in range(start, len(lefts)) if lefts[at] == at]
            at = int(rng.choice(leaves))
            here = len(lefts)
            lefts += [here, here + 1]
            rights += [here, here + 1]
            lefts[at], rights[at] = here, here + 1
    size = len(lefts)
    return Trees(
        base=0.5,
        roots=np.array(roots, np.int32),
        features=rng.integers(0, width, size).astype(np.int32),
        thresholds=rng.normal(size=size).round(1),
        lefts=np.array(lefts, np.int32),
        rights=np.array(rights, np.int32),
        values=rng.normal(size=size),
    )


@given(st.integers(1, MOST_DECISIONS), st.integers(0, 2**32 - 1))
def test_packed_trees_say_what_walking_them_says(splits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    trees = grown(splits, rng)
    seen = rng.normal(size=(20, 5)).round(1)  # so that some lie on a threshold
    assert trees.log_odds(seen) == pytest.approx([walked(trees, row) for row in seen])


def test_a_tree_of_more_decisions_than_are_packed_is_refused() -> None:
    with pytest.raises(ValueError, match="one has 9 decisions, 8 are allowed"):
        grown(MOST_DECISIONS + 1, np.random.default_rng(0))


def test_trees_go_left_up_to_the_threshold_and_right_above_it() -> None:
    seen = np.zeros((3, len(FEATURE_NAMES)))
    seen[:, 0] = (0.4, 0.5, 0.6)
    assert stump(2.0).log_odds(seen).tolist() == [-2.0, -2.0, 2.0]


def test_a_kernel_sides_with_the_examples_it_resembles_and_with_none_far_from_all() -> None:
    two = np.array([[0.0, 0.0], [3.0, 3.0]])
    kernel = Kernel(np.zeros(2), np.ones(2), two, np.array([1.0, -1.0]), bias=-0.2, gamma=2.0)
    near_right, near_wrong, nowhere = kernel.log_odds(np.array([[0.1, 0], [3, 2.9], [-3.9, 3.9]]))
    assert near_right > 0.5 > -0.5 > near_wrong
    assert nowhere == pytest.approx(-0.2)


def test_where_two_categories_have_different_heads_the_more_doubtful_one_counts() -> None:
    score = score_of(strict=head(-4.0), easy=head(4.0))
    found = [(SAME, "strict", Neighborhood(0.9)), (SAME, "easy", Neighborhood(0.9))]
    for category in ("strict", "easy"):
        crossed, own = score.wrong(ASKED, found, category), score.wrong(ASKED, found, "strict")
        assert crossed[0] == own[0]
    assert score.wrong(ASKED, found, "easy")[1] < 0.5 < score.wrong(ASKED, found, "strict")[1]


def test_nothing_found_has_no_risks() -> None:
    assert SCORE.wrong(ASKED, [], "") == []


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_larger_budget_never_serves_less(one: float, other: float) -> None:
    small, large = sorted((one, other))
    for category in (POOLED, "math"):
        assert SCORE.point(category, small) <= SCORE.point(category, large)


def test_below_the_smallest_budget_nothing_may_be_served() -> None:
    score = score_of(own=head(0.0, points=((0.01, 0.2), (0.1, 0.4))))
    assert [score.point("own", budget) for budget in (0.0, 0.009, 0.01, 0.05, 0.1, 1.0)] == [
        0.0, 0.0, 0.2, 0.2, 0.4, 0.4,
    ]  # fmt: skip


@given(st.floats(-50, 50), st.floats(0.001, 10), st.floats(-5, 5))
def test_p_wrong_is_a_probability_and_falls_with_the_odds(
    odds: float, slope: float, bias: float
) -> None:
    lower, higher = wrong_of(np.array([odds, odds + 1]), (slope, bias))
    assert 0 <= higher <= lower <= 1


def test_it_fits_the_encoder_it_was_fitted_to_and_no_other() -> None:
    assert SCORE.fits(f"{SCORE.encoder}-0123456789ab")
    assert not SCORE.fits("text-embedding-3-small")
    assert not SCORE.fits(f"{SCORE.encoder}-federated-0123456789ab")
    assert not SCORE.fits(SCORE.encoder)


def test_what_is_saved_loads_as_the_same_score(tmp_path: Path) -> None:
    file = tmp_path / "score.json"
    save_score(SCORE, file, {"sets": ["ours"]})
    again = load_score(file)
    found = [(text, "math", Neighborhood(0.8)) for text in (SAME, OTHER)]
    assert again.wrong(ASKED, found, "math") == pytest.approx(SCORE.wrong(ASKED, found, "math"))
    assert again.point("math", 0.05) == SCORE.point("math", 0.05)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"features": ["similarity"]}, "other features"),
        ({"format": 0}, "other features"),
        ({"heads": {}}, "the pooled one is missing"),
        ({"heads": {"": {}}}, "cannot be read"),
    ],
)
def test_a_file_that_is_no_score_is_refused_in_one_line(
    tmp_path: Path, change: dict[str, object], why: str
) -> None:
    file = tmp_path / "score.json"
    file.write_text(json.dumps({**json.loads(SHIPPED.read_bytes()), **change}))
    with pytest.raises(ScoreInvalid, match=why) as refused:
        load_score(file)
    assert str(file) in str(refused.value) and "\n" not in str(refused.value)


def test_for_another_encoder_only_what_was_calibrated_to_it_serves() -> None:
    shipped = score_of(code=head(0.0, ((0.05, 0.3),)), talk=head(0.0, ((0.05, 0.3),)))
    new = shipped.only({"code": Recalibration((2.0, 0.0), ((0.05, 0.1),))})
    assert new.point("code", 0.05) == 0.1
    assert new.point("talk", 0.05) == new.point("anything", 0.05) == 0.0
    assert shipped.point("talk", 0.05) == 0.3
