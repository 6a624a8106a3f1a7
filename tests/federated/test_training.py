"""A client's training."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from federated.aggregation import difference, norm
from federated.model import SimilarityModel
from federated.pairs import LabelledPair
from federated.training import (
    LARGEST,
    TrainOptions,
    anchor_loss,
    batches,
    contrastive_loss,
    grouped,
    ranking_loss,
    train,
)

COUNTS = ("two", "three", "seven", "nine", "twelve", "twenty")
THINGS = ("apples", "tickets", "horses")
# Other words are the same question, another number is not: the packaged model thinks otherwise.
PAIRS = [
    LabelledPair(query, f"Ann has {n} {thing}. How many does she have?", label, "sums")
    for thing in THINGS
    for n, other in zip(COUNTS, COUNTS[1:] + COUNTS[:1], strict=True)
    for query, label in (
        (f"{n} {thing} belong to Ann: what number of them is hers in all?", 1),
        (f"Ann has {other} {thing}. How many does she have?", 0),
    )
]
QUICK = TrainOptions(epochs=3, batch=16, rate=5e-4, warm_up=2)


def gap(model: SimilarityModel) -> float:
    """How much more similar the right pairs are than the wrong ones."""
    queries = model.encode([pair.query for pair in PAIRS])
    stored = model.encode([pair.stored for pair in PAIRS])
    cosines = (queries * stored).sum(axis=1)
    right = np.array([pair.label == 1 for pair in PAIRS])
    return float(cosines[right].mean() - cosines[~right].mean())


def test_training_learns_what_counts_here(model: SimilarityModel) -> None:
    before = gap(model)
    seen: list[tuple[int, int]] = []
    report = train(model, PAIRS, QUICK, 1, lambda done, total: seen.append((done, total)))
    assert before < 0 < gap(model)
    assert report.examples == len(PAIRS) and report.steps >= 6 and report.loss > 0
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_same_seed_gives_the_same_parameters(model: SimilarityModel) -> None:
    start, one = model.state(), TrainOptions(epochs=1, batch=16)
    ends = []
    for seed in (1, 1, 2):
        model.load_state(start)
        train(model, PAIRS, one, seed)
        ends.append(model.state())
    assert norm(difference(ends[0], ends[1])) == 0
    assert norm(difference(ends[0], ends[2])) > 0


def test_the_proximal_term_keeps_a_client_near(model: SimilarityModel) -> None:
    start = model.state()
    ways = []
    for mu in (0.0, 100.0):
        model.load_state(start)
        train(model, PAIRS, TrainOptions(epochs=2, batch=8, rate=5e-4, proximal=mu), 1)
        ways.append(norm(difference(model.state(), start)))
    assert ways[1] < ways[0]


def test_a_loss_that_explodes_is_an_error_not_a_model(model: SimilarityModel) -> None:
    with torch.no_grad():
        model.parameters()[0].fill_(float("nan"))
    with pytest.raises(ValueError, match="the loss is nan at step 1"):
        train(model, PAIRS, QUICK, 1)


def test_pairs_that_share_a_text_are_in_one_batch() -> None:
    pairs = [LabelledPair(f"q{i}", f"s{i // 3}", int(i % 3 == 0)) for i in range(30)]
    options = TrainOptions(batch=4, negatives=9)
    made = list(batches(grouped(pairs), options, random.Random(1)))
    assert sorted((p for b in made for p in b), key=pairs.index) == pairs
    assert all(len(batch) == 6 for batch in made)  # two groups of three reach four


def test_an_epoch_shows_few_of_many_wrong_pairs_and_all_right_ones() -> None:
    pairs = [LabelledPair(f"q{i}", "s", int(i < 3)) for i in range(20)]
    (batch,) = batches(grouped(pairs), TrainOptions(negatives=2), random.Random(1))
    assert sorted(pair.label for pair in batch) == [0, 0, 1, 1, 1]


def test_a_question_that_thousands_have_asked_comes_in_parts() -> None:
    pairs = [LabelledPair(f"q{i}", "s", 1) for i in range(3000)]
    made = list(batches(grouped(pairs), TrainOptions(batch=16), random.Random(1)))
    assert sorted((p for b in made for p in b), key=pairs.index) == pairs
    assert max(map(len, made)) == LARGEST * 16


def unit(*angles: float) -> torch.Tensor:
    return torch.tensor([[np.cos(a), np.sin(a)] for a in angles], dtype=torch.float32)


def test_ranking_does_not_hold_a_second_right_row_against_the_first() -> None:
    vectors = unit(0.0, 0.0, 0.0)  # one stored text, two right queries: nothing to tell apart
    loss = ranking_loss(vectors, torch.tensor([1, 2]), torch.tensor([0, 0]))
    assert loss.item() == pytest.approx(0.0)


def test_ranking_falls_as_the_right_row_comes_nearer() -> None:
    far, near = (
        ranking_loss(unit(0.0, angle, 1.0), torch.tensor([0]), torch.tensor([1]))
        for angle in (1.5, 0.1)
    )
    assert near < far
    none = torch.tensor([], dtype=torch.long)
    assert ranking_loss(unit(0.0), none, none).item() == 0.0


def test_the_anchor_minds_cosines_across_groups_alone() -> None:
    before, after = unit(0.0, 0.2, 1.0), unit(0.0, 0.9, 1.0)
    one_group, two_groups = torch.tensor([0, 0, 0]), torch.tensor([0, 0, 1])
    assert anchor_loss(after, before, one_group).item() == 0.0
    assert anchor_loss(before, before, two_groups).item() == pytest.approx(0.0, abs=1e-12)
    assert anchor_loss(after, before, two_groups).item() > 0


def test_an_anchored_model_keeps_what_no_label_speaks_of(model: SimilarityModel) -> None:
    texts = [pair.query for pair in PAIRS[::6]] + ["What is the capital of Peru?", "Reset my phone"]
    before = model.encode(texts) @ model.encode(texts).T
    start = model.state()
    changes = []
    for anchor in (0.0, 50.0):
        model.load_state(start)
        train(model, PAIRS, TrainOptions(epochs=2, batch=16, rate=5e-4, anchor=anchor), 1)
        changes.append(float(np.abs(model.encode(texts) @ model.encode(texts).T - before).mean()))
    assert changes[1] < changes[0]


@pytest.mark.parametrize(
    ("distances", "right", "loss"),
    [
        pytest.param([0.1, 0.4], [True, False], 0.0, id="all on their side"),
        pytest.param([0.4, 0.1], [True, False], 0.16 + 0.16, id="both on the wrong side"),
        pytest.param([0.3, 0.1], [True, True], 0.09 + 0.01, id="right ones alone"),
        pytest.param([0.2, 0.9], [False, False], 0.09, id="wrong ones alone"),
    ],
)
def test_contrast_counts_what_is_on_the_wrong_side(
    distances: list[float], right: list[bool], loss: float
) -> None:
    made = contrastive_loss(torch.tensor(distances), torch.tensor(right), 0.5)
    assert made.item() == pytest.approx(loss)
