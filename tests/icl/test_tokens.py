"""The estimate of tokens is never under what tokenizers take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl.tokens import estimate


@given(st.text())
def test_every_text_takes_at_least_a_token_and_more_text_no_less(text: str) -> None:
    assert estimate(text) >= 1
    assert estimate(text + "x") >= estimate(text)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ('What is the past tense of the verb "go"?', 11),  # GPT-4's; SmolLM's are 12
        ("1234567890", 10),  # SmolLM and Gemma: one a digit
        ("antidisestablishmentarianism", 6),
        ("日本の首都は東京です", 14),
        ("👩‍👩‍👧", 18),
        ("def f(x):\n    return x + 1\n", 13),
        ("Donaudampfschifffahrtsgesellschaft", 12),
    ],
)
def test_it_is_not_below_what_tokenizers_take(text: str, tokens: int) -> None:
    assert estimate(text) >= tokens


def test_of_ordinary_english_it_is_less_than_twice_as_much() -> None:
    text = "The quick brown fox jumps over the lazy dog and runs into the forest. " * 10
    assert 160 <= estimate(text) < 320  # 16 a sentence
