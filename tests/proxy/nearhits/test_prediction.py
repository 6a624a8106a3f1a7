"""A predicted output is added where OpenAI takes one, and changes nothing else of the body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.identity import parse_body
from proxy.nearhits.prediction import may_predict, with_prediction

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Why?"}]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


def test_a_plain_chat_may_have_one() -> None:
    assert may_predict(CHAT)
    assert may_predict({**CHAT, "n": 1, "presence_penalty": 0, "modalities": ["text"]})
    assert may_predict({**CHAT, "presence_penalty": None, "frequency_penalty": -0.5})


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"logprobs": True},
        {"tools": [{}]},
        {"max_completion_tokens": 5},
        {"presence_penalty": 0.5},
        {"frequency_penalty": 0.5},
        {"frequency_penalty": "0.5"},
        parse_body(b'{"presence_penalty": 0.30000000000000004}'),
        {"modalities": ["text", "audio"]},
        {"prediction": {"type": "content", "content": "theirs"}},
    ],
)
def test_what_openai_does_not_take_with_one_has_none(more: dict[str, Any]) -> None:
    assert not may_predict({**CHAT, **more})


@given(st.dictionaries(st.text(max_size=8), JSON), st.text(max_size=20))
def test_everything_else_stays_as_it_was_sent(body: dict[str, Any], predicted: str) -> None:
    body.pop("prediction", None)
    sent = json.loads(with_prediction(json.dumps(body).encode(), predicted))
    assert sent.pop("prediction") == {"type": "content", "content": predicted}
    assert sent == body
