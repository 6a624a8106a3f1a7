"""Reading requests: what is refused, what is left alone, and that no part of one gets lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from proxy.wire import WIRES
from proxy.wire.base import (
    PLACEHOLDER,
    TRANSPORT_FIELDS,
    InvalidRequest,
    Json,
    Question,
    Tier,
    Wire,
)
from proxy.wire.question import has_foreign_tools, is_alone
from tests.proxy.wire.strategies import (
    json_values,
    prose,
    requests,
    turns_of,
    vocabulary_objects,
)

CHAT, COMPLETIONS, RESPONSES, MESSAGES, EMBEDDINGS = WIRES.values()
FIELDS = {CHAT: "messages", COMPLETIONS: "prompt", RESPONSES: "input", MESSAGES: "messages"}
QUESTION = {
    CHAT: [{"role": "user", "content": "Why is the sky blue?"}],
    COMPLETIONS: "Why is the sky blue?",
    RESPONSES: "Why is the sky blue?",
    MESSAGES: [{"role": "user", "content": "Why is the sky blue?"}],
    EMBEDDINGS: "Why is the sky blue?",
}
every_wire = pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES.keys())


def body_of(wire: Wire, **more: Json) -> dict[str, Json]:
    return {"model": "m", FIELDS.get(wire, "input"): QUESTION[wire], **more}


@pytest.mark.parametrize("wire", [CHAT, RESPONSES, MESSAGES], ids=lambda wire: wire.path)
def test_what_users_said_before_is_all_of_theirs_but_the_question(wire: Wire) -> None:
    kind = "input_text" if wire is RESPONSES else "text"
    image, long = {"type": "image_url", "image_url": {}}, "long " * 1000
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": long},
        {"role": "assistant", "content": "I see."},
        {"role": "user", "content": [{"type": kind, "text": "What is this?"}, image]},
        {"role": "assistant", "content": [{"type": "text", "text": "A gull."}]},
        {"role": "user", "content": None},
        {"role": "user", "content": [{"type": kind, "text": text} for text in ("See:", "Why?")]},
    ]
    if wire is RESPONSES:
        turns.insert(3, {"type": "function_call_output", "call_id": "c", "output": "42"})
    question = wire.read({"model": "m", FIELDS[wire]: turns})
    assert (question.said, question.text) == ((long, "What is this?", "See:"), "Why?")


def test_nothing_was_said_before_a_question_that_stands_alone() -> None:
    assert all(wire.read(body_of(wire)).said == () for wire in WIRES.values())


def rebuilt(question: Question, field: str) -> dict[str, Json]:
    """The request, from nothing but the four parts that are compared."""
    body = dict(question.skeleton)
    if isinstance(body[field], str):
        assert body[field] == PLACEHOLDER
        return {**body, field: question.text}
    *lead, last = body[field]
    assert holds_text(last)
    texts = list(question.earlier)
    past = [filled(turn, texts.pop(0)) if holds_text(turn) else turn for turn in question.context]
    assert not texts
    return {**body, field: [*lead, *past, filled(last, question.text)]}


def holds_text(turn: Json) -> bool:
    """Whether a turn is a user's, and its text was replaced."""
    if turn["role"] != "user" or not isinstance(turn["content"], str | list):
        return False
    if isinstance(turn["content"], str):
        return turn["content"] == PLACEHOLDER
    parts = turn["content"]
    plain = all(part["type"] in ("text", "input_text") and "text" in part for part in parts)
    return bool(parts) and plain and parts[-1]["text"] == PLACEHOLDER


def filled(turn: Json, text: str) -> Json:
    """The turn with its text back in its place."""
    if isinstance(turn["content"], str):
        return {**turn, "content": text}
    *before, part = turn["content"]
    return {**turn, "content": [*before, {**part, "text": text}]}


@pytest.mark.serial  # drawing these takes long where two workers share a busy machine
@every_wire
@given(body=vocabulary_objects)
def test_any_json_object_is_read_or_refused(wire: Wire, body: dict[str, Json]) -> None:
    try:
        question = wire.read(body)
    except InvalidRequest as refused:
        assert refused.param is not None
        assert refused.param in str(refused)
    else:
        assert question.turns >= 0


@pytest.mark.serial  # drawing these takes long where two workers share a busy machine
@every_wire
@given(body=vocabulary_objects, more=vocabulary_objects)
def test_no_field_of_a_request_can_crash_reading(
    wire: Wire, body: dict[str, Json], more: dict[str, Json]
) -> None:
    last = {"role": "user", **more}
    asked = [body, last] if wire in (CHAT, MESSAGES, RESPONSES) else [more]
    body = {**body, "model": "m", "stream": True, FIELDS.get(wire, "input"): asked}
    try:
        wire.read(body)
    except InvalidRequest as refused:
        assert refused.param


