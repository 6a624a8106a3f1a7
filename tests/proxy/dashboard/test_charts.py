"""Charts: what is drawn is within the picture, and says the same as its numbers."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dashboard.charts import HEIGHT, LEFT, WIDTH, Series, chart
from proxy.dashboard.formats import count

START = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
VALUES = st.none() | st.floats(0, 1e9, allow_nan=False)


def moments(number: int) -> list[datetime]:
    return [START + timedelta(minutes=n) for n in range(number)]


def points(path: str) -> list[tuple[float, float]]:
    found = re.findall(r"[ML]?([\d.]+) ([\d.]+)", path)
    return [(float(x), float(y)) for x, y in found]


@given(st.lists(st.tuples(VALUES, VALUES), max_size=80), st.booleans())
def test_everything_is_drawn_within_the_picture(
    values: list[tuple[float | None, float | None]], stacked: bool
) -> None:
    series = [Series("a", [v[0] for v in values]), Series("b", [v[1] for v in values])]
    made = chart("t", moments(len(values)), series, str, stacked=stacked)
    for line in made.lines:
        for x, y in points(line.path):
            assert LEFT <= x <= WIDTH and 0 <= y <= HEIGHT


def test_a_line_is_broken_off_where_there_is_no_value() -> None:
    made = chart("t", moments(4), [Series("a", [1.0, None, 2.0, 3.0])], str)
    assert made.lines[0].path.count("M") == 2


def test_areas_stand_on_each_other() -> None:
    series = [Series("a", [1.0, 1.0]), Series("b", [1.0, 1.0])]
    lower, upper = chart("t", moments(2), series, str, stacked=True, most=2.0).lines
    (_, top_of_lower), *_ = points(lower.path)
    (_, top_of_upper), *_, (_, foot_of_upper) = points(upper.path)
    assert top_of_upper < top_of_lower == foot_of_upper


def test_the_axis_ends_at_a_round_number_above_all_values() -> None:
    made = chart("t", moments(2), [Series("a", [3.0, 41.0])], lambda v: f"{v:g}")
    assert [tick.text for tick in made.levels] == ["0", "12.5", "25", "37.5", "50"]


@pytest.mark.parametrize("most", [0.0, 1.0, 5.0, 10.0, 71.0])
def test_an_axis_of_whole_numbers_says_at_which_heights_its_lines_are(most: float) -> None:
    made = chart("t", moments(2), [Series("a", [most, 0.0])], count, whole=True)
    said = [float(tick.text) for tick in made.levels]
    steps = {above - below for below, above in itertools.pairwise(said)}
    assert len(steps) == 1 and said[-1] >= most


def test_the_numbers_are_the_latest_first_and_leave_out_empty_moments() -> None:
    made = chart("t", moments(3), [Series("a", [5.0, 0.0, None]), Series("b", [1.0, 0.0, 2.0])],
                 lambda v: f"{v:g}")  # fmt: skip
    assert made.rows == (("2026-01-02 03:02", "–", "2"), ("2026-01-02 03:00", "5", "1"))
    assert made.summary == "the latest a 0, b 2"


def test_nothing_at_all_is_a_chart_without_lines() -> None:
    made = chart("t", [], [Series("a", [])], str)
    assert made.lines[0].path == "" and made.rows == () and made.times == ()


def test_values_may_stand_over_names_as_well_as_moments() -> None:
    drawn = chart("f", ["0", "1", "2"], [Series("a", [0.5, None, 0.7])], str, over="Round")
    assert drawn.over == "Round"
    assert drawn.rows == (("2", "0.7"), ("0", "0.5"))
    assert [tick.text for tick in drawn.times] == ["0", "1", "2"]
