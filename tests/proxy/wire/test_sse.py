"""Raw events: nothing is lost, wherever the network cuts."""

from __future__ import annotations

import itertools

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.sse import (
    DONE,
    BrokenStream,
    SseReader,
    data_of,
    encode,
    name_of,
    payloads,
    with_data,
)

ENDINGS = {"LF": b"\n", "CRLF": b"\r\n", "CR": b"\r"}


def cut(stream: bytes, chunks: list[bytes]) -> list[bytes]:
    reader = SseReader()
    events = [event for chunk in chunks for event in reader.feed(chunk)]
    assert b"".join(events) + reader.flush() == stream
    return events


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_every_line_ending_ends_events(ending: bytes) -> None:
    events = [
        b"event: a%bdata: 1%b%b" % (ending, ending, ending),
        b"data: 2%b%b" % (ending, ending),
    ]
    stream = b"".join(events)
    assert cut(stream, [stream]) == events


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_it_does_not_matter_where_the_stream_is_cut(ending: bytes) -> None:
    stream = ending.join(
        [b": hello", b"", b"event: x", b"data: {", b"data: }", b"", b"data: 2", b"", b""]
    )
    whole = cut(stream, [stream])
    assert len(whole) == 3
    assert cut(stream, [stream[i : i + 1] for i in range(len(stream))]) == whole
    for first, second in itertools.combinations(range(len(stream) + 1), 2):
        assert cut(stream, [stream[:first], stream[first:second], stream[second:]]) == whole


def test_an_empty_line_may_end_otherwise_than_the_line_before() -> None:
    for events in ([b"data: 1\n\r", b"data: 2\r\n\n"], [b"data: 1\r\r", b"\ndata: 2\n\r\n"]):
        assert cut(b"".join(events), [b"".join(events)]) == events
        assert [data_of(event) for event in events] == [b"1", b"2"]


@given(
    stream=st.lists(st.sampled_from([b"\n", b"\r", b"data: a", b":", b"\r\n", b"x"])).map(b"".join),
    cuts=st.lists(st.integers(0, 60)),
)
def test_odd_mixtures_of_endings_are_cut_alike_however_they_arrive(
    stream: bytes, cuts: list[int]
) -> None:
    at = sorted({min(c, len(stream)) for c in cuts})
    chunks = [stream[a:b] for a, b in itertools.pairwise([0, *at, len(stream)])]
    assert cut(stream, chunks) == cut(stream, [stream])


def test_an_event_is_given_out_as_soon_as_it_is_complete() -> None:
    reader = SseReader()
    assert reader.feed(b"data: 1\n") == []
    assert reader.feed(b"\ndata: 2") == [b"data: 1\n\n"]
    assert reader.feed(b"\n\n") == [b"data: 2\n\n"]


def test_what_has_no_end_is_kept_for_flush() -> None:
    reader = SseReader()
    assert reader.feed(b"data: 1\n\ndata: {") == [b"data: 1\n\n"]
    assert reader.flush() == b"data: {"
    assert reader.flush() == b""


def test_a_keep_alive_comment_is_an_event_without_data() -> None:
    [event] = SseReader().feed(b": ping\n\n")
    assert event == b": ping\n\n"
    assert data_of(event) == b""
    assert list(payloads([event, DONE])) == [None]


def test_an_endless_event_comes_out_in_pieces_that_no_one_takes_for_an_answer() -> None:
    reader = SseReader(max_event_bytes=64)
    stream = encode({"text": "x" * 500}) + DONE
    events = [event for i in range(0, len(stream), 10) for event in reader.feed(stream[i : i + 10])]
    assert b"".join(events) == stream
    assert max(map(len, events)) <= 64 + 10
    with pytest.raises(BrokenStream):
        list(payloads(events))


def test_many_small_chunks_of_a_large_event_do_not_cost_its_square() -> None:
    reader = SseReader()
    for _ in range(100_000):  # copying the rest each time would move 300 GB
        reader.feed(b"x" * 64)
    assert reader.feed(b"\n\n") == [b"x" * 6_400_000 + b"\n\n"]


