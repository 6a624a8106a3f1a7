"""Responses: the last user message is the query; the last event is the answer."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given

from proxy.wire.base import PLACEHOLDER, InvalidRequest, Json, Tier
from proxy.wire.responses import ResponsesWire
from proxy.wire.sse import data_of, encode, name_of
from tests.proxy.wire.strategies import response_answers

RESPONSES = ResponsesWire()
SYSTEM = {"role": "developer", "content": "Be brief."}
USER = {"type": "message", "role": "user", "content": "Why is the sky blue?"}
SAID = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "It scatters light.", "annotations": []}],
}
FOLLOW_UP = {"role": "user", "content": "And at dusk?"}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c", "output": "42"}
TEXT = {"type": "input_text", "text": "What is this?"}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}


def ask(asked: Json, **more: Json) -> dict[str, Json]:
    return {"model": "m", "input": asked, **more}


# -- requests


def test_a_text_input_is_the_query() -> None:
    question = RESPONSES.read(ask("Why?", instructions="Be brief.", stream=True, store=False))
    assert question.tier is Tier.SEMANTIC
    assert question.text == "Why?"
    assert question.skeleton == {"model": "m", "input": PLACEHOLDER, "instructions": "Be brief."}
    assert (question.context, question.turns) == ([], 1)


def test_items_are_split_like_messages() -> None:
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": []}
    question = RESPONSES.read(ask([SYSTEM, USER, reasoning, CALL, RESULT, SAID, FOLLOW_UP]))
    assert question.skeleton["input"] == [SYSTEM, {"role": "user", "content": PLACEHOLDER}]
    asked = {"type": "message", "role": "user", "content": PLACEHOLDER}
    assert question.context == [asked, reasoning, CALL, RESULT, SAID]
    assert question.earlier == ("Why is the sky blue?",)
    assert (question.text, question.turns) == ("And at dusk?", 2)


def test_an_earlier_item_that_is_no_message_stays_as_it_is() -> None:
    odd = {**USER, "type": "x_note"}
    question = RESPONSES.read(ask([odd, SAID, FOLLOW_UP]))
    assert (question.context, question.earlier) == ([odd, SAID], ())


def test_a_text_and_an_item_with_the_same_text_are_two_questions() -> None:
    text, item = (
        RESPONSES.read(ask("Why?")),
        RESPONSES.read(ask([{**FOLLOW_UP, "content": "Why?"}])),
    )
    assert text.text == item.text
    assert text.skeleton != item.skeleton


def test_of_text_parts_only_the_last_is_the_query() -> None:
    parts = [{"type": "input_text", "text": "Document: the sky is green."}, TEXT]
    question = RESPONSES.read(ask([{"role": "user", "content": parts}]))
    assert question.text == "What is this?"
    held = [parts[0], {"type": "input_text", "text": PLACEHOLDER}]
    assert question.skeleton["input"] == [{"role": "user", "content": held}]


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param("", id="an empty text"),
        pytest.param(" ", id="nothing but space"),
        pytest.param([{"role": "user", "content": [TEXT, IMAGE]}], id="an image"),
        pytest.param([{"role": "user", "content": [{"type": "input_file"}]}], id="a file"),
        pytest.param([{"role": "user", "content": [{"type": "text", "text": "a"}]}], id="odd part"),
        pytest.param([USER, SAID], id="an answer at the end"),
        pytest.param([USER, CALL], id="a pending call"),
        pytest.param([USER, CALL, RESULT], id="a tool result"),
        pytest.param([{"type": "custom", "role": "user", "content": "a"}], id="an odd user item"),
        pytest.param([{"type": None, "role": "user", "content": "a"}], id="a null type"),
        pytest.param([SYSTEM], id="instructions only"),
        pytest.param([{}], id="an empty item"),
    ],
)
def test_a_tail_that_is_not_a_users_text_matches_exactly_or_not_at_all(asked: Json) -> None:
    question = RESPONSES.read(ask(asked))
    assert question.tier is Tier.EXACT
    assert (question.text, question.skeleton, question.context) == ("", {}, [])


@pytest.mark.parametrize("asked", ["Why?", [SYSTEM, USER]], ids=["text", "items"])
@pytest.mark.parametrize(
    ("fields", "tier"),
    [
        pytest.param({"instructions": "a", "reasoning": {}}, Tier.SEMANTIC, id="other fields"),
        pytest.param(
            {"tools": [{"type": "function"}, {"type": "custom"}]}, Tier.SEMANTIC, id="own"
        ),
        pytest.param({"include": ["reasoning.encrypted_content"]}, Tier.SEMANTIC, id="reasoning"),
        pytest.param({"background": False, "conversation": None}, Tier.SEMANTIC, id="defaults"),
        pytest.param({"include": ["message.output_text.logprobs"]}, Tier.EXACT, id="logprobs"),
        pytest.param({"top_logprobs": 3}, Tier.EXACT, id="top logprobs"),
        pytest.param({"background": True}, Tier.NONE, id="background"),
        pytest.param({"previous_response_id": "resp_1"}, Tier.NONE, id="a response before"),
        pytest.param({"conversation": {"id": "conv_1"}}, Tier.NONE, id="a conversation"),
        pytest.param({"prompt": {"id": "pmpt_1"}}, Tier.NONE, id="a stored prompt"),
        pytest.param({"tools": [{"type": "web_search"}]}, Tier.NONE, id="a hosted tool"),
        pytest.param({"tools": [{"type": "mcp"}], "top_logprobs": 1}, Tier.NONE, id="both"),
    ],
)
def test_what_else_is_asked_for_decides_the_tier(
    asked: Json, fields: dict[str, Json], tier: Tier
) -> None:
    assert RESPONSES.read(ask(asked, **fields)).tier is tier


@pytest.mark.parametrize(
    "item", [{"type": "item_reference", "id": "m"}, {"type": None, "id": "m"}, {"id": "m"}], ids=str
)
def test_a_reference_to_a_stored_item_is_not_cached(item: Json) -> None:
    assert RESPONSES.read(ask([item, FOLLOW_UP])).tier is Tier.NONE
    assert RESPONSES.read(ask([FOLLOW_UP, item])).tier is Tier.NONE


def test_a_message_that_has_an_id_and_no_type_is_a_message() -> None:
    said = {"id": "m", "role": "assistant", "content": "It scatters light."}
    assert RESPONSES.read(ask([said, FOLLOW_UP])).tier is Tier.SEMANTIC


def test_what_is_stored_upstream_may_stand_for_the_input() -> None:
    question = RESPONSES.read({"model": "m", "prompt": {"id": "pmpt_1"}})
    assert question.tier is Tier.NONE
    with pytest.raises(InvalidRequest, match="input is required"):
        RESPONSES.read({"model": "m", "background": None})
    with pytest.raises(InvalidRequest, match="input must be"):
        RESPONSES.read({"model": "m", "prompt": {"id": "pmpt_1"}, "input": 7})


def test_an_item_that_is_no_object_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        RESPONSES.read(ask([USER, "text"]))
    assert caught.value.param == "input[1]"


# -- streams


def response(*output: Json, status: Json = "completed", **more: Json) -> dict[str, Json]:
    whole = {"id": "resp_1", "object": "response", "created_at": 17, "model": "m"}
    ends = {"error": None, "incomplete_details": None}
    return {**whole, "status": status, "output": list(output), **ends, **more}


def event(kind: str, **fields: Json) -> bytes:
    return encode({"type": kind, **fields}, kind)


WHOLE = response(SAID, usage={"input_tokens": 4, "output_tokens": 3, "total_tokens": 7})
CREATED = event("response.created", response=response(status="in_progress"))
COMPLETED = event("response.completed", response=WHOLE)


def test_the_completed_response_is_the_answer() -> None:
    unheard_of = event("response.something.new", delta="a")
    assert RESPONSES.assemble([CREATED, unheard_of, COMPLETED]) == WHOLE
    assert RESPONSES.assemble([CREATED, COMPLETED, b"data: [DONE]\n\n"]) == WHOLE


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([], id="nothing"),
        pytest.param([CREATED], id="no end"),
        pytest.param([CREATED, event("response.incomplete", response=WHOLE)], id="incomplete"),
        pytest.param([CREATED, event("response.failed", response=WHOLE)], id="failed"),
        pytest.param([event("error", message="x"), COMPLETED], id="an error"),
        pytest.param([COMPLETED, CREATED], id="more after the end"),
        pytest.param([event("response.completed")], id="no response"),
        pytest.param([event("response.completed", response=[])], id="a response that is a list"),
        pytest.param(
            [event("response.completed", response=response(status="in_progress"))],
            id="a status that is not completed",
        ),
        pytest.param([b"data: {\n\n", COMPLETED], id="garbage"),
    ],
)
def test_an_unclean_stream_is_no_answer(events: list[bytes]) -> None:
    assert RESPONSES.assemble(events) is None


def test_streams_are_left_as_they_are() -> None:
    body = ask("Why?", stream=True)
    assert RESPONSES.ask_for_usage(body) is body
    assert RESPONSES.trim(COMPLETED, body) is COMPLETED


# -- replay


def payloads_of(answer: dict[str, Json]) -> list[Json]:
    events = list(RESPONSES.replay(answer, {}))
    payloads = [orjson.loads(data_of(e)) for e in events]
    assert [name_of(e).decode() for e in events] == [p["type"] for p in payloads]
    assert [p["sequence_number"] for p in payloads] == list(range(len(payloads)))
    return payloads


def test_a_text_is_replayed_in_the_order_of_the_api() -> None:
    payloads = payloads_of(WHOLE)
    assert [p["type"].removeprefix("response.") for p in payloads] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert payloads[0]["response"] == {
        **WHOLE,
        "status": "in_progress",
        "output": [],
        "usage": None,
    }
    assert payloads[2]["item"] == {**SAID, "status": "in_progress", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    assert payloads[3]["part"] == part
    for p in payloads[3:7]:
        assert (p["item_id"], p["output_index"], p["content_index"]) == ("msg_1", 0, 0)
    assert payloads[5]["text"] == "It scatters light."
    assert payloads[7]["item"] == SAID
    assert payloads[8]["response"] == WHOLE


@pytest.mark.parametrize(
    ("item", "kinds"),
    [
        pytest.param(
            CALL, ["function_call_arguments.delta", "function_call_arguments.done"], id="a call"
        ),
        pytest.param(
            {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c", "name": "f", "input": "x"},
            ["custom_tool_call_input.delta", "custom_tool_call_input.done"],
            id="a custom call",
        ),
        pytest.param(
            {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "Hm"}]},
            [
                "reasoning_summary_part.added",
                "reasoning_summary_text.delta",
                "reasoning_summary_text.done",
                "reasoning_summary_part.done",
            ],
            id="a summary of reasoning",
        ),
        pytest.param(
            {
                "type": "reasoning",
                "id": "rs",
                "summary": [],
                "content": [{"type": "reasoning_text", "text": "Hm"}],
            },
            [
                "content_part.added",
                "reasoning_text.delta",
                "reasoning_text.done",
                "content_part.done",
            ],
            id="open reasoning",
        ),
        pytest.param(
            {**SAID, "content": [{"type": "refusal", "refusal": "No."}]},
            ["content_part.added", "refusal.delta", "refusal.done", "content_part.done"],
            id="a refusal",
        ),
        pytest.param(
            {
                **SAID,
                "content": [{"type": "output_text", "text": "a", "annotations": [{"type": "x"}]}],
            },
            [
                "content_part.added",
                "output_text.delta",
                "output_text.annotation.added",
                "output_text.done",
                "content_part.done",
            ],
            id="a text with an annotation",
        ),
        pytest.param({"type": "compaction", "id": "cmp_1"}, [], id="an item unheard of"),
    ],
)
def test_each_kind_of_item_has_its_events(item: Json, kinds: list[str]) -> None:
    payloads = payloads_of(response(item))
    inner = [p["type"].removeprefix("response.") for p in payloads[2:-1]]
    assert inner == ["output_item.added", *kinds, "output_item.done"]
    assert payloads[-2]["item"] == item


def grown(payloads: list[Json]) -> list[Json]:
    """The items as a client has them that adds up deltas instead of reading the last event."""
    items: list[Json] = []
    for p in payloads:
        kind = p["type"].removeprefix("response.")
        if kind == "output_item.added":
            items.append(p["item"])
        elif kind == "content_part.added":
            items[p["output_index"]]["content"].append(p["part"])
        elif kind == "reasoning_summary_part.added":
            items[p["output_index"]]["summary"].append(p["part"])
        elif kind == "reasoning_summary_text.delta":
            items[p["output_index"]]["summary"][p["summary_index"]]["text"] += p["delta"]
        elif kind == "function_call_arguments.delta":
            items[p["output_index"]]["arguments"] += p["delta"]
        elif kind == "custom_tool_call_input.delta":
            items[p["output_index"]]["input"] += p["delta"]
        elif kind == "output_text.annotation.added":
            part = items[p["output_index"]]["content"][p["content_index"]]
            part["annotations"].append(p["annotation"])
        elif kind.endswith(".delta"):
            part = items[p["output_index"]]["content"][p["content_index"]]
            part["refusal" if kind == "refusal.delta" else "text"] += p["delta"]
    return items


@given(answer=response_answers)
def test_deltas_add_up_to_the_answer(answer: dict[str, Json]) -> None:
    def comparable(items: list[Json]) -> list[Json]:
        kept = [{k: v for k, v in item.items() if k != "status"} for item in items]
        for item in kept:
            parts = item.get("content") or []
            item["content"] = [{k: v for k, v in p.items() if k != "logprobs"} for p in parts]
        return kept

    assert comparable(grown(payloads_of(answer))) == comparable(answer["output"])


# -- what may be stored


def message(*parts: Json, **more: Json) -> dict[str, Json]:
    return {"type": "message", "role": "assistant", "content": list(parts), **more}


OUT = {"type": "output_text", "text": "Blue"}


@pytest.mark.parametrize(
    ("answer", "reason", "with_tools"),
    [
        pytest.param(WHOLE, None, None, id="a text"),
        pytest.param(
            response(message({"type": "refusal", "refusal": "No."})), None, None, id="a refusal"
        ),
        pytest.param(
            response({"type": "reasoning", "summary": []}, message(OUT)), None, None, id="reasoning"
        ),
        pytest.param(response(CALL), "tool_calls", None, id="a call"),
        pytest.param(response(message(OUT), CALL), "tool_calls", None, id="a text and a call"),
        pytest.param(
            response({"type": "web_search_call"}, message(OUT)),
            "tool_calls",
            "tool_calls",
            id="a tool that ran upstream",
        ),
        pytest.param(
            response({"type": "mcp_approval_request"}),
            "tool_calls",
            "tool_calls",
            id="an approval asked for",
        ),
        pytest.param(
            response(message(OUT), status="incomplete"), "unfinished", "unfinished", id="incomplete"
        ),
        pytest.param(
            response(
                message(OUT),
                status="incomplete",
                incomplete_details={"reason": "max_output_tokens"},
            ),
            "length",
            "length",
            id="cut off",
        ),
        pytest.param(
            response(message(OUT), incomplete_details={"reason": "content_filter"}),
            "content_filter",
            "content_filter",
            id="filtered",
        ),
        pytest.param(
            response(message(OUT), incomplete_details={"reason": ["new"]}),
            "unfinished",
            "unfinished",
            id="incomplete for another reason",
        ),
        pytest.param(
            response(message(OUT), status="queued"), "unfinished", "unfinished", id="queued"
        ),
        pytest.param(
            response(message(OUT), status=None), "unfinished", "unfinished", id="no status"
        ),
        pytest.param(response(message(OUT), status="failed"), "error", "error", id="failed"),
        pytest.param(response(message(OUT), error={}), "error", "error", id="an error"),
        pytest.param(
            response(message(OUT, status="incomplete")),
            "unfinished",
            "unfinished",
            id="an item that is not complete",
        ),
        pytest.param(response(), "empty", "empty", id="no output"),
        pytest.param(response(message()), "empty", "empty", id="no parts"),
        pytest.param(response(message({**OUT, "text": " "})), "empty", "empty", id="only space"),
        pytest.param(
            response({"type": "reasoning", "summary": []}), "empty", "empty", id="only a thought"
        ),
        pytest.param(response("text"), "malformed", "malformed", id="an item is no object"),
        pytest.param(response({}), "malformed", "malformed", id="an item without a type"),
        pytest.param(response({"type": ["message"]}), "malformed", "malformed", id="an odd type"),
        pytest.param(response({"type": "message"}), "malformed", "malformed", id="no content"),
        pytest.param(response(message("a")), "malformed", "malformed", id="a part is no object"),
        pytest.param(
            response(message({**OUT, "text": 7})), "malformed", "malformed", id="a number as text"
        ),
        pytest.param(
            response({**CALL, "arguments": {}}), "malformed", "malformed", id="arguments no text"
        ),
        pytest.param(
            response({"type": "reasoning", "summary": 1}), "malformed", "malformed", id="no summary"
        ),
        pytest.param(
            response({"type": "reasoning", "summary": [{"type": "summary_image"}]}, message(OUT)),
            "malformed",
            "malformed",
            id="a summary that is no text",
        ),
        pytest.param(
            response({"type": "reasoning", "summary": [{"type": "x", "text": 7}]}, message(OUT)),
            "malformed",
            "malformed",
            id="a number as a summary",
        ),
        pytest.param({"status": "completed"}, "malformed", "malformed", id="no output at all"),
    ],
)
def test_only_whole_answers_are_stored(
    answer: dict[str, Json], reason: str | None, with_tools: str | None
) -> None:
    assert RESPONSES.refuse(answer, store_tool_calls=False) == reason
    assert RESPONSES.refuse(answer, store_tool_calls=True) == with_tools
