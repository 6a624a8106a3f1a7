"""Merging deltas: what the official SDK does, but for contradictions."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming._deltas import accumulate_delta

from proxy.wire.base import Json
from proxy.wire.chunks import assemble_chunks, merge, refuse_finish
from proxy.wire.sse import DONE, BrokenStream, encode

fragments = st.fixed_dictionaries(
    {},
    optional={
        "content": st.text(max_size=5) | st.none(),
        "reasoning": st.text(max_size=5) | st.none(),
        "x_unknown": st.text(max_size=5),
        "x_object": st.fixed_dictionaries({}, optional={"a": st.text(), "b": st.text()}),
        "x_list": st.lists(st.text(max_size=3), min_size=1, max_size=2),
    },
)


@given(st.lists(fragments, max_size=6))
def test_deltas_merge_as_in_the_official_sdk(deltas: list[dict[str, Json]]) -> None:
    ours: dict[str, Json] = {}
    theirs: dict[Any, Any] = {}
    for delta in deltas:
        fragment: Any = copy.deepcopy(delta)
        merge(ours, copy.deepcopy(delta))
        theirs = accumulate_delta(theirs, fragment)
    assert ours == theirs


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        pytest.param({"content": "a"}, {"content": "b"}, {"content": "ab"}, id="texts grow"),
        pytest.param({"content": "a"}, {"content": None}, {"content": "a"}, id="null adds nothing"),
        pytest.param({"content": None}, {"content": "a"}, {"content": "a"}, id="null gives way"),
        pytest.param({}, {"refusal": None}, {"refusal": None}, id="null is kept"),
        pytest.param({"role": "a"}, {"role": "a"}, {"role": "a"}, id="a role is repeated"),
        pytest.param({"id": ""}, {"id": "c"}, {"id": "c"}, id="an id comes late"),
        pytest.param({"id": "c"}, {"id": ""}, {"id": "c"}, id="an id is blanked"),
        pytest.param({"n": 1}, {"n": 2}, {"n": 2}, id="numbers are replaced"),
        pytest.param({"x": {"a": "b"}}, {"x": {"a": "c"}}, {"x": {"a": "bc"}}, id="inside objects"),
        pytest.param({"x": [1]}, {"x": [2]}, {"x": [1, 2]}, id="lists grow"),
        pytest.param(
            {"x": [{"index": 0, "text": "a"}]},
            {"x": [{"index": 0, "text": "b"}, {"index": 1, "text": "c"}]},
            {"x": [{"index": 0, "text": "ab"}, {"index": 1, "text": "c"}]},
            id="list entries by index",
        ),
        pytest.param(
            {"x": [{"text": "a"}]},
            {"x": [{"text": "b"}]},
            {"x": [{"text": "a"}, {"text": "b"}]},
            id="list entries without index",
        ),
        pytest.param(
            {"tool_calls": None},
            {"tool_calls": [{"index": 0, "id": "c"}]},
            {"tool_calls": [{"index": 0, "id": "c"}]},
            id="calls after null",
        ),
    ],
)
def test_merging(first: dict[str, Json], second: dict[str, Json], merged: Json) -> None:
    merge(first, second)
    assert first == merged


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param({"id": "a"}, {"id": "b"}, id="two ids"),
        pytest.param({"role": "user"}, {"role": "assistant"}, id="two roles"),
        pytest.param(
            {"audio": {"data": "AA=="}}, {"audio": {"data": "BB=="}}, id="two base64 texts"
        ),
        pytest.param({"content": "a"}, {"content": ["a"]}, id="a list after a text"),
        pytest.param({"content": ["a"]}, {"content": "a"}, id="a text after a list"),
        pytest.param({"x": {}}, {"x": 1}, id="a number after an object"),
        pytest.param({"x": 1}, {"x": {}}, id="an object after a number"),
        pytest.param({}, {"tool_calls": "a"}, id="calls that are text"),
        pytest.param({}, {"tool_calls": [{"id": "a"}]}, id="a call without index"),
        pytest.param({}, {"tool_calls": [{"index": True}]}, id="an index that is no number"),
        pytest.param({}, {"tool_calls": ["a"]}, id="a call that is no object"),
    ],
)
def test_contradictions_break_the_stream(first: dict[str, Json], second: dict[str, Json]) -> None:
    with pytest.raises(BrokenStream):
        merge(first, second)


def assembled(*chunks: Json) -> Json:
    end = {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
    answer = assemble_chunks([*map(encode, [*chunks, end]), DONE], "name", lambda choice: None)
    assert answer is not None
    return {k: v for k, v in answer.items() if k not in ("object", "choices")}


def test_the_first_name_and_the_last_of_all_else_count() -> None:
    chunks = [
        {"id": "", "model": "", "created": 0, "object": "", "citations": ["a"]},
        {"id": "c-1", "model": "m", "created": 17, "usage": None, "service_tier": "auto"},
        {"obfuscation": "aGk7mQ"},  # pads a chunk, and is no part of an answer
        {"id": "c-2", "model": "m-2", "created": 18, "citations": ["a", "b"]},
        {"usage": {"total_tokens": 3}, "service_tier": "default"},
        {"usage": None},
    ]
    assert assembled(*chunks) == {
        "id": "c-1",
        "model": "m",
        "created": 17,
        "citations": ["a", "b"],
        "usage": {"total_tokens": 3},
        "service_tier": "default",
    }


def test_lists_beside_the_delta_grow_and_objects_are_replaced() -> None:
    def piece(finish: str | None, **fields: Json) -> bytes:
        return encode({"choices": [{"index": 0, "finish_reason": finish, **fields}]})

    events = [
        piece(None, token_ids=[1, 2], filter={"a": 1}),
        piece(None, token_ids=None, filter={"b": 2}),
        piece("stop", token_ids=[3], filter=None),
    ]
    answer = assemble_chunks([*events, DONE], "name", lambda choice: None)
    assert answer is not None
    assert answer["choices"] == [
        {"index": 0, "finish_reason": "stop", "token_ids": [1, 2, 3], "filter": {"b": 2}}
    ]


def test_nesting_beyond_the_stack_is_a_broken_stream() -> None:
    deep = b'{"a":' * 1010 + b"1" + b"}" * 1010
    piece = (
        b'data: {"choices":[{"index":0,"delta":{"x":' + deep + b'},"finish_reason":"stop"}]}\n\n'
    )
    assert assemble_chunks([piece, piece, DONE], "name", lambda choice: None) is None


@pytest.mark.parametrize(
    ("finish", "calls_tools", "reason", "with_tools"),
    [
        ("stop", False, None, None),
        ("stop", True, "tool_calls", None),
        ("tool_calls", True, "tool_calls", None),
        ("function_call", True, "tool_calls", None),
        ("length", True, "length", "length"),
        ("content_filter", False, "content_filter", "content_filter"),
        ("error", False, "unfinished", "unfinished"),
        ("", False, "unfinished", "unfinished"),
        (None, True, "unfinished", "unfinished"),
        ({"stop": 1}, False, "unfinished", "unfinished"),
    ],
)
def test_how_a_choice_ended_decides_first(
    finish: Json, calls_tools: bool, reason: str | None, with_tools: str | None
) -> None:
    assert refuse_finish(finish, calls_tools, store_tool_calls=False) == reason
    assert refuse_finish(finish, calls_tools, store_tool_calls=True) == with_tools
