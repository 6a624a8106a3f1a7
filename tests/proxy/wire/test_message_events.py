"""Anthropic's streams: strictly in order, or no answer."""

from __future__ import annotations

import json

import orjson
import pytest

from proxy.wire.base import Json
from proxy.wire.message_events import assemble_message, replay_message
from proxy.wire.sse import data_of, encode, name_of


def event(kind: str, **fields: Json) -> bytes:
    return encode({"type": kind, **fields}, kind)


def opened(block: Json, index: Json = 0) -> bytes:
    return event("content_block_start", index=index, content_block=block)


def delta(kind: str, index: Json = 0, **fields: Json) -> bytes:
    return event("content_block_delta", index=index, delta={"type": kind, **fields})


def closed(index: Json = 0) -> bytes:
    return event("content_block_stop", index=index)


HEAD: dict[str, Json] = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
OPEN = {
    **HEAD,
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 9, "cache_read_input_tokens": 0, "output_tokens": 1},
}
START = event("message_start", message=OPEN)
END = event(
    "message_delta",
    delta={"stop_reason": "end_turn", "stop_sequence": None},
    usage={"output_tokens": 15, "input_tokens": None},
)
STOP = event("message_stop")
PING = event("ping")
TEXT = [opened({"type": "text", "text": ""}), delta("text_delta", text="Blue"), closed()]


def test_a_real_stream_becomes_its_json_form() -> None:
    events = [
        START,
        opened({"type": "thinking", "thinking": "", "signature": ""}),
        PING,
        delta("thinking_delta", thinking="Light"),
        delta("thinking_delta", thinking=" scatters."),
        delta("signature_delta", signature="EqQB"),
        closed(),
        opened({"type": "redacted_thinking", "data": "Emw"}, 1),
        closed(1),
        opened({"type": "text", "text": ""}, 2),
        delta("text_delta", 2, text="Blue"),
        delta("text_delta", 2, text=" sky"),
        delta("citations_delta", 2, citation={"type": "char_location", "cited_text": "blue"}),
        closed(2),
        opened({"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}, 3),
        delta("input_json_delta", 3, partial_json=""),
        delta("input_json_delta", 3, partial_json='{"city": "Os'),
        delta("input_json_delta", 3, partial_json='lo", "days": 2}'),
        closed(3),
        END,
        STOP,
    ]
    assert assemble_message(events) == {
        **HEAD,
        "content": [
            {"type": "thinking", "thinking": "Light scatters.", "signature": "EqQB"},
            {"type": "redacted_thinking", "data": "Emw"},
            {
                "type": "text",
                "text": "Blue sky",
                "citations": [{"type": "char_location", "cited_text": "blue"}],
            },
            {
                "type": "tool_use",
                "id": "toolu_1",
                "name": "weather",
                "input": {"city": "Oslo", "days": 2},
            },
        ],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "cache_read_input_tokens": 0, "output_tokens": 15},
    }


def test_usage_counts_are_totals_and_a_null_takes_nothing_away() -> None:
    usage = {"output_tokens": 15, "input_tokens": 12, "cache_read_input_tokens": None, "x": None}
    ending = {"stop_reason": "stop_sequence", "stop_sequence": "END"}
    last = event("message_delta", delta=ending, usage=usage, context_management={"edits": []})
    message = assemble_message([START, *TEXT, last, STOP])
    assert message is not None
    assert message["usage"] == {
        "input_tokens": 12,
        "cache_read_input_tokens": 0,
        "output_tokens": 15,
        "x": None,
    }
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")
    assert message["context_management"] == {"edits": []}


def test_a_tool_without_arguments_keeps_its_empty_input() -> None:
    tool = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    for written in ([], [delta("input_json_delta", partial_json="")]):
        message = assemble_message([START, opened(tool), *written, closed(), END, STOP])
        assert message is not None
        assert message["content"] == [tool]


TOOL = {"type": "tool_use", "id": "t", "name": "f", "input": {}}


@pytest.mark.parametrize(
    ("number", "kept"),
    [
        pytest.param("18446744073709551615", True, id="64 bits"),
        pytest.param("-9223372036854775808", True, id="64 bits below zero"),
        pytest.param("18446744073709551616", False, id="65 bits"),
        pytest.param("-9223372036854775809", False, id="65 bits below zero"),
        pytest.param("123456789012345678901234", False, id="an account"),
        pytest.param('"123456789012345678901234"', True, id="an account as a text"),
        pytest.param("0.12345678901234567890", True, id="a fraction"),
    ],
)
def test_a_tool_is_never_called_with_a_rounded_integer(number: str, kept: bool) -> None:
    halves = [f'{{"to": {number[:9]}', f"{number[9:]}}}"]
    written = [delta("input_json_delta", partial_json=half) for half in halves]
    message = assemble_message([START, opened(TOOL), *written, closed(), END, STOP])
    assert (message is not None) is kept
    assert message is None or message["content"][0]["input"] == {"to": json.loads(number)}


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([], id="nothing"),
        pytest.param([PING], id="a ping"),
        pytest.param([*TEXT, END, STOP], id="no start"),
        pytest.param([START, START, *TEXT, END, STOP], id="two starts"),
        pytest.param([START, *TEXT, END], id="no stop"),
        pytest.param([START, *TEXT, STOP], id="no stop reason"),
        pytest.param([START, *TEXT, END, STOP, STOP], id="two stops"),
        pytest.param([START, *TEXT, END, STOP, event("unknown")], id="more after the stop"),
        pytest.param([START, *TEXT[:2], END, STOP], id="a block left open"),
        pytest.param([START, *TEXT[:2], *TEXT, END, STOP], id="a block inside a block"),
        pytest.param([START, *TEXT[1:], END, STOP], id="a delta without a block"),
        pytest.param([START, closed(), END, STOP], id="a close without a block"),
        pytest.param(
            [START, opened({"type": "text"}, 1), closed(1), END, STOP], id="index 1 first"
        ),
        pytest.param(
            [START, TEXT[0], delta("text_delta", 1, text="a"), closed()], id="other index"
        ),
        pytest.param(
            [START, opened({"type": "x"}, 1), closed(0), END, STOP], id="index 1, then index 0"
        ),
        pytest.param([START, opened(None), closed(), END, STOP], id="a block is no object"),
        pytest.param([START, TEXT[0], event("content_block_delta", index=0)], id="no delta"),
        pytest.param(
            [START, TEXT[0], delta("text_delta", text=7), closed(), END, STOP],
            id="text is a number",
        ),
        pytest.param(
            [START, TEXT[0], delta("sound_delta", sound="a"), closed(), END, STOP],
            id="a delta unheard of",
        ),
        pytest.param(
            [START, opened({"type": "text"}), delta("text_delta", text="a"), closed(), END, STOP],
            id="a block that starts without its text",
        ),
        pytest.param([START, *TEXT, event("summary"), END, STOP], id="an event unheard of"),
        pytest.param(
            [START, opened(TOOL), delta("input_json_delta", partial_json="{"), closed(), END, STOP],
            id="half an input",
        ),
        pytest.param([event("message_start"), *TEXT, END, STOP], id="a start without a message"),
        pytest.param(
            [event("message_start", message={**OPEN, "content": "a"}), *TEXT, END, STOP],
            id="content that is no list",
        ),
        pytest.param(
            [START, *TEXT, event("message_delta", delta=None), END, STOP], id="an ending of null"
        ),
        pytest.param(
            [START, *TEXT, event("message_delta", delta={"content": []}), END, STOP],
            id="an ending that replaces the content",
        ),
        pytest.param(
            [START, *TEXT, event("message_delta", delta={}, usage=7), END, STOP],
            id="usage is a number",
        ),
        pytest.param([START, encode({"type": "error"}, "error"), *TEXT, END, STOP], id="an error"),
        pytest.param([START, b"data: {\n\n", *TEXT, END, STOP], id="garbage"),
    ],
)
def test_an_unclean_stream_is_no_answer(events: list[bytes]) -> None:
    assert assemble_message([START, *TEXT, END, STOP]) is not None
    assert assemble_message(events) is None


