"""Cutting texts for replay, and telling errors from answers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.answer import is_error, is_writable, pieces, read_exactly
from proxy.wire.base import Json
from tests.proxy.wire.strategies import prose


@given(st.text() | prose)
def test_pieces_join_to_the_text(text: str) -> None:
    cut = pieces(text)
    assert "".join(cut) == text
    assert all(0 < len(piece) <= 81 for piece in cut)


def test_words_stay_whole_where_they_fit() -> None:
    text = "sky " * 100
    assert all(piece.endswith(" ") for piece in pieces(text))
    assert pieces("a" * 200) == ["a" * 80, "a" * 80, "a" * 40]
    assert pieces("one\ntwo") == ["one\ntwo"]
    assert pieces("") == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param({"error": {"message": "no"}}, True, id="OpenAI's envelope"),
        pytest.param({"error": "no"}, True, id="a bare message"),
        pytest.param({"error": ""}, True, id="an empty message"),
        pytest.param({"type": "error"}, True, id="Anthropic's envelope"),
        pytest.param({"error": None, "id": "resp_1"}, False, id="an answer without error"),
        pytest.param({"type": "message"}, False, id="a message"),
        pytest.param({}, False, id="nothing"),
    ],
)
def test_errors_are_told_from_answers(answer: dict[str, Json], error: bool) -> None:
    assert is_error(answer) is error


def test_what_orjson_reads_but_does_not_write_is_not_writable() -> None:
    deep: Json = 1
    for _ in range(240):
        deep = [deep]
    assert is_writable({"x": deep})
    assert not is_writable({"x": [[[[[[[[[[[[deep]]]]]]]]]]]]})


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b'{"to": 18446744073709551615, "by": -9223372036854775808}', id="64 bits"),
        pytest.param(b'{"to": "123456789012345678901234"}', id="digits of a text"),
        pytest.param(b"[0.12345678901234567890, 1234567890123456789012.5, 1e22]", id="doubles"),
    ],
)
def test_what_is_kept_as_it_is_is_read(raw: bytes) -> None:
    assert read_exactly(raw) == json.loads(raw)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b'{"to": 123456789012345678901234}', id="an integer beyond 64 bits"),
        pytest.param(b'{"to":[-9223372036854775809]}', id="one below zero"),
        pytest.param(b"9" * 5000, id="one too long to be read at all"),
        pytest.param(b"[" * 1020 + b"1" * 30 + b"]" * 1020, id="one too deep"),
        pytest.param(b'{"to": ', id="no JSON"),
    ],
)
def test_what_would_be_rounded_is_not_read(raw: bytes) -> None:
    with pytest.raises(ValueError):
        read_exactly(raw)
