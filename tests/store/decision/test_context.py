"""Two dialogues are the same so far, or a needless miss: never the other way round."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.decision.context import open_places, same_past
from store.entry import Vector
from tests.entries import axis, directions, near

SOME = axis(0)
FIRST = "Which walks are there around Bergen?"
FIRST_ANEW = "Which are the walks around Bergen?"
SECOND = "Is the one along the ridge steep?"
SECOND_ANEW = "Is the walk along the ridge a steep one?"

texts = st.lists(st.sampled_from([FIRST, FIRST_ANEW, SECOND, "Thanks!"]), max_size=4)


@given(texts)
def test_equal_pasts_need_no_vectors(past: list[str]) -> None:
    assert open_places(past, list(past), ()) == ()


def test_only_turns_that_differ_are_left_to_their_vectors() -> None:
    vectors = (SOME, SOME, SOME)
    stored = (FIRST, SECOND, "Thanks!")
    assert open_places((FIRST_ANEW, SECOND, "Thanks!"), stored, vectors) == (0,)
    assert open_places((FIRST, SECOND_ANEW, "Thanks!"), stored, vectors) == (1,)
    assert open_places((FIRST_ANEW, SECOND_ANEW, "Thanks!"), stored, vectors) == (0, 1)


@given(texts, texts)
def test_dialogues_of_different_depth_are_never_the_same(one: list[str], other: list[str]) -> None:
    if len(one) != len(other):
        assert open_places(one, other, [SOME] * len(other)) is None


@pytest.mark.parametrize(
    ("asked", "stored"),
    [
        ("Plan a trip of 5 days to Bergen.", "Plan a trip of 6 days to Bergen."),
        ("Tell me about Bergen in short.", "Tell me about Oslo in short."),
        ("I am allergic to nuts.", "I am not allergic to nuts."),
        ("Sort the list ascending.", "Sort the list descending."),
        ("Feed 10 ducks for a week.", "Feed ducks for a week."),
        ("Tell me about the old bridge in Oslo.", "Tell me about the old bridge."),
        ('Explain the phrase "in the loop".', "Explain the phrase."),
        ("Does the cat chase the dog?", "Does the dog chase the cat?"),
        ("I am vegetarian and eat fish.", "I am vegetarian and do not eat fish."),
    ],
)
def test_what_guards_see_forbids_any_turn_and_in_both_directions(asked: str, stored: str) -> None:
    for ours, theirs in ((asked, stored), (stored, asked)):
        assert open_places([ours], [theirs], [SOME]) is None
        assert open_places([FIRST, ours], [FIRST, theirs], [SOME, SOME]) is None
        assert open_places([ours, FIRST], [theirs, FIRST], [SOME, SOME]) is None


@pytest.mark.parametrize("vectors", [(), (None, None), (SOME, None), (SOME,)])
def test_a_stored_turn_without_a_vector_has_to_be_the_same_word_for_word(
    vectors: tuple[Vector | None, ...],
) -> None:
    assert open_places((FIRST, SECOND_ANEW), (FIRST, SECOND), vectors) is None
    assert open_places((FIRST, SECOND), (FIRST, SECOND), vectors) == ()


@pytest.mark.parametrize(
    ("cosines", "threshold", "same"),
    [
        pytest.param((0.95,), 0.9, True, id="above"),
        pytest.param((0.85,), 0.9, False, id="below"),
        pytest.param((0.95, 0.97), 0.9, True, id="all above"),
        pytest.param((0.95, 0.85), 0.9, False, id="the second below"),
        pytest.param((0.85, 0.95), 0.9, False, id="the first below"),
        pytest.param((), 0.9, True, id="nothing that differs"),
    ],
)
def test_every_turn_has_to_reach_the_threshold(
    cosines: tuple[float, ...], threshold: float, same: bool
) -> None:
    asked = [near(0, cosine) for cosine in cosines]
    assert same_past(asked, [axis(0)] * len(cosines), threshold) is same


def test_the_threshold_is_inclusive() -> None:
    assert same_past([axis(0)], [axis(0)], 1.0)


def test_a_turn_that_could_not_be_encoded_is_never_the_same() -> None:
    assert not same_past([None], [axis(0)], -1.0)
    assert not same_past([axis(0)], [None], -1.0)
    assert not same_past([axis(0), None], [axis(0), axis(1)], -1.0)


@given(st.integers(0, 40), st.floats(-1, 1), st.integers(1, 4))
def test_it_does_not_matter_which_of_two_was_stored(
    seed: int, threshold: float, turns: int
) -> None:
    rows = directions(2 * turns, seed=seed)
    one, other = rows[:turns], rows[turns:]
    assert same_past(one, other, threshold) == same_past(other, one, threshold)
