"""What a score is judged by, and what else it learns from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.train.candidates import Example, examples_of, kinship
from embed.encoder import Vectors

ROWS = [
    {"q1": "how tall is the tower", "q2": "what is the height of the tower", "label": 1},
    {"q1": "how tall is the tower", "q2": "how old is the tower", "label": 0},
    {"q1": "how tall is the tower", "q2": "how tall is that tower", "label": 1},
    {"q1": "where is the bridge", "q2": "in which town is the bridge", "label": 1},
]


def alike(texts: Sequence[str]) -> Vectors:
    """Return vectors that are all near each other, none equal to another."""
    rows = np.ones((len(texts), len(texts)), np.float32) + 2 * np.eye(len(texts), dtype=np.float32)
    unit: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def pairs(examples: Sequence[Example], judged: bool) -> dict[tuple[str, str], bool]:
    return {(e.query, e.stored): e.right for e in examples if e.judged is judged}


def test_a_score_is_judged_by_what_is_asked_beside_what_is_stored() -> None:
    found = pairs(examples_of({"ours": ROWS}, ["why is it late"], alike), judged=True)
    assert {asked for asked, _ in found} == {row["q2"] for row in ROWS}
    assert {known for _, known in found} == {row["q1"] for row in ROWS} | {"why is it late"}
    assert found["how tall is that tower", "how tall is the tower"]
    assert not found["how old is the tower", "how tall is the tower"]


def test_it_learns_the_other_way_round_as_well() -> None:
    learnt = pairs(examples_of({"ours": ROWS}, [], alike), judged=False)
    assert learnt["where is the bridge", "in which town is the bridge"]
    assert not learnt["how tall is the tower", "how old is the tower"]


def test_versions_of_one_question_meet_where_that_is_wanted() -> None:
    learnt = pairs(examples_of({"ours": ROWS}, [], alike, among=["ours"]), judged=False)
    assert learnt["how tall is that tower", "what is the height of the tower"]
    assert not learnt["how tall is that tower", "how old is the tower"]
    assert not learnt["how old is the tower", "where is the bridge"]
    assert all(asked != known for asked, known in learnt)


def test_of_two_versions_that_are_both_other_questions_nobody_knows() -> None:
    right = kinship([*ROWS, {"q1": ROWS[0]["q1"], "q2": "is the tower old", "label": 0}])
    assert right("is the tower old", "how old is the tower") is None
    assert right("is the tower old", "where is the bridge") is False


def test_contrasts_are_learnt_from_and_not_judged_by() -> None:
    ours = [{"q1": "open the door", "q2": "close the door", "label": 0}]
    examples = examples_of({"ours": ROWS}, [], alike, contrasts=ours)
    learnt = pairs(examples, judged=False)
    assert learnt["close the door", "open the door"] is False
    assert learnt["open the door", "close the door"] is False
    assert not any("door" in asked + known for asked, known in pairs(examples, judged=True))
