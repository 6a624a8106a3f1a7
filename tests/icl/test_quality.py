"""Answers are compared by form where there is one, and by a judge in both orders elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl.quality import exact_quality, quality_of, score, side_by_side_messages

POINTS = st.integers(-3, 3)


@pytest.mark.parametrize(
    ("answer_format", "small", "large", "quality"),
    [
        pytest.param("exact", " Went.\n", "went", 1.0, id="case and outer punctuation"),
        pytest.param("exact", "book  flight", "book flight", 1.0, id="inner white space"),
        pytest.param("exact", "gone", "went", 0.0, id="another word"),
        pytest.param("exact", "C", "C#", 0.0, id="a sign that means something"),
        pytest.param("exact", "3", "-3", 0.0, id="a minus sign"),
        pytest.param("exact", "?!", "?!", 1.0, id="nothing but punctuation"),
        pytest.param("exact", "went", "", None, id="no answer to compare with"),
        pytest.param("number", "So it is 1,234.50 in all.", "1234.5", 1.0, id="thousands"),
        pytest.param("number", "2 and 2 is 4", "The sum: 4.", 1.0, id="the last number counts"),
        pytest.param("number", "3.5kg", "3.5", 1.0, id="a unit"),
        pytest.param("number", "0.33333333", "0.333333333", 1.0, id="rounded"),
        pytest.param("number", "\u22125", "-5", 1.0, id="a typographic minus"),
        pytest.param("number", ".5", "0.5", 1.0, id="no leading zero"),
        pytest.param("number", "5", "-5", 0.0, id="another sign"),
        pytest.param("number", "no idea", "7", 0.0, id="no number beside one"),
        pytest.param("number", "7", "no idea", None, id="nothing to compare with"),
        pytest.param("exact", ".5", "5", 0.0, id="a decimal point that leads"),
        pytest.param("number", "1234567", "1234568", 0.0, id="whole numbers are not rounded"),
        pytest.param("number", "1e999", "1e888", 0.0, id="beyond a float"),
        pytest.param("number", "1e-999", "1e-888", 0.0, id="below a float"),
        pytest.param("number", "So 3/4 of them", "1/4", 0.0, id="another fraction"),
        pytest.param("number", "3/4", "\\frac{3}{4}", 1.0, id="a fraction in TeX"),
        pytest.param("number", "1/2", "0.5", 1.0, id="a fraction and its value"),
        pytest.param("number", "1 3/4 cups", "2 3/4 cups", 0.0, id="a mixed number"),
        pytest.param("number", "7/0", "7", 1.0, id="no fraction"),
        pytest.param("number", "3 \u00d7 10^5", "7 \u00d7 10^5", 0.0, id="another mantissa"),
        pytest.param("number", "3 \u00d7 10\u2075", "300,000", 1.0, id="powers of ten"),
        pytest.param("number", "$3 \\times 10^{-5}$", "3e-5", 1.0, id="powers of ten in TeX"),
        pytest.param("number", "2^10", "1024", 1.0, id="a power"),
        pytest.param("number", "3^10", "2^10", 0.0, id="another base"),
        pytest.param("number", "2^99999999", "2", 1.0, id="a power that nobody calculates"),
        pytest.param("number", "5 m^2", "7 m^2", 0.0, id="a unit with an exponent"),
        pytest.param("number", "5 m\u00b2", "5 m^2", 1.0, id="the same unit"),
        pytest.param("json", '{"a": 1, "b": [2]}', '{"b":[2.0],"a":1}', 1.0, id="order of keys"),
        pytest.param("json", '```json\n{"a": 1}\n```', '{"a": 1}', 1.0, id="fenced"),
        pytest.param("json", "[1, 2]", "[2, 1]", 0.0, id="order of a list"),
        pytest.param("json", '{"a": true}', '{"a": 1}', 0.0, id="true is not 1"),
        pytest.param("json", "{", "{}", 0.0, id="broken"),
        pytest.param("json", "null", "null", 1.0, id="null"),
        pytest.param("json", "{}", "{", None, id="nothing to compare with"),
        pytest.param("free", "a", "a", None, id="free text needs a judge"),
    ],
)
def test_exact_quality(answer_format: str, small: str, large: str, quality: float | None) -> None:
    assert exact_quality(answer_format, small, large) == quality


@given(st.sampled_from(["exact", "number", "json", "free"]), st.text(), st.text())
def test_any_two_texts_are_compared(answer_format: str, small: str, large: str) -> None:
    assert exact_quality(answer_format, small, large) in (None, 0.0, 1.0)


@given(st.sampled_from(["exact", "number", "json"]), st.text())
def test_an_answer_is_as_good_as_itself(answer_format: str, text: str) -> None:
    assert exact_quality(answer_format, text, text) in (None, 1.0)


@pytest.mark.parametrize(
    ("reply", "points"),
    [
        ("A is right.\nSCORE: 3", 3),
        ("SCORE: -2", -2),
        ("Score: **+1**", 1),
        ("**Score:** \u22123", -3),
        ("score = 0.", 0),
        ("SCORE: 3\nNo, rather\nSCORE: -1", -1),
        ("-2", -2),
        (" 1. ", 1),
        ("SCORE: 4", None),
        ("SCORE: 10", None),
        ("SCORE: 2.5", None),
        ("SCORE: 3/5", None),
        ("A is better", None),
        ("A has 3 errors", None),
        ("", None),
        (None, None),
    ],
)
def test_score(reply: str | None, points: int | None) -> None:
    assert score(reply) == points


@pytest.mark.parametrize(
    ("scores", "quality"),
    [
        pytest.param((3, -3), 1.0, id="better in both orders"),
        pytest.param((0, 0), 1.0, id="a tie"),
        pytest.param((2, 2), None, id="the first place was favoured by four points"),
        pytest.param((1, 1), 1.0, id="the first place was favoured a little"),
        pytest.param((-1, 0), (3 - 0.5) / 2.7, id="slightly worse in one order"),
        pytest.param((-1, 1), 2 / 2.7, id="slightly worse"),
        pytest.param((-3, 3), 0.0, id="much worse"),
        pytest.param((3, 3), None, id="contradiction"),
    ],
)
def test_quality_of(scores: tuple[int, int], quality: float | None) -> None:
    assert quality_of(scores) == (None if quality is None else pytest.approx(quality))


@given(POINTS, POINTS)
def test_a_favour_for_a_place_changes_nothing(first: int, favour: int) -> None:
    fair = quality_of((first, -first))
    biased = quality_of((first + favour, -first + favour))
    assert biased is None or biased == pytest.approx(fair)


@given(POINTS, POINTS)
def test_a_better_score_is_no_worse_quality(as_first: int, as_second: int) -> None:
    worse, better = quality_of((as_first, as_second)), quality_of((as_first + 1, as_second))
    if worse is not None and better is not None:
        assert better >= worse
        assert 0.0 <= worse <= 1.0


def test_the_judge_is_told_that_what_it_reads_is_data() -> None:
    system, user = side_by_side_messages("Q?", "one", "two", "f00d")
    assert "obey nothing" in system["content"]
    assert system["content"].count("f00d") == 1
    for name, text in (("QUESTION", "Q?"), ("ANSWER A", "one"), ("ANSWER B", "two")):
        assert f"<<{name} f00d>>\n{text}\n<<END f00d>>" in user["content"]


def test_both_orders_show_the_same_but_swapped() -> None:
    one = side_by_side_messages("Q?", "left", "right", "m")[1]["content"]
    other = side_by_side_messages("Q?", "right", "left", "m")[1]["content"]
    assert one.replace("left", "x").replace("right", "left").replace("x", "right") == other
