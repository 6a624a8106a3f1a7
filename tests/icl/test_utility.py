"""What the utility model learns, and which threshold the tuner settles on."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl.example import Example, TrackRecord
from icl.features import NAMES, REDUNDANCY, SIZE, with_redundancy
from icl.utility import LEVELS, ThresholdTuner, UtilityModel
from tests.icl.candidates import candidates, example

ASK = "What is the capital of {}?"


def row(**set_: float) -> tuple[float, ...]:
    return tuple(1.0 if name == "bias" else set_.get(name.replace(" ", "_"), 0.0) for name in NAMES)


@given(candidates(), st.text(max_size=60))
def test_an_untrained_model_ranks_as_the_cosine_does(ours: list[Example], ask: str) -> None:
    scores = UtilityModel().scores(ask, ours)
    ranked = sorted(zip(scores, (e.similarity for e in ours), strict=True), key=lambda p: p[1])
    assert [score for score, _ in ranked] == sorted(scores)
    assert all(0.0 <= score <= 1.0 for score in scores)


def test_an_untrained_model_says_what_was_measured() -> None:
    ours = [example("a", ASK.format("Peru"), "Lima", 0.75)]
    assert UtilityModel().scores(ASK.format("Fiji"), ours) == pytest.approx([0.53], abs=0.01)


def test_it_learns_what_helps_beside_similarity() -> None:
    model, draw = UtilityModel(), random.Random(3)
    for _ in range(400):
        good = draw.random() < 0.5
        one = row(similarity=draw.random(), quality_of_helped_answers=1.0 if good else -1.0)
        model.learn([one], 0.9 if good else 0.1)
    well, badly = (
        model.value(row(similarity=0.6, quality_of_helped_answers=sign)) for sign in (1.0, -1.0)
    )
    assert well > 0.75
    assert badly < 0.25


def test_a_better_record_makes_a_trained_model_prefer_an_example() -> None:
    model, draw = UtilityModel(), random.Random(3)
    for _ in range(300):
        sign = draw.choice((1.0, -1.0))
        model.learn([row(similarity=0.7, quality_of_helped_answers=sign)], 0.5 + 0.4 * sign)
    poor, fine = model.scores(
        ASK.format("Fiji"),
        [
            example("a", ASK.format("Peru"), "Lima", 0.8, record=TrackRecord(5.0, 0.1)),
            example("b", ASK.format("Oman"), "Muscat", 0.6, record=TrackRecord(5.0, 0.9)),
        ],
    )
    assert fine > poor + 0.3


def test_it_forgets_what_no_longer_holds() -> None:
    model = UtilityModel()
    good = row(similarity=0.8)
    for _ in range(1000):
        model.learn([good], 1.0)
    for _ in range(1000):
        model.learn([good], 0.0)
    assert model.value(good) < 0.35


def test_many_examples_of_one_answer_count_as_one_answer() -> None:
    one, many = UtilityModel(), UtilityModel()
    features = row(similarity=0.8)
    one.learn([features], 1.0)
    many.learn([features] * 5, 1.0)
    assert one.value(features) == pytest.approx(many.value(features))


@pytest.mark.parametrize(
    ("features", "gain", "weight"),
    [
        ([], 1.0, 1.0),
        ([(1.0, 2.0)], 1.0, 1.0),
        ([(float("nan"),) * SIZE], 1.0, 1.0),
        ([(1.0,) * SIZE], float("nan"), 1.0),
        ([(1.0,) * SIZE], 1.0, float("inf")),
    ],
)
def test_what_cannot_be_learnt_from_is_dropped(
    features: list[tuple[float, ...]], gain: float, weight: float
) -> None:
    model = UtilityModel()
    model.learn(features, gain, weight)
    assert model.as_data() == UtilityModel().as_data()


@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(-1e9, 1e9), min_size=SIZE, max_size=SIZE),
            st.floats(-1e9, 1e9),
            st.floats(0.0, 1e9),
        ),
        max_size=20,
    )
)
def test_whatever_it_learns_its_values_stay_bounded(
    told: list[tuple[list[float], float, float]],
) -> None:
    model = UtilityModel()
    for features, gain, weight in told:
        model.learn([tuple(features)], gain, weight)
    assert 0.0 <= model.value(row(similarity=0.5)) <= 1.0
    assert UtilityModel.from_data(model.as_data()).value(row()) == pytest.approx(
        model.value(row()), abs=1e-6
    )


def test_it_comes_back_from_json_as_it_was() -> None:
    model = UtilityModel()
    model.learn([row(similarity=0.7, age=0.3)], 0.9)
    back = UtilityModel.from_data(json.loads(json.dumps(model.as_data())))
    assert (back.as_data(), back.seen) == (model.as_data(), 1)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"precision": [[1.0]]},
        {"precision": "x"},
        {"precision": None},
        {"moment": [float("nan")] * SIZE},
        {"precision": [[0.0] * SIZE] * SIZE},
    ],
)
def test_data_of_another_version_or_size_gives_a_new_model(change: dict[str, object]) -> None:
    model = UtilityModel()
    model.learn([row(similarity=0.7)], 0.9)
    assert UtilityModel.from_data({**model.as_data(), **change}).seen == 0


def test_redundancy_is_the_one_feature_that_others_change() -> None:
    before = row(similarity=0.4)
    after = with_redundancy(before, 0.7)
    assert (after[REDUNDANCY], len(after)) == (0.7, SIZE)
    assert [a == b for a, b in zip(before, after, strict=True)].count(False) == 1


def told(tuner: ThresholdTuner, qualities: dict[float, float], rounds: int, seed: int) -> float:
    draw, adopted = random.Random(seed), 0
    for _ in range(rounds):
        level = tuner.draw(draw)
        adopted += level == 0.5
        tuner.learn(level, float(draw.random() < qualities[level]), 100)
    return adopted / rounds


BEST_AT_HALF = {0.0: 0.5, 0.3: 0.55, 0.4: 0.6, 0.5: 0.85, 0.6: 0.4}


def test_the_tuner_begins_with_no_threshold() -> None:
    assert ThresholdTuner().adopted == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_the_tuner_finds_the_level_that_gains_most(seed: int) -> None:
    tuner = ThresholdTuner()
    told(tuner, BEST_AT_HALF, 3000, seed)
    assert tuner.adopted == 0.5
    assert told(tuner, BEST_AT_HALF, 500, seed) > 0.8


def test_the_tuner_follows_a_change() -> None:
    tuner = ThresholdTuner()
    told(tuner, BEST_AT_HALF, 3000, 1)
    told(tuner, {**BEST_AT_HALF, 0.5: 0.2, 0.0: 0.9}, 4000, 2)
    assert tuner.adopted == 0.0


def test_levels_of_equal_quality_differ_by_their_tokens() -> None:
    tuner = ThresholdTuner(margin=0.005)
    for _ in range(100):
        tuner.learn(0.0, 0.8, 400)
        tuner.learn(0.5, 0.8, 100)
    assert tuner.adopted == 0.5


def test_noise_within_the_margin_does_not_move_it() -> None:
    tuner = ThresholdTuner()
    for _ in range(100):
        tuner.learn(0.0, 0.80, 0)
        tuner.learn(0.5, 0.81, 0)
    assert tuner.adopted == 0.0


def test_it_tries_less_as_it_knows_more_but_never_stops() -> None:
    tuner = ThresholdTuner()
    before = tuner.exploring
    for at in range(50_000):
        tuner.learn(LEVELS[at % len(LEVELS)], 0.5, 0)
    assert before == 0.3
    assert 0.05 <= tuner.exploring < 0.08


def test_the_tuner_comes_back_from_json_as_it_was() -> None:
    tuner = ThresholdTuner()
    told(tuner, BEST_AT_HALF, 1000, 1)
    back = ThresholdTuner.from_data(json.loads(json.dumps(tuner.as_data())))
    assert back.as_data() == tuner.as_data()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 9},
        {"levels": [0.0, 1.0]},
        {"counts": [1.0]},
        {"counts": [-1.0] * len(LEVELS)},
        {"means": None},
        {"adopted": 0.77},
    ],
)
def test_data_of_other_levels_gives_a_new_tuner(change: dict[str, object]) -> None:
    tuner = ThresholdTuner()
    tuner.learn(0.3, 1.0, 0)
    fresh = ThresholdTuner().as_data()
    assert ThresholdTuner.from_data({**tuner.as_data(), **change}).as_data() == fresh


@pytest.mark.parametrize(
    ("level", "quality", "weight"), [(0.33, 1.0, 1.0), (0.3, float("nan"), 1.0), (0.3, 1.0, 0.0)]
)
def test_what_is_no_observation_of_a_level_is_dropped(
    level: float, quality: float, weight: float
) -> None:
    tuner = ThresholdTuner()
    tuner.learn(level, quality, 10, weight)
    assert tuner.as_data() == ThresholdTuner().as_data()
