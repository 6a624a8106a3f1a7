"""A stored question is put to the small model in the request's place, and nothing else changes."""

from __future__ import annotations

from typing import Any

from icl.example import Example
from icl.prompt import MARK
from icl.selection import Limits
from icl.shown import Shown
from icl.utility import UtilityModel
from proxy.nearhits.rehearsing import nearest, rehearsal
from store.entry import EntryId

WORDS = ("go", "see", "run", "eat")
EXAMPLES = [
    Example(
        id=EntryId(word),
        shown=Shown.read(f'What is the past tense of the verb "{word}"?', f"{word}ed"),
        similarity=0.6 + 0.1 * place,
        age=60.0,
    )
    for place, word in enumerate(WORDS)
]
SYSTEM = {"role": "system", "content": "One word."}
BODY: dict[str, Any] = {
    "model": "large",
    "temperature": 0,
    "messages": [SYSTEM, {"role": "user", "content": 'What is the past tense of the verb "be"?'}],
}


def rehearsed(*candidates: Example) -> dict[str, Any] | None:
    asked = EXAMPLES[-1]
    return rehearsal(BODY, asked, candidates, UtilityModel(), Limits(), "small")


def anything(id: EntryId) -> bool:
    return True


def test_the_nearest_example_is_asked_for_if_others_can_be_shown() -> None:
    assert nearest(EXAMPLES, anything) is EXAMPLES[-1]
    assert nearest(EXAMPLES[:1], anything) is None
    assert nearest([], anything) is None


def test_what_must_not_be_asked_anew_is_passed_over() -> None:
    assert nearest(EXAMPLES, lambda id: id != EXAMPLES[-1].id) is EXAMPLES[-2]
    assert nearest(EXAMPLES, lambda id: False) is None


def test_it_is_asked_in_the_same_chat_with_the_others_as_examples() -> None:
    body = rehearsed(*EXAMPLES)
    assert body is not None
    assert (body["model"], body["temperature"]) == ("small", 0)
    first, *shown, last = body["messages"]
    assert first == SYSTEM
    assert last == {"role": "user", "content": EXAMPLES[-1].question}
    assert {turn["name"] for turn in shown} == {MARK}
    assert {turn["content"] for turn in shown[::2]} == {each.question for each in EXAMPLES[:-1]}


def test_its_own_answer_is_not_shown() -> None:
    body = rehearsed(*EXAMPLES)
    assert body is not None
    assert EXAMPLES[-1].answer not in [turn["content"] for turn in body["messages"]]


def test_without_others_there_is_nothing_to_try() -> None:
    assert rehearsed(EXAMPLES[-1]) is None
    assert rehearsed() is None


def test_the_request_is_left_as_it_was() -> None:
    before = repr(BODY)
    rehearsed(*EXAMPLES)
    assert repr(BODY) == before