@every_wire
def test_deeply_nested_values_do_not_crash_reading(wire: Wire) -> None:
    deep: Json = "x"
    for _ in range(5000):
        deep = [deep]
    field = FIELDS.get(wire, "input")
    fields = ["n", "tools", "modalities", "include", "logprobs", "mcp_servers", "x_unknown"]
    for name in fields:
        wire.read(body_of(wire, **{name: deep}))
    for asked in (deep, [{"role": "user", "content": deep}]):
        try:
            wire.read({"model": "m", field: asked})
        except InvalidRequest as refused:
            assert refused.param is not None and refused.param.startswith(field)


@settings(max_examples=300)
@given(body=requests("messages", turns_of("text")))
def test_a_conversation_can_be_rebuilt_from_its_parts(body: dict[str, Json]) -> None:
    for wire in (CHAT, MESSAGES):
        check_rebuilt(wire, body)


@settings(max_examples=300)
@given(body=requests("input", turns_of("input_text") | prose))
def test_an_input_can_be_rebuilt_from_its_parts(body: dict[str, Json]) -> None:
    check_rebuilt(RESPONSES, body)


@given(body=requests("prompt", prose))
def test_a_prompt_can_be_rebuilt_from_its_parts(body: dict[str, Json]) -> None:
    check_rebuilt(COMPLETIONS, body)


def check_rebuilt(wire: Wire, body: dict[str, Json]) -> None:
    before = repr(body)
    question = wire.read(body)
    assert repr(body) == before, "reading changed the request"
    if question.tier is not Tier.SEMANTIC:
        assert (question.text, question.skeleton, question.context) == ("", {}, [])
        assert question.earlier == ()
        return
    assert question.text.strip()
    counted = {k: v for k, v in body.items() if k not in TRANSPORT_FIELDS}
    assert rebuilt(question, FIELDS[wire]) == counted


@every_wire
@given(value=json_values)
def test_transport_fields_are_no_part_of_the_question(wire: Wire, value: Json) -> None:
    plain = wire.read(body_of(wire))
    for field in sorted(TRANSPORT_FIELDS - {"stream"}):
        assert wire.read(body_of(wire, **{field: value})) == plain
    for stream in (True, False, None):
        assert wire.read(body_of(wire, stream=stream)) == plain


@pytest.mark.parametrize("wire", FIELDS, ids=lambda wire: wire.path)
def test_an_unknown_field_is_part_of_the_skeleton(wire: Wire) -> None:
    question = wire.read(body_of(wire, x_unknown={"user": 1}))
    assert question.skeleton["x_unknown"] == {"user": 1}
    assert question != wire.read(body_of(wire, x_unknown={"user": 2}))


@pytest.mark.parametrize("wire", FIELDS, ids=lambda wire: wire.path)
def test_asking_for_the_placeholder_itself_is_a_question_like_any_other(wire: Wire) -> None:
    honest = wire.read(body_of(wire))
    field = FIELDS[wire]
    body = body_of(wire)
    if isinstance(body[field], str):
        body[field] = PLACEHOLDER
    else:
        body[field] = [{"role": "user", "content": PLACEHOLDER}]
    forged = wire.read(body)
    assert forged.skeleton == honest.skeleton
    assert (forged.text, honest.text) == (PLACEHOLDER, "Why is the sky blue?")


@settings(max_examples=300)
@given(requests("messages", turns_of("text")), requests("messages", turns_of("text")))
def test_two_pasts_with_one_context_differ_in_users_texts_only(
    one: dict[str, Json], other: dict[str, Json]
) -> None:
    """From one context and two lists of texts come two requests that differ in nothing else."""
    a, b = CHAT.read(one), CHAT.read(other)
    if a.tier is not Tier.SEMANTIC or b.tier is not Tier.SEMANTIC:
        return
    same = a.context == b.context
    assert same == (without_texts(a) == without_texts(b))
    if same:
        assert len(a.earlier) == len(b.earlier)


def without_texts(question: Question) -> Json:
    """The earlier turns rebuilt with a word for each text."""
    texts = iter(["word"] * len(question.earlier))
    return [filled(turn, next(texts)) if holds_text(turn) else turn for turn in question.context]


def test_a_placeholder_elsewhere_stays_where_it_is() -> None:
    parts = [{"type": "text", "text": PLACEHOLDER}, {"type": "text", "text": "And you?"}]
    question = CHAT.read({"model": "m", "messages": [{"role": "user", "content": parts}]})
    forged = [{"role": "user", "content": PLACEHOLDER}]
    other = CHAT.read({"model": "m", "messages": forged})
    assert question.skeleton["messages"][0]["content"] == [
        {"type": "text", "text": PLACEHOLDER},
        {"type": "text", "text": PLACEHOLDER},
    ]
    assert other.skeleton != question.skeleton


