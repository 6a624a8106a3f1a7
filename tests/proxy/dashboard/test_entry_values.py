"""What is said of an entry, in the words of a page."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.dashboard.entry_values import (
    MOST_SHOWN,
    NO_QUESTION,
    Badge,
    answer_of,
    apart,
    kind_of_state,
    served_to,
    short,
    state_of,
)
from store.policy import Scope

CHAT = "/v1/chat/completions"


def standing(left: float | None = 3600, *kept: str) -> dict[str, Any]:
    return {"quarantined_for": list(kept), "expires_in": left}


def test_the_state_says_whether_and_how_long() -> None:
    assert state_of(standing()) == [Badge("live, expires in 60\u202fmin", "good")]
    assert state_of(standing(-1)) == [Badge("expired", "warn")]
    assert state_of(standing(None)) == [Badge("its category is gone", "bad")]
    kept = state_of(standing(60, "acme", "everybody"))
    assert [badge.text for badge in kept] == [
        "quarantined for acme, everybody",
        "expires in 60\u202fs",
    ]


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (standing(), "live"),
        (standing(-1), "expired"),
        (standing(None), "expired"),
        (standing(60, "acme"), "quarantined"),
    ],
)
def test_one_word_for_the_map(entry: dict[str, Any], kind: str) -> None:
    assert kind_of_state(entry) == kind


@pytest.mark.parametrize(
    ("shared", "approved", "scope", "begins"),
    [
        (False, False, Scope.TENANT, "tenant acme"),
        (False, False, Scope.USER, "the same user of tenant acme"),
        (True, False, Scope.SHARED, "tenant acme; others once"),
        (True, True, Scope.SHARED, "every tenant"),
        (True, True, None, "nobody"),
    ],
)
def test_who_may_be_served(shared: bool, approved: bool, scope: Scope | None, begins: str) -> None:
    entry = {"tenant": "acme", "shared": shared, "approved": approved}
    assert served_to(entry, scope).startswith(begins)


def test_an_answer_is_its_text_and_its_json() -> None:
    whole = {"choices": [{"message": {"content": "<b>Lisbon</b>"}}]}
    answer = answer_of(CHAT, json.dumps(whole))
    assert answer.text == "<b>Lisbon</b>" and json.loads(answer.raw) == whole and not answer.cut


@pytest.mark.parametrize("raw", ["no JSON", "[1, 2]", '{"choices": []}', "null"])
def test_what_is_not_one_text_is_shown_as_it_is(raw: str) -> None:
    assert answer_of(CHAT, raw).text is None


def test_a_long_answer_is_cut_and_says_so() -> None:
    answer = answer_of(CHAT, json.dumps({"choices": [{"message": {"content": "x" * 200_000}}]}))
    assert answer.cut and answer.text is not None and len(answer.text) == MOST_SHOWN
    assert answer_of(CHAT, "x" * 200_000).cut


def test_what_keeps_a_neighbour_away() -> None:
    near = {"vetoes": [], "threshold": 0.9, "similarity": 0.95, "budgeted": False}
    assert apart({**near, "same_past": True}) == [Badge("nothing", "good")]
    assert apart({**near, "same_past": True, "budgeted": True}) == [Badge("only the score", "")]
    others = {"vetoes": ["numbers", "names"], "similarity": 0.5, "same_past": False}
    assert [badge.text for badge in apart({**near, **others})] == [
        "guard: numbers",
        "guard: names",
        "below the threshold 0.900",
        "said otherwise before",
    ]
    assert apart({**near, "threshold": None, "same_past": True})[0].text == "a category is gone"


def test_a_question_is_one_line_of_bounded_length() -> None:
    assert short("how\n  do\tI") == "how do I"
    assert short(" \n") == NO_QUESTION
    assert len(short("x" * 500, 100)) == 100
