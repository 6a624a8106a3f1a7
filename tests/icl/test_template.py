"""Telling an instruction from its input by what several questions share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from icl.template import Template, common, heads, tokens_of


def agreeing(request: str, *candidates: str) -> list[bool]:
    return Template(tokens_of(request), [tokens_of(c) for c in candidates]).agreeing()


def test_questions_asked_freely_have_no_template() -> None:
    asked = ["who wrote hamlet", "is tea good for you", "name a river in peru"]
    assert agreeing("how far is the moon", *asked) == [True, True, True]


def test_another_instruction_among_those_of_the_same_is_seen() -> None:
    asked = ["name the capital of peru", "name the capital of oman", "name the currency of mali"]
    assert agreeing("name the capital of fiji", *asked) == [True, True, False]


def test_two_candidates_are_not_enough_to_make_the_request_the_odd_one() -> None:
    asked = ["name the capital of peru", "name the capital of oman"]
    assert agreeing("name the currency of fiji", *asked) == [True, True]
    assert agreeing("name the currency of fiji", *asked, "name the capital of mali") == [False] * 3


def test_a_question_that_has_none_of_the_instruction_is_left_out() -> None:
    asked = ["what is the past tense of go", "what is the past tense of be", "sing me a song"]
    assert agreeing("what is the past tense of do", *asked) == [True, True, False]


def test_inputs_that_begin_alike_by_chance_are_no_other_instruction() -> None:
    ask = "what is the intent of this message? "
    asked = [ask + text for text in ("play some jazz", "play a song", "book a table", "rate it")]
    assert agreeing(ask + "play blues", *asked) == [True] * 4


def test_the_input_is_what_the_template_leaves() -> None:
    words = [tokens_of(f'the plural of "{noun}"?') for noun in ("cat", "wild boar", "ox")]
    template = Template(tokens_of('the plural of "dog"?'), words)
    assert [template.input_of(one) for one in words] == [{"cat"}, {"wild", "boar"}, {"ox"}]


def test_of_a_long_question_both_ends_are_read() -> None:
    tokens = tokens_of("first " + "middle " * 1000 + "last")
    assert (tokens[0], tokens[-1], len(tokens) < 120) == ("first", "last", True)


@given(st.lists(st.text("ab ?", max_size=12), max_size=6), st.text("ab ?", max_size=12))
def test_the_order_of_the_candidates_does_not_matter(asked: list[str], request: str) -> None:
    verdicts = dict(zip(asked, agreeing(request, *asked), strict=True))
    again = dict(zip(asked[::-1], agreeing(request, *asked[::-1]), strict=True))
    assert verdicts == again


@given(st.lists(st.text("ab"), max_size=8), st.lists(st.text("ab"), max_size=8))
def test_common_words_are_the_longest_shared_beginning(a: list[str], b: list[str]) -> None:
    count = common(a, b)
    assert a[:count] == b[:count]
    assert a[count : count + 1] != b[count : count + 1] or count in (len(a), len(b))


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=5), max_size=9))
def test_a_text_goes_with_two_others_as_far_as_comparing_all_of_them_says(
    texts: list[list[str]],
) -> None:
    others = [
        [common(a, b) for place, b in enumerate(texts) if place != at] for at, a in enumerate(texts)
    ]
    assert heads(texts) == [sorted(row)[-2] if len(row) > 1 else 0 for row in others]