@pytest.mark.parametrize(
    ("event", "data", "name"),
    [
        pytest.param(b"data: {}\n\n", b"{}", b"", id="plain"),
        pytest.param(b"data:{}\n\n", b"{}", b"", id="no space"),
        pytest.param(b"data:  x\n\n", b" x", b"", id="only one space goes"),
        pytest.param(b"event: ping\ndata: {}\n\n", b"{}", b"ping", id="named"),
        pytest.param(b"data: {}\nevent: late\n\n", b"{}", b"late", id="named after its data"),
        pytest.param(b"data: a\r\ndata: b\r\n\r\n", b"a\nb", b"", id="two lines of data"),
        pytest.param(b"data: a\rdata: b\r\r", b"a\nb", b"", id="two lines, CR only"),
        pytest.param(b"data: a\n\r\n", b"a", b"", id="mixed endings"),
        pytest.param(b": note\nid: 7\ndata: x\nretry: 5\n\n", b"x", b"", id="other fields"),
        pytest.param(b"\n\ndata: x\n\n", b"x", b"", id="blank lines before"),
        pytest.param(b"\xef\xbb\xbfdata: x\n\n", b"x", b"", id="a byte order mark before"),
        pytest.param(b"\xef\xbb\xbfevent: a\ndata: x\n\n", b"x", b"a", id="a mark and a name"),
        pytest.param(b"data\n\n", b"", b"", id="a field without a value"),
        pytest.param(b"database: 1\n\n", b"", b"", id="a longer field name"),
        pytest.param(b"event: message_stop\n\n", b"", b"message_stop", id="a name alone"),
        pytest.param(b"event: x: y\ndata: http://a\n\n", b"http://a", b"x: y", id="colons inside"),
    ],
)
def test_data_and_name_of_an_event(event: bytes, data: bytes, name: bytes) -> None:
    assert data_of(event) == data
    assert name_of(event) == name


@given(st.text(), st.sampled_from([None, "response.created"]))
def test_what_is_encoded_reads_back(text: str, name: str | None) -> None:
    event = encode({"text": text}, name)
    assert SseReader().feed(event) == [event]
    assert orjson.loads(data_of(event)) == {"text": text}
    assert name_of(event) == (name or "").encode()


def test_other_lines_survive_a_change_of_data() -> None:
    assert with_data(b"data: 1\n\n", 2) == b"data: 2\n\n"
    changed = with_data(b"id: 7\r\nevent: x\r\ndata: [1,\r\ndata: 2]\r\n\r\n", [3])
    assert changed == b"id: 7\nevent: x\ndata: [3]\n\n"
    assert SseReader().feed(changed) == [changed]
    assert with_data(b"\xef\xbb\xbfdata: 1\n\n", 2) == b"data: 2\n\n"


def test_payloads_are_the_objects_and_the_end() -> None:
    events = [
        b": hi\n\n",
        encode({"a": 1}),
        encode({"b": None}, "b"),
        b"data: [DONE] \n\n",
        b"\n\n",
    ]
    assert list(payloads(events)) == [{"a": 1}, {"b": None}, None]


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(b"data: {\n\n", id="half a JSON"),
        pytest.param(b"data: <html>\n\n", id="HTML"),
        pytest.param(b'data: "text"\n\n', id="no object"),
        pytest.param(b"data: [1]\n\n", id="a list"),
        pytest.param(b"data: \xff\xfe\n\n", id="not UTF-8"),
        pytest.param(b'data: {"error": {"message": "overloaded"}}\n\n', id="OpenAI's error"),
        pytest.param(b'data: {"error": "overloaded"}\n\n', id="an error as text"),
        pytest.param(b'event: error\ndata: {"message": "no"}\n\n', id="an event named error"),
        pytest.param(b'data: {"message": "no"}\nevent: error\n\n', id="named error afterwards"),
        pytest.param(b'data: {"type": "error", "code": null}\n\n', id="an event of type error"),
    ],
)
def test_a_stream_with_anything_else_is_broken(event: bytes) -> None:
    with pytest.raises(BrokenStream):
        list(payloads([encode({"a": 1}), event, DONE]))


def test_data_after_the_end_is_broken() -> None:
    with pytest.raises(BrokenStream):
        list(payloads([DONE, encode({"a": 1})]))