def test_a_message_is_replayed_in_the_order_of_the_api() -> None:
    answer = {
        **HEAD,
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "s"},
            {"type": "text", "text": "Blue", "citations": [{"n": 1}]},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1]}},
            {"type": "redacted_thinking", "data": "Emw"},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 15},
    }
    events = list(replay_message(answer))
    payloads = [orjson.loads(data_of(e)) for e in events]
    assert [name_of(e).decode() for e in events] == [p["type"] for p in payloads]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    two_deltas = [block[0], block[1], block[1], block[2]]
    assert [p["type"] for p in payloads] == [
        "message_start",
        *two_deltas,
        *two_deltas,
        *block,
        block[0],
        block[2],
        "message_delta",
        "message_stop",
    ]
    assert payloads[0]["message"] == {
        **answer,
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 9, "output_tokens": 0},
    }
    starts = [p["content_block"] for p in payloads if p["type"] == "content_block_start"]
    assert starts == [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "text", "text": "", "citations": []},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}},
        {"type": "redacted_thinking", "data": "Emw"},
    ]
    assert payloads[-2] == {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 15},
    }


def test_a_message_without_usage_is_replayed_without() -> None:
    answer = {**HEAD, "content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn"}
    payloads = [orjson.loads(data_of(e)) for e in replay_message(answer)]
    assert not any("usage" in p or "usage" in p.get("message", {}) for p in payloads)
    assert assemble_message(replay_message(answer)) == answer
