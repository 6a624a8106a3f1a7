"""Laws of every streaming wire: stream and JSON are two forms of one answer."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire import WIRES
from proxy.wire.base import REFUSALS, Json, Wire
from proxy.wire.sse import DONE, SseReader, encode
from tests.proxy.wire.strategies import (
    ASKED,
    chat_answers,
    completion_answers,
    damaged,
    embedding_answers,
    json_values,
    message_answers,
    response_answers,
    vocabulary_json,
    vocabulary_objects,
)

CHAT, COMPLETIONS, RESPONSES, MESSAGES, EMBEDDINGS = WIRES.values()
ANSWERS = {
    CHAT: chat_answers,
    COMPLETIONS: completion_answers,
    RESPONSES: response_answers,
    MESSAGES: message_answers,
}
streaming = pytest.mark.parametrize("wire", ANSWERS, ids=lambda wire: wire.path)
every_wire = pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES.keys())


@streaming
@settings(max_examples=150)
@given(data=st.data())
def test_a_replayed_answer_assembles_to_itself(wire: Wire, data: st.DataObject) -> None:
    answer = data.draw(ANSWERS[wire])
    assert wire.assemble(wire.replay(answer, ASKED)) == answer


@streaming
@given(data=st.data(), cuts=st.lists(st.floats(0, 1), max_size=20))
def test_it_does_however_its_bytes_are_chunked(
    wire: Wire, data: st.DataObject, cuts: list[float]
) -> None:
    answer = data.draw(ANSWERS[wire])
    stream = b"".join(wire.replay(answer, ASKED))
    at = sorted(int(c * len(stream)) for c in cuts)
    reader = SseReader()
    events = [
        event
        for a, b in itertools.pairwise([0, *at, len(stream)])
        for event in reader.feed(stream[a:b])
    ]
    assert reader.flush() == b""
    assert wire.assemble(events) == answer


@streaming
@given(data=st.data())
def test_a_stream_that_ends_early_is_no_answer(wire: Wire, data: st.DataObject) -> None:
    events = list(wire.replay(data.draw(ANSWERS[wire]), ASKED))
    for end in range(len(events)):
        assert wire.assemble(events[:end]) is None


@streaming
@given(data=st.data())
def test_a_stream_with_an_error_in_it_is_no_answer(wire: Wire, data: st.DataObject) -> None:
    events = list(wire.replay(data.draw(ANSWERS[wire]), ASKED))
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    where = data.draw(st.integers(0, len(events)))
    for event in (encode(error), encode(error, "error"), encode({"error": "x"}), b"data: {\n\n"):
        assert wire.assemble([*events[:where], event, *events[where:]]) is None


@streaming
@given(data=st.data())
def test_keep_alives_change_nothing(wire: Wire, data: st.DataObject) -> None:
    answer = data.draw(ANSWERS[wire])
    events = list(wire.replay(answer, ASKED))
    kept_alive = [e for event in events for e in (b": keep-alive\n\n", event, b"\n\n")]
    assert wire.assemble(kept_alive) == answer


@pytest.mark.parametrize("wire", [CHAT, COMPLETIONS], ids=lambda wire: wire.path)
@given(data=st.data())
def test_who_did_not_ask_for_usage_gets_the_rest(wire: Wire, data: st.DataObject) -> None:
    answer = data.draw(ANSWERS[wire])
    plain = b"".join(wire.replay(answer, {"stream": True}))
    assert wire.assemble(SseReader().feed(plain)) == {
        k: v for k, v in answer.items() if k != "usage"
    }
    for body in ({"stream": True}, {"stream_options": {"include_usage": False}}):
        trimmed = [wire.trim(event, body) for event in wire.replay(answer, ASKED)]
        assert b"".join(trimmed) == plain


@streaming
@given(data=st.data())
def test_who_asked_for_everything_gets_the_same_bytes(wire: Wire, data: st.DataObject) -> None:
    for event in wire.replay(data.draw(ANSWERS[wire]), ASKED):
        assert wire.trim(event, ASKED) is event


@every_wire
@given(event=st.binary(max_size=40) | vocabulary_json.map(encode), body=vocabulary_objects)
def test_any_event_can_be_trimmed(wire: Wire, event: bytes, body: dict[str, Json]) -> None:
    if b'"usage"' not in event:
        assert wire.trim(event, body) is event
    else:
        wire.trim(event, body)


@streaming
@given(events=st.lists(vocabulary_objects | json_values, max_size=6))
def test_any_events_are_assembled_or_not(wire: Wire, events: list[Json]) -> None:
    assembled = wire.assemble([*map(encode, events), DONE])
    assert assembled is None or isinstance(assembled, dict)


@streaming
@given(data=st.data())
def test_any_damage_to_a_stream_is_survived(wire: Wire, data: st.DataObject) -> None:
    answer = data.draw(ANSWERS[wire])
    payloads = [event[event.index(b"data: ") + 6 : -2] for event in wire.replay(answer, ASKED)]
    objects: list[Json] = [orjson.loads(p) for p in payloads if p != b"[DONE]"]
    at = data.draw(st.integers(0, len(objects) - 1))
    objects[at] = data.draw(damaged(st.just(objects[at])))
    assembled = wire.assemble([*map(encode, objects), DONE])
    assert assembled is None or isinstance(assembled, dict)


@every_wire
@given(answer=vocabulary_objects, store_tool_calls=st.booleans())
def test_any_answer_is_refused_in_a_known_word_or_let_pass(
    wire: Wire, answer: dict[str, Json], store_tool_calls: bool
) -> None:
    reason = wire.refuse(answer, store_tool_calls=store_tool_calls)
    assert reason is None or reason in REFUSALS


@every_wire
@given(answer=json_values.filter(lambda value: not isinstance(value, dict)))
def test_an_answer_that_is_no_object_is_malformed(wire: Wire, answer: Any) -> None:
    assert wire.refuse(answer, store_tool_calls=True) == "malformed"


@streaming
@given(data=st.data())
def test_whole_answers_may_be_stored_where_tool_calls_are(wire: Wire, data: st.DataObject) -> None:
    answer = data.draw(ANSWERS[wire])
    reason = wire.refuse(answer, store_tool_calls=True)
    assert reason in (None, "empty")


@given(answer=embedding_answers)
def test_whole_embeddings_may_be_stored(answer: dict[str, Json]) -> None:
    assert EMBEDDINGS.refuse(answer, store_tool_calls=False) is None


@streaming
@given(data=st.data())
def test_whatever_may_be_stored_can_be_replayed(wire: Wire, data: st.DataObject) -> None:
    answer = data.draw(damaged(ANSWERS[wire]))
    reason = wire.refuse(answer, store_tool_calls=True)
    assert reason is None or reason in REFUSALS
    if reason is None:
        events = list(wire.replay(answer, ASKED))
        assert wire.assemble(events) is not None


@streaming
def test_an_answer_nested_too_deeply_to_write_is_not_stored(wire: Wire) -> None:
    deep: Json = 1
    for _ in range(300):  # orjson reads some 1000 levels, and writes some 250
        deep = [deep]
    answers: dict[Wire, Json] = {
        CHAT: {
            "choices": [
                {"index": 0, "message": {"content": "a", "x": deep}, "finish_reason": "stop"}
            ]
        },
        COMPLETIONS: {
            "choices": [{"index": 0, "text": "a", "finish_reason": "stop", "x": deep}],
        },
        RESPONSES: {
            "status": "completed",
            "metadata": deep,
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "a"}]}],
        },
        MESSAGES: {
            "stop_reason": "end_turn",
            "content": [{"type": "text", "text": "a", "citations": deep}],
        },
    }
    assert wire.refuse(answers[wire], store_tool_calls=False) == "malformed"


@every_wire
def test_error_envelopes_are_never_stored(wire: Wire) -> None:
    errors: list[Json] = [{"message": "no"}, "no", {}, []]
    for error in errors:
        assert wire.refuse({"error": error}, store_tool_calls=True) == "error"
    anthropic = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    assert wire.refuse(anthropic, store_tool_calls=True) == "error"
    assert wire.refuse({"type": "error"}, store_tool_calls=True) == "error"
