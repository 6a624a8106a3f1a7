"""The coarse forms of answers, and the one that most candidates have."""

from __future__ import annotations

import pytest

from icl.answer_form import Form, common_form, form_of, near


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        ("42", Form.NUMBER),
        (" -3.5 %", Form.NUMBER),
        ("$1,200.00", Form.NUMBER),
        ("12 km", Form.NUMBER),
        ("went", Form.WORD),
        ("SearchCreativeWork", Form.WORD),
        ("wild boars", Form.PHRASE),
        ("It is the capital of Peru, as far as I know.", Form.SENTENCE),
        ("word " * 60, Form.PROSE),
        ('{"a": 1}', Form.DATA),
        ("[1, 2]", Form.DATA),
        ("Do this:\n```python\nx = 1\n```", Form.DATA),
        ("| a | b |", Form.DATA),
    ],
)
def test_the_form_of_an_answer(answer: str, form: Form) -> None:
    assert form_of(answer) is form


def test_near_forms_are_near_both_ways() -> None:
    assert all(near(a, b) == near(b, a) and near(a, a) for a in Form for b in Form)


def test_the_common_form_is_the_one_most_are_near_to() -> None:
    assert common_form([Form.DATA, Form.WORD, Form.PHRASE, Form.WORD]) is Form.WORD


def test_without_a_majority_there_is_none() -> None:
    assert common_form([Form.DATA, Form.WORD]) is None
    assert common_form([]) is None
