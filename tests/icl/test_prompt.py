"""What the small model is sent, and which requests are not for it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl.example import Example
from icl.prompt import MARK, REFUSALS, refusal, with_examples
from tests.icl.candidates import candidates, example

USER = {"role": "user", "content": "What is the capital of Fiji?"}
OURS = [example("a", "Capital of Peru?", "Lima"), example("b", "Capital of Oman?", "Muscat")]


def chat(*messages: object, **fields: object) -> dict[str, Any]:
    return {"model": "large", "messages": list(messages or [USER]), **fields}


def shown(body: dict[str, Any]) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in body["messages"]]


def test_examples_are_turns_between_the_systems_message_and_the_clients_own() -> None:
    system = {"role": "system", "content": "Be brief."}
    developer = {"role": "developer", "content": "No lists."}
    body = with_examples(chat(system, developer, USER), OURS, "small")
    assert shown(body) == [
        ("system", "Be brief."),
        ("developer", "No lists."),
        ("user", "Capital of Peru?"),
        ("assistant", "Lima"),
        ("user", "Capital of Oman?"),
        ("assistant", "Muscat"),
        ("user", "What is the capital of Fiji?"),
    ]


def test_they_come_before_earlier_turns_of_the_same_chat() -> None:
    earlier = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    late = {"role": "system", "content": "Now in French."}
    body = with_examples(chat(*earlier, late, USER), OURS[:1], "small")
    assert [content for _, content in shown(body)[:3]] == ["Capital of Peru?", "Lima", "Hi"]
    assert body["messages"][2:] == [*earlier, late, USER]


def test_each_of_their_messages_is_marked_and_no_other() -> None:
    body = with_examples(chat(), OURS, "small")
    assert [m.get("name") for m in body["messages"]] == [MARK] * 4 + [None]


def test_how_the_client_wants_its_answer_stays() -> None:
    wishes = {
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "response_format": {"type": "json_object"},
        "stop": ["\n"],
        "seed": 7,
        "max_tokens": 10,
        "unknown": {"to": "us"},
    }
    body = with_examples(chat(**wishes), OURS, "small")
    assert {field: body[field] for field in wishes} == wishes
    assert body["model"] == "small"


_CONTENT = st.text(max_size=20) | st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=9)}), max_size=2
)
_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "developer", "user", "assistant"]),
            "content": _CONTENT,
        },
        optional={"name": st.sampled_from(["jane", "example"])},
    ),
    max_size=6,
)


@given(_MESSAGES, candidates(most=5), st.dictionaries(st.text("xyz"), st.integers(), max_size=3))
def test_without_the_marked_messages_it_is_the_clients_body(
    messages: list[dict[str, Any]], ours: list[Example], fields: dict[str, int]
) -> None:
    body = chat(*messages, USER, **fields)
    assert refusal(body) is None
    before = copy.deepcopy(body)
    sent = with_examples(body, ours, "small")
    assert body == before
    unmarked = [m for m in sent["messages"] if m.get("name") != MARK]
    assert {**sent, "model": "large", "messages": unmarked} == before
    marked = [m["content"] for m in sent["messages"] if m.get("name") == MARK]
    assert marked == [text for e in ours for text in (e.question, e.answer)]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 1, "tools": None, "logprobs": False, "modalities": ["text"], "store": False},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {}}},
        {"stream": True, "max_completion_tokens": 5, "user": "u"},
    ],
)
def test_a_plain_chat_may_go_to_a_small_model(fields: dict[str, Any]) -> None:
    assert refusal(chat(**fields)) is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"functions": [{"name": "f"}]}, "tools"),
        ({"tool_choice": "none"}, "tools"),
        ({"function_call": "auto"}, "tools"),
        ({"n": 2}, "choices"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "logprobs"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "audio"),
        ({"web_search_options": {"user_location": None}}, "search"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"store": True}, "stored"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": ["hello"]}, "messages"),
    ],
)
def test_a_request_that_asks_for_more_than_text_is_not(fields: dict[str, Any], reason: str) -> None:
    assert refusal({**chat(), **fields}) == reason
    assert reason in REFUSALS


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"role": "tool", "content": "4", "tool_call_id": "c"}, "role"),
        ({"role": "function", "name": "f", "content": "4"}, "role"),
        ({"role": "assistant", "content": "", "tool_calls": [{"id": "c"}]}, "tools"),
        ({"role": "assistant", "content": None}, "content"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "content"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "content"),
        ({"role": "user", "content": [{"type": "text"}]}, "content"),
        ({"role": "assistant", "content": "x", "audio": {"id": "a"}}, "tools"),
        ({"role": "user", "name": MARK, "content": "x"}, "name"),
    ],
)
def test_a_message_that_is_not_plain_text_is_not(message: dict[str, Any], reason: str) -> None:
    assert refusal(chat(message, USER)) == reason
    assert reason in REFUSALS


def test_a_chat_that_does_not_end_in_a_question_is_not() -> None:
    assert refusal(chat(USER, {"role": "assistant", "content": "It is"})) == "messages"
