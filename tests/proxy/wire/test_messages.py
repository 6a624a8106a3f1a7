"""Anthropic's messages: what is the query, and what is stored."""

from __future__ import annotations

import pytest

from proxy.wire.base import PLACEHOLDER, Json, Tier
from proxy.wire.messages import MessagesWire

MESSAGES = MessagesWire()
USER = {"role": "user", "content": "Why is the sky blue?"}
ANSWER = {"role": "assistant", "content": [{"type": "text", "text": "It scatters light."}]}
FOLLOW_UP = {"role": "user", "content": "And at dusk?"}
USE = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}
RESULT_PART = {"type": "tool_result", "tool_use_id": "t", "content": "42"}
RESULT = {"role": "user", "content": [RESULT_PART]}
TEXT = {"type": "text", "text": "What is this?"}


def ask(*messages: Json, **more: Json) -> dict[str, Json]:
    return {"model": "m", "max_tokens": 64, "messages": list(messages), **more}


# -- requests


def test_system_and_limits_are_skeleton() -> None:
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    question = MESSAGES.read(ask(USER, system=system, stream=True, metadata={"user_id": "u"}))
    assert question.tier is Tier.SEMANTIC
    assert question.text == "Why is the sky blue?"
    assert question.skeleton == {
        "model": "m",
        "max_tokens": 64,
        "system": system,
        "messages": [{"role": "user", "content": PLACEHOLDER}],
    }
    assert (question.context, question.turns) == ([], 1)


def test_earlier_turns_are_context() -> None:
    question = MESSAGES.read(ask(USER, USE, RESULT, ANSWER, FOLLOW_UP))
    assert question.text == "And at dusk?"
    assert question.context == [{"role": "user", "content": PLACEHOLDER}, USE, RESULT, ANSWER]
    assert question.earlier == ("Why is the sky blue?",)


def test_a_message_that_only_returns_results_is_no_turn_of_the_user() -> None:
    spoken = {"role": "user", "content": [RESULT_PART, TEXT]}
    assert MESSAGES.read(ask(USER, USE, RESULT, ANSWER, FOLLOW_UP)).turns == 2
    assert MESSAGES.read(ask(USER, USE, spoken, ANSWER, FOLLOW_UP)).turns == 3


def test_of_text_parts_only_the_last_is_the_query() -> None:
    cached = {"type": "text", "text": "Document: the sky is green.", "cache_control": {}}
    question = MESSAGES.read(ask({"role": "user", "content": [cached, TEXT]}))
    assert question.text == "What is this?"
    held = [cached, {"type": "text", "text": PLACEHOLDER}]
    assert question.skeleton["messages"] == [{"role": "user", "content": held}]


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([USER, USE, RESULT], id="a tool result"),
        pytest.param([{"role": "user", "content": [RESULT_PART, TEXT]}], id="a result and a text"),
        pytest.param([{"role": "user", "content": [{"type": "image"}, TEXT]}], id="an image"),
        pytest.param([{"role": "user", "content": [{"type": "document"}, TEXT]}], id="a document"),
        pytest.param([USER, {"role": "assistant", "content": "It"}], id="an answer begun"),
        pytest.param([USER, USE], id="a pending call"),
        pytest.param([{"role": "user", "content": []}], id="no parts"),
        pytest.param([{"role": "user", "content": " "}], id="nothing but space"),
    ],
)
def test_a_tail_that_is_not_a_users_text_matches_exactly_or_not_at_all(messages: Json) -> None:
    question = MESSAGES.read(ask(*messages))
    assert question.tier is Tier.EXACT
    assert (question.text, question.skeleton, question.context) == ("", {}, [])


