"""What a what-if shows: two texts with what differs marked, and where the gained lie."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dashboard.differing import differing
from proxy.dashboard.what_if_view import bars_of

COSINES = st.lists(st.integers(500, 1000).map(lambda n: n / 1000), max_size=40)


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_runs_are_the_texts(a: str, b: str) -> None:
    ours, theirs = differing(a, b)
    assert "".join(run.text for run in ours) == a
    assert "".join(run.text for run in theirs) == b


def test_words_that_differ_are_marked_and_capitals_are_not() -> None:
    ours, theirs = differing("Where do swifts stay?", "where do swallows stay?")
    assert [run.text for run in ours if run.differs] == ["swifts"]
    assert [run.text for run in theirs if run.differs] == ["swallows"]


@given(st.text(max_size=60))
def test_a_text_does_not_differ_from_itself(text: str) -> None:
    assert not any(run.differs for runs in differing(text, text) for run in runs)


def test_a_long_text_is_shown_whole() -> None:
    text = "word " * 1000
    assert "".join(run.text for run in differing(text, "word")[0]) == text


@given(COSINES)
def test_every_gained_one_is_in_one_bar(similarities: list[float]) -> None:
    bars = bars_of(similarities)
    assert sum(bar.gained for bar in bars) == len(similarities)
    assert len(bars) <= 10
    assert all(a.high == pytest.approx(b.low) for a, b in zip(bars, bars[1:], strict=False))


def test_bars_begin_at_round_cosines() -> None:
    bars = bars_of([0.705, 0.716, 0.73])
    assert [(round(bar.low, 2), bar.gained) for bar in bars] == [
        (0.7, 1), (0.71, 1), (0.72, 0), (0.73, 1)
    ]  # fmt: skip