@every_wire
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        pytest.param({"model": None}, "model", id="model is null"),
        pytest.param({"model": ""}, "model", id="model is empty"),
        pytest.param({"model": 7}, "model", id="model is a number"),
        pytest.param({"model": ["m"]}, "model", id="model is a list"),
        pytest.param({"stream": "true"}, "stream", id="stream is text"),
        pytest.param({"stream": 1}, "stream", id="stream is a number"),
        pytest.param({"stream": {}}, "stream", id="stream is an object"),
    ],
)
def test_head_faults_name_their_field(wire: Wire, fields: dict[str, Json], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wire.read(body_of(wire, **fields))
    assert caught.value.param == param


@every_wire
@pytest.mark.parametrize("asked", [None, {}, [], 7, True], ids=repr)
def test_the_asked_field_must_be_there_and_readable(wire: Wire, asked: Json) -> None:
    field = FIELDS.get(wire, "input")
    with pytest.raises(InvalidRequest) as caught:
        wire.read({"model": "m", field: asked})
    assert caught.value.param == field
    with pytest.raises(InvalidRequest) as caught:
        wire.read({"model": "m"})
    assert caught.value.param == field
    assert "required" in str(caught.value)


@pytest.mark.parametrize("wire", [CHAT, MESSAGES], ids=lambda wire: wire.path)
@pytest.mark.parametrize(
    ("messages", "param"),
    [
        pytest.param("hello", "messages", id="text"),
        pytest.param([{"role": "user", "content": "a"}, "b"], "messages[1]", id="no object"),
        pytest.param([{"content": "a"}], "messages[0].role", id="no role"),
        pytest.param([{"role": None, "content": "a"}], "messages[0].role", id="role is null"),
        pytest.param([{"role": 1}], "messages[0].role", id="role is a number"),
        pytest.param([{"role": "user"}, {"role": "a"}, {}], "messages[2].role", id="the third"),
    ],
)
def test_message_faults_name_their_place(wire: Wire, messages: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wire.read({"model": "m", "messages": messages})
    assert caught.value.param == param


def test_a_fault_says_what_is_there_and_what_is_allowed() -> None:
    with pytest.raises(InvalidRequest, match="model must be a non-empty string, not int 7"):
        CHAT.read({"model": 7})
    with pytest.raises(
        InvalidRequest, match="messages must be a non-empty list .*, not list \\[\\]"
    ):
        CHAT.read({"model": "m", "messages": []})
    with pytest.raises(InvalidRequest, match="stream must be a boolean, not str$"):
        CHAT.read({"model": "m", "stream": "sk-something-secret", "messages": []})


@pytest.mark.parametrize("wire", FIELDS, ids=lambda wire: wire.path)
@pytest.mark.parametrize(
    ("fields", "alone"),
    [
        pytest.param({}, True, id="nothing asked for"),
        pytest.param({"n": 1, "best_of": 1}, True, id="one of one"),
        pytest.param({"n": None, "logprobs": None}, True, id="nulls"),
        pytest.param({"logprobs": False, "echo": False, "top_logprobs": 0}, True, id="off"),
        pytest.param({"n": 2}, False, id="two answers"),
        pytest.param({"n": 0}, False, id="an odd n"),
        pytest.param({"n": "1"}, False, id="n as text"),
        pytest.param({"best_of": 3}, False, id="best of three"),
        pytest.param({"logprobs": True}, False, id="logprobs"),
        pytest.param({"logprobs": 5}, False, id="five logprobs"),
        pytest.param({"top_logprobs": 2}, False, id="top logprobs"),
        pytest.param({"prompt_logprobs": 1}, False, id="logprobs of the prompt"),
        pytest.param({"prompt_logprobs": 0}, False, id="those of the prompt's own tokens"),
        pytest.param({"prompt_logprobs": False}, True, id="none of the prompt"),
        pytest.param({"return_token_ids": True}, False, id="token ids"),
        pytest.param({"echo": True}, False, id="an echo of the prompt"),
    ],
)
def test_what_tells_of_the_exact_question_is_never_matched_by_meaning(
    wire: Wire, fields: dict[str, Json], alone: bool
) -> None:
    assert is_alone(fields) is alone
    assert wire.read(body_of(wire, **fields)).tier is (Tier.SEMANTIC if alone else Tier.EXACT)


@pytest.mark.parametrize(
    ("tools", "foreign"),
    [
        pytest.param(None, False, id="none"),
        pytest.param([], False, id="an empty list"),
        pytest.param([{"type": "function"}, {"type": "custom"}], False, id="own ones"),
        pytest.param([{"type": "function"}, {"type": "web_search"}], True, id="one that is not"),
        pytest.param([{}], True, id="no type"),
        pytest.param([{"type": ["function"]}], True, id="a type that is no text"),
        pytest.param(["function"], True, id="no object"),
        pytest.param({"type": "function"}, True, id="no list"),
    ],
)
def test_tools_that_run_elsewhere_are_found(tools: Any, foreign: bool) -> None:
    assert has_foreign_tools({"tools": tools}, ("function", "custom")) is foreign


def test_every_wire_is_found_by_its_path() -> None:
    assert {path: type(wire).__name__ for path, wire in WIRES.items()} == {
        "/v1/chat/completions": "ChatWire",
        "/v1/completions": "CompletionsWire",
        "/v1/responses": "ResponsesWire",
        "/v1/messages": "MessagesWire",
        "/v1/embeddings": "EmbeddingsWire",
    }
    assert [wire.path for wire in WIRES.values()] == list(WIRES)
    assert [path for path, wire in WIRES.items() if not wire.streams] == ["/v1/embeddings"]