@pytest.mark.parametrize(
    ("fields", "tier"),
    [
        pytest.param({"tools": [{"name": "f", "input_schema": {}}]}, Tier.SEMANTIC, id="own tools"),
        pytest.param({"tools": [{"type": "custom", "name": "f"}]}, Tier.SEMANTIC, id="custom"),
        pytest.param({"tools": [{"type": None, "name": "f"}]}, Tier.SEMANTIC, id="a null type"),
        pytest.param({"mcp_servers": [], "container": None}, Tier.SEMANTIC, id="nothing hosted"),
        pytest.param({"thinking": {"type": "enabled"}}, Tier.SEMANTIC, id="thinking"),
        pytest.param({"tools": [{"type": "web_search_20260318"}]}, Tier.NONE, id="a server tool"),
        pytest.param({"mcp_servers": [{"url": "http://a"}]}, Tier.NONE, id="MCP servers"),
        pytest.param({"container": "container_1"}, Tier.NONE, id="a container"),
        pytest.param({"container": {"skills": []}}, Tier.NONE, id="a container's skills"),
    ],
)
def test_what_else_is_asked_for_decides_the_tier(fields: dict[str, Json], tier: Tier) -> None:
    assert MESSAGES.read(ask(USER, ANSWER, FOLLOW_UP, **fields)).tier is tier
    assert MESSAGES.read(ask(USER, ANSWER, FOLLOW_UP, **fields)).turns == 2


def test_streams_are_left_as_they_are() -> None:
    body = ask(USER, stream=True)
    event = b'event: message_delta\ndata: {"type":"message_delta","usage":{}}\n\n'
    assert MESSAGES.ask_for_usage(body) is body
    assert MESSAGES.trim(event, body) is event


# -- what may be stored


def answer(*blocks: Json, stop: Json = "end_turn", **more: Json) -> dict[str, Json]:
    whole = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
    usage = {"input_tokens": 4, "output_tokens": 3}
    return {**whole, "content": list(blocks), "stop_reason": stop, "usage": usage, **more}


SAID = {"type": "text", "text": "Blue"}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
CALLED = {"type": "tool_use", "id": "t", "name": "f", "input": {}}


@pytest.mark.parametrize(
    ("given", "reason", "with_tools"),
    [
        pytest.param(answer(SAID), None, None, id="a text"),
        pytest.param(answer(THOUGHT, SAID, stop="stop_sequence"), None, None, id="a stop sequence"),
        pytest.param(answer(CALLED, stop="tool_use"), "tool_calls", None, id="a call"),
        pytest.param(answer(SAID, CALLED), "tool_calls", None, id="a call, then the end"),
        pytest.param(answer(SAID, stop="tool_use"), "tool_calls", None, id="a call announced"),
        pytest.param(answer(SAID, stop="max_tokens"), "length", "length", id="cut off"),
        pytest.param(
            answer(SAID, stop="model_context_window_exceeded"), "length", "length", id="no room"
        ),
        pytest.param(
            answer(SAID, stop="refusal"), "content_filter", "content_filter", id="withheld"
        ),
        pytest.param(answer(SAID, stop="pause_turn"), "unfinished", "unfinished", id="a pause"),
        pytest.param(answer(SAID, stop="new"), "unfinished", "unfinished", id="another reason"),
        pytest.param(answer(SAID, stop=None), "unfinished", "unfinished", id="no reason"),
        pytest.param(answer(SAID, stop=["end_turn"]), "unfinished", "unfinished", id="odd reason"),
        pytest.param(
            answer({"type": "server_tool_use"}, SAID),
            "tool_calls",
            "tool_calls",
            id="a tool that ran upstream",
        ),
        pytest.param(answer(), "empty", "empty", id="no blocks"),
        pytest.param(answer({"type": "text", "text": " \n"}), "empty", "empty", id="only space"),
        pytest.param(answer(THOUGHT), "empty", "empty", id="only a thought"),
        pytest.param(answer("Blue"), "malformed", "malformed", id="a block is no object"),
        pytest.param(answer({"text": "Blue"}), "malformed", "malformed", id="no type"),
        pytest.param(answer({"type": {}}), "malformed", "malformed", id="an odd type"),
        pytest.param(answer({"type": "text"}), "malformed", "malformed", id="no text"),
        pytest.param(
            answer({"type": "thinking", "thinking": 7}), "malformed", "malformed", id="no thought"
        ),
        pytest.param(answer(SAID, usage=7), "malformed", "malformed", id="usage is a number"),
        pytest.param(answer(SAID, content="Blue"), "malformed", "malformed", id="content is text"),
        pytest.param({}, "malformed", "malformed", id="no content"),
    ],
)
def test_only_whole_answers_are_stored(
    given: dict[str, Json], reason: str | None, with_tools: str | None
) -> None:
    assert MESSAGES.refuse(given, store_tool_calls=False) == reason
    assert MESSAGES.refuse(given, store_tool_calls=True) == with_tools
