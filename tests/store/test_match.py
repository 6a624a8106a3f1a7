"""A match rule holds when every condition of it holds, and no text can make it slow."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.match import MAX_PATTERN, MatchRule, Traits, compile_regex

pytestmark = pytest.mark.serial


def traits(**changes: Any) -> Traits:
    fields: dict[str, Any] = {
        "model": "gull-2",
        "tenant": "harbour",
        "path": "/v1/chat/completions",
        "headers": {b"x-team": b"billing"},
        "text": "What is the price of a ticket?",
    }
    fields |= changes
    fields["text"] = fields["text"].encode("utf-8", "replace")
    return Traits(**fields)


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        (MatchRule(model="gull-*"), True),
        (MatchRule(model="tern-*"), False),
        (MatchRule(tenant="harbour"), True),
        (MatchRule(tenant="Harbour"), False),
        (MatchRule(path="/v1/chat/*"), True),
        (MatchRule(path="/v1/messages"), False),
        (MatchRule(header=(("x-team", "bill*"),)), True),
        (MatchRule(header=(("x-team", "sales"),)), False),
        (MatchRule(header=(("x-other", "*"),)), False),
        (MatchRule(regex="(?i)PRICE of"), True),
        (MatchRule(regex=r"^\d+$"), False),
        (MatchRule(model="gull-2", regex="refund"), False),
        (MatchRule(model="gull-2", regex="ticket"), True),
    ],
)
def test_every_condition_that_is_set_has_to_hold(rule: MatchRule, matches: bool) -> None:
    assert rule.matches(traits()) is matches


@pytest.mark.parametrize(
    ("rule", "matched"),
    [
        (MatchRule(regex="^My PIN"), True),
        (MatchRule(regex="ticket"), False),  # that is the question
        (MatchRule(regex=r"is 1234\s+Why"), False),  # two texts are not one
        (MatchRule(model="gull-2", regex="PIN"), True),
        (MatchRule(model="gull-3", regex="PIN"), False),
        (MatchRule(model="gull-2"), False),  # it asks for nothing that is said
    ],
)
def test_each_text_from_before_is_searched_by_itself(rule: MatchRule, matched: bool) -> None:
    assert rule.matched_before(traits(said=(b"Hello.", b"My PIN is 1234", b"Why?"))) is matched
    assert not rule.matched_before(traits())


@pytest.mark.parametrize("pattern", ["", "(a", "a" * (MAX_PATTERN + 1), "(?=ahead)", r"(a)\1"])
def test_a_pattern_that_is_not_re2_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="an RE2 expression"):
        compile_regex(pattern)


def test_a_pattern_that_would_hang_a_backtracking_engine_takes_no_time() -> None:
    rule = MatchRule(regex="(a+)+$")
    begun = time.thread_time()
    assert not rule.matches(traits(text="a" * 5000 + "b"))
    assert time.thread_time() - begun < 1


@given(st.text(st.characters(), max_size=50))
def test_any_text_is_searched(text: str) -> None:
    assert MatchRule(regex="(?s).*").matches(traits(text=text))
    assert MatchRule(regex="é").matches(traits(text=text + "é"))


def test_equal_rules_are_equal_whatever_was_compiled() -> None:
    assert MatchRule(regex="a") == MatchRule(regex="a")
    assert MatchRule(regex="a") != MatchRule(regex="b")
