"""What an answer looks like: a number, a word, a few words, prose, data. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

_NUMBER = re.compile(r"[-+]?[$€£]?\s?\d[\d.,\s]*(?:%|[a-z]{1,3})?\.?", re.IGNORECASE)
_PHRASE = 6  # words; more are a sentence
_PROSE = 40  # words; more are a text
_MAJORITY = 0.5  # of the candidates; below it the answers have no form in common


class Form(StrEnum):
    """A coarse form; a label and a phrase differ by chance, a number and prose do not."""

    NUMBER = "number"
    WORD = "word"
    PHRASE = "phrase"
    SENTENCE = "sentence"
    PROSE = "prose"
    DATA = "data"  # JSON, a table, code


_NEAR = {
    Form.NUMBER: {Form.NUMBER},
    Form.WORD: {Form.WORD, Form.PHRASE},
    Form.PHRASE: {Form.WORD, Form.PHRASE, Form.SENTENCE},
    Form.SENTENCE: {Form.PHRASE, Form.SENTENCE, Form.PROSE},
    Form.PROSE: {Form.SENTENCE, Form.PROSE},
    Form.DATA: {Form.DATA},
}


def form_of(answer: str) -> Form:
    """Return the form of an answer that is not empty."""
    text = answer.strip()
    if text[:1] in ("{", "[") or "```" in text or text.startswith("|"):
        return Form.DATA
    words = text.count(" ") + text.count("\n") + 1
    if words <= 3 and _NUMBER.fullmatch(text):
        return Form.NUMBER
    if words == 1:
        return Form.WORD
    if words <= _PHRASE:
        return Form.PHRASE
    return Form.SENTENCE if words <= _PROSE else Form.PROSE


def near(a: Form, b: Form) -> bool:
    """Whether two answers may be of the same kind."""
    return b in _NEAR[a]


def common_form(forms: Sequence[Form]) -> Form | None:
    """Return the form that most of them are near to; None if there is none.

    `forms` are in the order of rank: among equals the better ranked decides.
    """
    counts = Counter(forms)
    best, most = None, 0
    for form in dict.fromkeys(forms):
        fit = sum(count for other, count in counts.items() if near(form, other))
        if fit > most:
            best, most = form, fit
    return best if most > _MAJORITY * len(forms) else None
