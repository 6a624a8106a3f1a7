"""What answers say, on each wire as the fake upstream speaks it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.answer_text import TEXT_ROUTES, Tokens, answer_text, tokens_used
from tests import fake_answers as fake
from tests.fake_answers import Say, Script

MAKERS = {
    "/v1/chat/completions": fake.chat_json,
    "/v1/completions": fake.completions_json,
    "/v1/messages": fake.messages_json,
    "/v1/responses": fake.responses_json,
}
CALL = ("tide", {"day": 3})


def say(**script: Any) -> Say:
    return Say("1", 1, "m", "when is high tide?", Script(**script), {})


def test_every_route_with_texts_is_tried_here() -> None:
    assert set(MAKERS) == TEXT_ROUTES


@pytest.mark.parametrize("path", MAKERS)
def test_the_text_of_a_plain_answer(path: str) -> None:
    answer = MAKERS[path](say(text="At noon, naïve one."))
    assert answer_text(path, answer) == "At noon, naïve one."
    assert tokens_used(answer) == Tokens(4, 4)


@pytest.mark.parametrize("path", sorted(set(MAKERS) - {"/v1/completions"}))
def test_an_answer_that_calls_tools_has_no_text(path: str) -> None:
    assert answer_text(path, MAKERS[path](say(tool_calls=(CALL,)))) is None


def test_several_choices_refusals_and_embeddings_have_no_text() -> None:
    chat = fake.chat_json(say(text="yes"))
    assert answer_text("/v1/chat/completions", {**chat, "choices": chat["choices"] * 2}) is None
    refused = fake.chat_json(say(refusal="I would rather not"))
    assert answer_text("/v1/chat/completions", refused) is None
    assert answer_text("/v1/responses", fake.responses_json(say(refusal="no"))) is None
    assert answer_text("/v1/embeddings", fake.embeddings_json(say())) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "type", "output", "usage", "text"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["choices", "content", "output", "usage"]), JSON))
def test_whatever_an_upstream_sends_is_a_text_or_none(answer: dict[str, Any]) -> None:
    for path in TEXT_ROUTES:
        assert answer_text(path, answer) is None or isinstance(answer_text(path, answer), str)
    tokens_used(answer)
