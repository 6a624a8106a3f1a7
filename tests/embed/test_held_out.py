"""Trainer and gate hold out the same pairs, and no text of them is trained on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed.held_out import components, held_out

letters = st.sampled_from("abcdefghijklmnop")
edges = st.lists(st.tuples(letters, letters), max_size=30)


def test_pairs_that_share_a_text_through_others_are_one_group() -> None:
    assert components([("a", "b"), ("c", "d"), ("b", "e"), ("f", "f"), ("d", "a")]) == [
        0,
        0,
        0,
        1,
        0,
    ]


@given(edges)
def test_two_pairs_are_in_one_group_exactly_when_a_chain_of_texts_joins_them(
    pairs: list[tuple[str, str]],
) -> None:
    groups = components(pairs)
    assert sorted(set(groups)) == list(range(len(set(groups))))
    for i, pair in enumerate(pairs):
        joined = set(pair)  # the slow way
        for _ in pairs:
            joined |= {text for other in pairs if joined & set(other) for text in other}
        for j, other in enumerate(pairs):
            assert (groups[i] == groups[j]) == bool(joined & set(other))


@given(edges, st.floats(0, 1))
def test_no_text_is_held_out_and_trained_on(pairs: list[tuple[str, str]], share: float) -> None:
    held = held_out(pairs, share)
    sides = [{t for pair, out in zip(pairs, held, strict=True) if out == side for t in pair}
             for side in (True, False)]  # fmt: skip
    assert not sides[0] & sides[1]


@given(edges, st.permutations(range(30)))
def test_neither_the_order_of_the_pairs_nor_of_their_texts_matters(
    pairs: list[tuple[str, str]], order: Sequence[int]
) -> None:
    chosen = dict(zip(pairs, held_out(pairs, 0.5), strict=True))
    shuffled = [pairs[i] for i in order if i < len(pairs)]
    turned = held_out([(b, a) for a, b in shuffled], 0.5)
    assert turned == [chosen[pair] for pair in shuffled]


def test_a_group_stays_where_it_is_when_other_pairs_come() -> None:
    first = [(f"question {n}", f"Question {n} again") for n in range(200)]
    later = [(f"another {n}", f"another one {n}") for n in range(200)]
    assert held_out(first + later)[:200] == held_out(first)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_about_the_share_of_the_groups_is_held_out(share: float) -> None:
    pairs = [(f"question {n}", f"Question {n} again") for n in range(2000)]
    assert sum(held_out(pairs, share)) / 2000 == pytest.approx(share, abs=0.03)


def test_a_lone_surrogate_is_a_text_like_any_other() -> None:
    assert held_out([("\udcff", "b")], 1.0) == [True]
