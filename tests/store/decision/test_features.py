"""What the score sees of two questions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.decision.features import (
    FEATURE_NAMES,
    LEXICAL_NAMES,
    NEIGHBORS,
    Neighborhood,
    apart,
    features,
    neighborhoods,
)

ALONE = Neighborhood(0.8)
TEXTS = st.text(max_size=80)
COSINES = st.lists(st.floats(-1, 1), min_size=NEIGHBORS, max_size=NEIGHBORS).map(
    lambda found: sorted(found, reverse=True)
)


def seen(query: str, stored: str) -> dict[str, float]:
    return dict(zip(FEATURE_NAMES, features(query, stored, ALONE), strict=True))


def test_every_feature_has_one_name() -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)
    assert FEATURE_NAMES[: len(Neighborhood._fields)] == Neighborhood._fields


@given(TEXTS, TEXTS)
def test_every_pair_of_texts_has_finite_features(query: str, stored: str) -> None:
    assert all(math.isfinite(value) for value in features(query, stored, ALONE))


@given(TEXTS)
def test_a_text_leaves_nothing_of_itself_over(text: str) -> None:
    found = seen(text, text)
    assert (found["left_query"], found["left_stored"]) == (0, 0)
    assert found["words_shared"] == found["grams_shared"] == 1


@given(TEXTS, TEXTS)
def test_what_is_shared_is_the_same_either_way(query: str, stored: str) -> None:
    ours, theirs = seen(query, stored), seen(stored, query)
    for name in LEXICAL_NAMES:
        if name.endswith(("_shared", "_least", "_most", "_ratio")):
            assert ours[name] == pytest.approx(theirs[name])


def test_a_misspelt_word_is_less_of_a_difference_than_another_word() -> None:
    asked = "who painted the cathedral of the town"
    misspelt = seen(asked, "who painted the catherdral of the town")
    another = seen(asked, "who painted the windmills of the town")
    assert 0 < misspelt["left_most"] < another["left_most"]


@given(COSINES)
def test_the_nearest_has_a_margin_over_the_next_and_no_other_has_one(cosines: list[float]) -> None:
    places = neighborhoods(cosines)
    assert [place.rank for place in places] == list(range(NEIGHBORS))
    assert places[0].margin == cosines[0] - cosines[1] >= 0
    assert all(place.margin <= 0 for place in places[1:])
    assert {place.density for place in places} == {sum(cosines) / NEIGHBORS}


def test_too_few_neighbours_say_nothing() -> None:
    assert neighborhoods([0.9, 0.7]) == [Neighborhood(0.9), Neighborhood(0.7)]
    assert neighborhoods([]) == []


@given(COSINES)
def test_apart_is_what_a_smaller_cache_would_have_seen(cosines: list[float]) -> None:
    place = neighborhoods(cosines)[1]
    query, stored = "how do I oil a hinge", "how can I oil the hinges"
    crowded = features(query, stored, place)
    assert apart(crowded) == features(query, stored, Neighborhood(place.similarity))
