"""Colours of the map."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.dashboard.map_page import coloured


@given(st.lists(st.sampled_from("abcdefgh")))
def test_the_largest_groups_have_colours_of_their_own(groups: list[str]) -> None:
    colours = coloured(groups)
    assert list(colours.values()) == list(range(1, min(5, len(set(groups))) + 1))
    rest = set(groups) - set(colours)
    least = min((groups.count(group) for group in colours), default=0)
    assert all(groups.count(group) <= least for group in rest)


def test_equal_groups_are_coloured_by_name_whatever_came_first() -> None:
    assert coloured(["live", "expired"]) == coloured(["expired", "live"])
